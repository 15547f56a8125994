"""The data of a training: clips of a cache with their labels, and the splits to predict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.artifacts import Fingerprint, hash_bytes
from audiomos_cache.cache.reader import CacheReader, open_cache
from audiomos_cache.dataset.labels import Labels, Ratings, read_labels, read_ratings
from audiomos_cache.errors import DataError, first_five
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.training.frame_sources import FrameSource
from audiomos_cache.training.preload import PooledFrames, pools_first


@dataclass(frozen=True)
class ClipSet:
    """Clips of one cache, in a fixed order.

    Attributes:
        name: the split's, or the list's.
        entries: (reader, index in it) of each clip.
        ids, systems: of each clip.
        mi, ta: (N,) float64 labels, NaN for a missing one.
        ratings: each listener's ratings of them, in the same order, if known.
    """

    name: str
    entries: Sequence[tuple[CacheReader, int]]
    ids: tuple[str, ...]
    systems: tuple[str, ...]
    mi: NDArray[np.float64]
    ta: NDArray[np.float64]
    ratings: Ratings | None = None

    def __post_init__(self) -> None:
        assert self.ratings is None or self.ratings.ids == self.ids, "a clip's ratings are in its row"

    @classmethod
    def of_split(cls, cache: Path, split: str) -> "ClipSet":
        """Take all clips of a split, with the labels in the cache.

        Raises:
            CacheError: the cache or the split does not exist.
        """
        return cls.of_reader(CacheReader(cache, split))

    @classmethod
    def of_reader(cls, reader: CacheReader) -> "ClipSet":
        """Take all clips that a reader has, with the labels in the cache."""
        entries = [(reader, index) for index in range(len(reader))]
        return cls(reader.split, entries, tuple(reader.ids), tuple(reader.systems), reader.mi, reader.ta)

    @classmethod
    def of_list(cls, readers: Mapping[str, CacheReader], path: Path) -> "ClipSet":
        """Take the clips that a list names, from any split of a cache, with the list's labels.

        Raises:
            DataError: the list is not valid, or names clips that the cache does not have.
        """
        labels = read_labels(path)
        known = {clip_id: (reader, i) for reader in readers.values() for i, clip_id in enumerate(reader.ids)}
        unknown = [clip_id for clip_id in labels.ids if clip_id not in known]
        if unknown:
            cache = next(iter(readers.values())).cache
            raise DataError(f"{path}: {cache} has no features of {first_five(unknown)}; extract them first")
        entries = [known[clip_id] for clip_id in labels.ids]
        systems = tuple(reader.systems[index] for reader, index in entries)
        return cls(str(path), entries, labels.ids, systems, labels.mi, labels.ta)

    def __len__(self) -> int:
        return len(self.ids)

    def by_id(self) -> "ClipSet":
        """Return the same clips in the order of their ids."""
        order = sorted(range(len(self)), key=self.ids.__getitem__)
        ids = tuple(self.ids[i] for i in order)
        return replace(
            self,
            entries=[self.entries[i] for i in order],
            ids=ids,
            systems=tuple(self.systems[i] for i in order),
            mi=self.mi[order],
            ta=self.ta[order],
            ratings=self.ratings and self.ratings.of(ids),
        )

    @property
    def labelled(self) -> bool:
        """Whether every clip has both labels."""
        return bool(np.isfinite(self.mi).all() and np.isfinite(self.ta).all())

    @property
    def labels(self) -> Labels:
        """The labels, to evaluate predictions against."""
        return Labels(self.ids, self.systems, self.mi, self.ta)

    @property
    def first_reader(self) -> CacheReader:
        """A reader of the cache, for what all its splits share: fingerprint, dims, provenance."""
        return self.entries[0][0]

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the features."""
        return self.first_reader.fingerprint

    def labels_hash(self) -> str:
        """Hash ids and labels: 32 hex digits of xxh3_128."""
        rows: list[tuple[Any, ...]] = sorted(zip(self.ids, self.mi.tolist(), self.ta.tolist(), strict=True))
        return hash_bytes(repr(rows).encode())

    def with_ratings(self, ratings: Ratings) -> "ClipSet":
        """Return the same clips with the listeners' ratings.

        Raises:
            DataError: a clip has no ratings; names it.
        """
        return replace(self, ratings=ratings.of(self.ids))

    def ratings_hash(self) -> str:
        """Hash ids and ratings, whoever gave them and in whatever order: 32 hex digits of xxh3_128."""
        assert self.ratings is not None, "only where there are ratings"
        both = np.stack([self.ratings.mi, self.ratings.ta], axis=2).tolist()  # (N, R, 2)
        rows = sorted(
            (clip_id, sorted((mi, ta) for mi, ta in pairs if not math.isnan(mi)))
            for clip_id, pairs in zip(self.ids, both, strict=True)
        )
        return hash_bytes(repr(rows).encode())

    def require_labels(self) -> None:
        """Raise DataError naming the clips without labels, if there are any."""
        missing = [i for i, mi, ta in zip(self.ids, self.mi, self.ta, strict=True) if not np.isfinite([mi, ta]).all()]
        if missing:
            raise DataError(
                f"{self.name}: clips without labels: {first_five(missing)}; training needs MI and TA of each; "
                "give a list with --train-list or --dev-list"
            )


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists that a user gives instead of, or besides, the labels in a cache.

    Attributes:
        train, dev: clips and labels to use instead of the splits.
        raters: lists of each listener's ratings.
    """

    train: Path | None = None
    dev: Path | None = None
    raters: Sequence[Path] = ()


NO_LISTS = Lists()


@dataclass(frozen=True, slots=True)
class TrainingClips:
    """Labelled clips to train on and to choose checkpoints by, and all splits of their cache."""

    train: ClipSet
    dev: ClipSet
    splits: Sequence[ClipSet]

    @property
    def reader(self) -> CacheReader:
        """A reader of the cache, for what all its splits share."""
        return self.train.first_reader


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The clips, and their frames, which are read once for all heads of a command.

    Attributes:
        frames, pooled: all frames, and those of heads that pool first; None if no head reads them.
    """

    clips: TrainingClips
    frames: FrameSource | None
    pooled: PooledFrames | None

    def frames_for(self, config: HeadConfig) -> FrameSource:
        """Return the source of a head's frames."""
        found = self.pooled if pools_first(config) else self.frames
        assert found is not None, "opened for other heads"
        return found


def open_clips(cache: Path, lists: Lists) -> TrainingClips:
    """Open a cache's clips, with the labels and ratings of lists, if given.

    Raises:
        CacheError: the cache or a split does not exist. DataError: missing labels or ratings, or clips both to train on
        and to choose checkpoints by.
    """
    readers = open_cache(cache)
    train, dev = _clips(readers, cache, "train", lists.train), _clips(readers, cache, "dev", lists.dev)
    for clips in (train, dev):
        clips.require_labels()
    if both := sorted(set(train.ids) & set(dev.ids)):
        raise DataError(f"clips both in {train.name} and {dev.name}: {first_five(both)}; remove them from one")
    if lists.raters:
        ratings = read_ratings(*lists.raters)
        train, dev = train.with_ratings(ratings), dev.with_ratings(ratings)
    return TrainingClips(train, dev, [ClipSet.of_reader(reader) for reader in readers.values()])


def _clips(readers: Mapping[str, CacheReader], cache: Path, split: str, listed: Path | None) -> ClipSet:
    """Take the clips of a list, or without one those of a split."""
    if listed:
        return ClipSet.of_list(readers, listed)
    return ClipSet.of_reader(readers[split]) if split in readers else ClipSet.of_split(cache, split)  # which raises
