"""The mean of the members, and what means with weights of their own have in common with it."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from audiomos_cache.evaluation.metrics import TARGETS, Floats
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.fusion.align import align
from audiomos_cache.fusion.base import finite_array, stacked_scores


class MeanFusion:
    """The mean of the members' scores, and of their distributions where all have one."""

    method: ClassVar[str] = "mean"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def apply(self, members: Sequence[Predictions]) -> Predictions:
        """Average N clips' predictions over the members."""
        align(members, self.names)
        equal = np.full(len(members), 1 / len(members))
        return blend(members, dict.fromkeys(TARGETS, equal))

    def to_json(self) -> dict[str, Any]:
        """Describe the mean: equal weights."""
        return {"weights": [1 / len(self.names)] * len(self.names)}

    @classmethod
    def from_json(cls, names: Sequence[str], content: dict[str, Any]) -> Self:
        """Make it of what `to_json` returned."""
        finite_array(content["weights"], (len(names),))
        return cls(names)


def simplex(values: object, count: int) -> Floats:
    """Read so many weights from plain values.

    Raises:
        ValueError, TypeError: another number of them, one below 0, or a sum that is not 1.
    """
    weights = finite_array(values, (count,))
    if weights.min() < 0 or abs(weights.sum() - 1) > 1e-6:
        raise ValueError(f"weights {weights.tolist()}, expected none below 0, and a sum of 1")
    return weights


def blend(members: Sequence[Predictions], weights: dict[str, Floats]) -> Predictions:
    """Average predictions with weights.

    Args:
        members: M, of the same N clips, with distributions on the same bins where they have any.
        weights: by target, (M,).
    Returns:
        The weighted means of the scores, and of the distributions of a target where all members have one.
    """
    scores = {target: weights[target] @ stacked_scores(members, target) for target in TARGETS}
    dists = {target: _blended_dists(members, target, weights[target]) for target in TARGETS}
    return Predictions.build(members[0].ids, scores["mi"], scores["ta"], dists["mi"], dists["ta"])


def _blended_dists(members: Sequence[Predictions], target: str, weights: Floats) -> Floats | None:
    dists = [getattr(member, f"{target}_dist") for member in members]
    if any(dist is None for dist in dists):
        return None
    return np.asarray(np.tensordot(weights, np.stack(dists), axes=1))
