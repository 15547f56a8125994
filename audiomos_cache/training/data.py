"""What heads are trained on, and the splits that they predict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiomos_cache.cache.reader import CacheReader, open_cache
from audiomos_cache.dataset.labels import read_ratings
from audiomos_cache.errors import DataError, first_five
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.training.clips import ClipSet
from audiomos_cache.training.frames import FrameSource
from audiomos_cache.training.pooled import PooledFrames, pools_first


@dataclass(frozen=True, slots=True)
class Lists:
    """What a user gives instead of, or besides, the labels in a cache.

    Attributes:
        train, dev: clips and labels to use instead of the splits.
        raters: lists of what each listener said of them.
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
    """The clips, and their frames, which are there once for all heads of a command.

    Attributes:
        frames, pooled: all frames, and what stands for them where a head pools them first; None where no head reads
            them.
    """

    clips: TrainingClips
    frames: FrameSource | None
    pooled: PooledFrames | None

    def frames_for(self, config: HeadConfig) -> FrameSource:
        """Return where a head's frames come from."""
        found = self.pooled if pools_first(config) else self.frames
        assert found is not None, "opened for other heads"
        return found


def open_clips(cache: Path, lists: Lists) -> TrainingClips:
    """Open a cache's clips, with the labels and ratings of lists where there are such.

    Raises:
        CacheError: no such cache or split. DataError: missing labels or ratings, or clips that would be trained on and
        validated on.
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
    """Take a list's clips where there is a list, or else a split's."""
    if listed:
        return ClipSet.of_list(readers, listed)
    return ClipSet.of_reader(readers[split]) if split in readers else ClipSet.of_split(cache, split)  # which refuses
