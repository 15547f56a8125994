"""The predictions that go into a fusion, read and joined by clip."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiomos_cache.errors import first_five
from audiomos_cache.evaluation.predictions import Predictions, read_predictions
from audiomos_cache.fusion.align import align, common_clips
from audiomos_cache.fusion.members import Member
from audiomos_cache.targets import HIGHEST, LOWEST

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitPredictions:
    """What all members say of one split.

    Attributes:
        split: `fit` or `apply`.
        names: the M members' files.
        members: M predictions of the same N clips.
        dropped: ids of clips that were left out, because not all members have them.
    """

    split: str
    names: tuple[str, ...]
    members: tuple[Predictions, ...]
    dropped: tuple[str, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """The N clips."""
        return self.members[0].ids


def read_split(
    members: Sequence[Member], split: str, *, allow_missing: bool, wanted: Sequence[str] = ()
) -> SplitPredictions:
    """Read all members' predictions of a split.

    Args:
        members: M.
        split: `fit` or `apply`.
        allow_missing: leave out, with a warning, the clips that not all members have.
        wanted: the clips that they should have, where that is known.
    Raises:
        DataError: a file that is not predictions, members that do not hold the same clips or have other bins.
    """
    paths = [path for member in members if (path := member.fit if split == "fit" else member.apply)]
    names = tuple(map(str, paths))
    read = [read_predictions(path) for path in paths]
    dropped: list[str] = []
    if allow_missing:
        read, dropped = common_clips(read, wanted)
    if dropped:
        clips = first_five(dropped)
        log.warning("%s split: %d clips left out, because not all members have them: %s", split, len(dropped), clips)
    align(read, names)
    _count_outside(read, names)
    return SplitPredictions(split, names, tuple(read), tuple(dropped))


def _count_outside(members: Sequence[Predictions], names: Sequence[str]) -> None:
    """Warn of scores that leave the scale."""
    for member, name in zip(members, names, strict=True):
        scores = np.concatenate([member.mi, member.ta])
        if outside := np.count_nonzero((scores < LOWEST) | (scores > HIGHEST)):
            log.warning("%s: %d of %d scores lie outside 1..5", name, outside, scores.size)
