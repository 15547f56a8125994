"""What the predictions make of each system: its mean beside listeners', its bias, its place among the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from audiomos_cache.metrics import TARGETS, Points


@dataclass(frozen=True, slots=True)
class Placed:
    """One target of one system.

    Attributes:
        predicted, true: means of its clips, or listeners' score of the system where that was given.
        bias: predicted less true.
        rank: its place by `true`, 1 for the highest; equal ones share the mean of their places.
        predicted_rank: its place by `predicted`.
        rank_change: how many places higher the predictions put it than listeners do; negative: lower.
    """

    predicted: float
    true: float
    bias: float
    rank: float
    predicted_rank: float
    rank_change: float


@dataclass(frozen=True, slots=True)
class SystemLine:
    """One system: its name, how many clips it has, MI and TA."""

    system: str
    clips: int
    mi: Placed
    ta: Placed


def per_system(points: Mapping[str, Points], systems: Sequence[str]) -> list[SystemLine]:
    """Lay out every system, in the order of their names.

    Args:
        points: what `metrics.points_of` returns.
        systems: the system of each clip, as in the labels.
    """
    names = sorted(set(systems))
    clips = np.bincount(points["utt_mi"].system, minlength=len(names))
    placed = {target: _placed(points[f"sys_{target}"]) for target in TARGETS}
    rows = zip(names, clips.tolist(), placed["mi"], placed["ta"], strict=True)
    return [SystemLine(*row) for row in rows]


def _placed(points: Points) -> list[Placed]:
    rank, predicted_rank = (rankdata(-values) for values in (points.truth, points.predicted))
    columns = (
        points.predicted,
        points.truth,
        points.predicted - points.truth,
        rank,
        predicted_rank,
        rank - predicted_rank,
    )
    return [Placed(*map(float, row)) for row in zip(*columns, strict=True)]
