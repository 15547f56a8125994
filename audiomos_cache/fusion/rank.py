"""The mean of the members' ranks."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from scipy.stats import rankdata

from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.fusion.align import align
from audiomos_cache.fusion.base import stacked_scores
from audiomos_cache.targets import HIGHEST, LOWEST, Floats

log = logging.getLogger(__name__)


class RankFusion:
    """The mean of each clip's ranks by the members: for correlation only, as the scale of the scores is lost.

    A clip's score depends on which other clips are there.
    """

    method: ClassVar[str] = "rank"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def apply(self, members: Sequence[Predictions]) -> Predictions:
        """Rank N clips, and spread the ranks over 1..5; says that the scale is lost."""
        ids = align(members, self.names)
        log.warning(
            "rank: these are ranks spread evenly over 1..5, not opinion scores: the scale is lost, so LCC says little "
            "and MSE nothing; a clip's score depends on the other clips"
        )
        return Predictions.build(ids, *(mean_ranks(stacked_scores(members, target)) for target in ("mi", "ta")))

    def to_json(self) -> dict[str, Any]:
        """Describe the mean: equal weights of ranks."""
        return {"weights": [1 / len(self.names)] * len(self.names)}

    @classmethod
    def from_json(cls, names: Sequence[str], content: dict[str, Any]) -> Self:
        """Make it of what `to_json` returned."""
        del content
        return cls(names)


def mean_ranks(scores: Floats) -> Floats:
    """Average the ranks that members give to clips, and spread them over 1..5.

    Args:
        scores: (M, N) of M members on N clips; equal ones share their mean rank.
    Returns:
        (N,): 1 for a clip that all rank lowest, 5 for one that all rank highest; 3 for a clip that is alone.
    """
    clips = scores.shape[1]
    if clips == 1:
        return np.full(1, (LOWEST + HIGHEST) / 2)
    ranks = rankdata(scores, axis=1).mean(axis=0)
    return np.asarray(LOWEST + (HIGHEST - LOWEST) * (ranks - 1) / (clips - 1))
