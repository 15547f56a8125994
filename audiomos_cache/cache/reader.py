"""Reading a split of a cache, whether it is one file or several."""

from bisect import bisect_right
from functools import cached_property
from itertools import accumulate
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.format import CachedClip, CachedPrompt
from audiomos_cache.cache.paths import split_files, split_names
from audiomos_cache.errors import CacheError, quoted


class CacheReader:
    """The clips of one split: their labels as arrays, their features read on demand and hash-checked.

    Attributes:
        files: the split's files, in order.

    Raises:
        CacheError: the cache or split does not exist, the split is incomplete, or a file is damaged.
    """

    def __init__(self, cache: str | PathLike[str], split: str) -> None:
        cache = Path(cache)
        paths = split_files(cache, split)
        if not paths:
            known = ", ".join(split_names(cache)) or "none"
            raise CacheError(
                f"{cache}: split {quoted(split)} not found; splits: {known}; run extract with --split {split} first"
            )
        self.cache, self.split = cache, split
        self.files = [CacheFile(path, keep_open=True) for path in paths]
        self._refuse_incomplete()
        self._starts = list(accumulate(map(len, self.files), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def fingerprint(self) -> Fingerprint:
        """What decided the features."""
        return self.files[0].header.fingerprint

    @property
    def audio_dim(self) -> int:
        """Width of a frame."""
        return self.files[0].header.audio_dim

    @property
    def text_dim(self) -> int:
        """Width of a token."""
        return self.files[0].header.text_dim

    @property
    def layers(self) -> tuple[int, ...]:
        """The stored hidden layers of the audio encoder, ascending."""
        return self.files[0].header.layers

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the encoders came from."""
        return dict(self.files[0].header.provenance)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored features."""
        return self.files[0].header.dtype

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Clips that the extraction left out, with the reason."""
        return self.files[0].header.skipped

    @cached_property
    def mi(self) -> NDArray[np.float64]:
        """MI of each clip, (clips,), NaN where there is no label."""
        return self._column("clips/mi")

    @cached_property
    def ta(self) -> NDArray[np.float64]:
        """TA of each clip, (clips,), NaN where there is no label."""
        return self._column("clips/ta")

    @cached_property
    def valid_frames(self) -> NDArray[np.int32]:
        """How many frames of each clip come from audio, (clips,)."""
        return self._column("audio/valid_frames")

    @cached_property
    def frames(self) -> NDArray[np.int64]:
        """How many frames of each clip are stored, (clips,)."""
        return np.concatenate([np.diff(file.column("audio/offsets")) for file in self.files])

    @cached_property
    def ids(self) -> list[str]:
        """Ids of the clips.

        Raises:
            CacheError: two of the split's files have the same id.
        """
        ids = [clip_id for file in self.files for clip_id in file.ids]
        if len(set(ids)) < len(ids):
            raise CacheError(
                f"{self.cache}: split {quoted(self.split)} has a clip in two of its files; extract it again"
            )
        return ids

    @cached_property
    def systems(self) -> list[str]:
        """System of each clip."""
        return [system for file in self.files for system in file.systems]

    def clip(self, index: int) -> CachedClip:
        """Return all that the cache contains about a clip, features aside."""
        file, local = self._locate(index)
        return file.clip(local)

    def prompt(self, index: int) -> str:
        """Return the prompt of a clip."""
        file, local = self._locate(index)
        return file.prompts[file.prompt_row(local)]

    def read_frames(
        self, index: int, out: NDArray[Any] | None = None, *, layer: int | None = None, padding: bool = False
    ) -> NDArray[Any]:
        """Read a clip's frames of one layer into `out`; see `CacheFile.read_frames`."""
        file, local = self._locate(index)
        return file.read_frames(local, out, layer=layer, padding=padding)

    def read_prompt(self, index: int) -> CachedPrompt:
        """Read the prompt features of a clip; see `CacheFile.read_prompt`."""
        file, local = self._locate(index)
        return file.read_prompt(file.prompt_row(local))

    @property
    def split_hash(self) -> str:
        """Hash of all clips of the split, in order."""
        return self.files[0].header.split_hash

    def _locate(self, index: int) -> tuple[CacheFile, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        which = bisect_right(self._starts, index) - 1
        return self.files[which], index - self._starts[which]

    def _column(self, name: str) -> NDArray[Any]:
        columns = [file.column(name) for file in self.files]
        return columns[0] if len(columns) == 1 else np.concatenate(columns)

    def _refuse_incomplete(self) -> None:
        expected = self.files[0].header.file_count
        indices = [file.header.file_index for file in self.files]
        whole = len(indices) == expected and all(file.header.complete for file in self.files)
        if not whole or indices != list(range(len(indices))):
            raise CacheError(
                f"{self.cache}: split {quoted(self.split)} has files {indices} of {expected}; "
                "a file is missing or was renamed; run extract again for this split"
            )
        for file in self.files:
            if file.header.split != self.split:
                raise CacheError(
                    f"{file.path}: holds split {quoted(file.header.split)}, not {quoted(self.split)}; rename it back"
                )
            file.header.fingerprint.require(self.fingerprint, str(file.path), "the files belong to different caches")
            if file.header.split_hash != self.files[0].header.split_hash:
                raise CacheError(
                    f"{file.path}: belongs to another extraction of split {quoted(self.split)}; extract it again"
                )


def open_cache(cache: str | PathLike[str]) -> dict[str, CacheReader]:
    """Open every finished split of a cache.

    Raises:
        CacheError: the folder holds none, a damaged file, or splits of different fingerprints.
    """
    cache = Path(cache)
    readers = {name: CacheReader(cache, name) for name in split_names(cache)}
    if not readers:
        raise CacheError(f"{cache}: no finished split in it; run extract first")
    first = next(iter(readers.values()))
    for name, reader in readers.items():
        reader.fingerprint.require(first.fingerprint, f"{cache}, split {name}", "extract both again")
    return readers
