"""A cache as one object: its splits, and what all of them have in common."""

from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.cache.maintenance import describe_cache
from audiomos_cache.cache.reader import CacheReader, open_cache
from audiomos_cache.errors import CacheError, quoted


class Cache:
    """The features of a dataset that `extract` has stored, by split.

    Args:
        path: the cache folder, with one finished split or more.
    Attributes:
        path: the cache folder.
    Raises:
        CacheError: the folder has no finished split, a damaged file, or splits of different fingerprints.

    >>> cache = Cache("cache/tiny")
    >>> cache.splits, len(cache), cache.layers
    (('dev', 'eval', 'train'), 32, (2,))
    >>> reader = cache.reader("dev")
    >>> reader.read_frames(0).shape, reader.read_prompt(0).tokens.shape[1]  # (T, audio width); the text's width
    ((18, 128), 64)
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._readers = open_cache(self.path)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the finished splits, sorted."""
        return tuple(self._readers)

    def __len__(self) -> int:
        return sum(map(len, self._readers.values()))

    def reader(self, split: str) -> CacheReader:
        """Return the clips of one split: ids, systems, labels as arrays, and features read on demand.

        Raises:
            CacheError: the split does not exist.
        """
        if split not in self._readers:
            raise CacheError(f"{self.path}: split {quoted(split)} not found; splits: {', '.join(self.splits)}")
        return self._readers[split]

    @property
    def fingerprint(self) -> Fingerprint:
        """What decides the features: encoders, layers, length, resampler, type."""
        return next(iter(self._readers.values())).fingerprint

    @property
    def layers(self) -> tuple[int, ...]:
        """The kept hidden layers of the audio encoder, ascending."""
        return next(iter(self._readers.values())).layers

    @cached_property
    def description(self) -> dict[str, Any]:
        """Counts, hours, bytes, files and skipped clips of each split, finished or not."""
        return describe_cache(self.path)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(reader)}" for name, reader in self._readers.items())
        return f"Cache({quoted(str(self.path))}): {counts} clips, fingerprint {self.fingerprint.digest}"

    def to_dict(self) -> dict[str, Any]:
        """Return the description."""
        return self.description
