"""Averages of the members: the mean, and the mean with the best weights."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from scipy.optimize import nnls

from audiomos_cache.fusion.base import (
    AssignFolds,
    Blend,
    FittedFusion,
    Fusion,
    Members,
    Truth,
    finite_array,
)
from audiomos_cache.registry import register
from audiomos_cache.targets import TARGETS, Floats


@register("fusion", "mean")
class MeanFusion(Fusion):
    """The mean of the members' scores, and of their distributions where all have one."""

    def blend(self, members: Members) -> Blend:
        """Average N clips' predictions over the members."""
        count = len(self.names)
        return weighted_mean(members, dict.fromkeys(TARGETS, np.full(count, 1 / count)))

    def to_json(self) -> dict[str, Any]:
        """Describe the mean: equal weights."""
        return {"weights": [1 / len(self.names)] * len(self.names)}

    @classmethod
    def from_json(cls, names: Sequence[str], content: dict[str, Any]) -> Self:
        """Make the fusion that `to_json` described."""
        finite_array(content["weights"], (len(names),))
        return cls(names)


def simplex(values: object, count: int) -> Floats:
    """Read `count` weights from plain values.

    Raises:
        ValueError, TypeError: another number of them, one below 0, or a sum that is not 1.
    """
    weights = finite_array(values, (count,))
    if weights.min() < 0 or abs(weights.sum() - 1) > 1e-6:
        raise ValueError(f"weights {weights.tolist()}, expected none below 0, and a sum of 1")
    return weights


def weighted_mean(members: Members, weights: dict[str, Floats]) -> Blend:
    """Average the predictions of M members with weights.

    Args:
        members: the predictions.
        weights: by target, (M,).
    Returns:
        The weighted means of the scores, and of the distributions of a target where all members have one.
    """
    dists = {}
    for target in TARGETS:
        known = [dist for dist in members.dists[target] if dist is not None]
        if len(known) == len(members.names):
            dists[target] = np.asarray(np.tensordot(weights[target], np.stack(known), axes=1))
    return Blend({target: np.asarray(weights[target] @ members.scores[target]) for target in TARGETS}, dists)


@register("fusion", "weighted")
class WeightedFusion(FittedFusion):
    """The mean with the weights of the least squared error on labelled clips, for MI and TA each.

    Source: Breiman 1996 (stacked regressions: weights that are not negative).

    Attributes:
        names: M.
        weights: by target, (M,), not negative, of sum 1.
    """

    def __init__(self, names: Sequence[str], weights: dict[str, Floats]) -> None:
        super().__init__(names)
        self.weights = weights

    @classmethod
    def fit(cls, members: Members, truth: Truth, folds: AssignFolds) -> Self:
        """Find the weights of both targets on labelled clips."""
        del folds
        return cls(members.names, {t: simplex_weights(members.scores[t], truth[t]) for t in TARGETS})

    def blend(self, members: Members) -> Blend:
        """Average N clips' scores with the weights, and their distributions where all members have one."""
        return weighted_mean(members, self.weights)

    def to_json(self) -> dict[str, Any]:
        """Return the weights by target."""
        return {"weights": {target: weights.tolist() for target, weights in self.weights.items()}}

    @classmethod
    def from_json(cls, names: Sequence[str], content: dict[str, Any]) -> Self:
        """Make the fusion that `to_json` described."""
        return cls(names, {target: simplex(content["weights"][target], len(names)) for target in TARGETS})


def simplex_weights(scores: Floats, truth: Floats) -> Floats:
    """Find the weights, none negative and of sum 1, whose mean of the scores has the least squared error.

    As the weights sum to 1, the error of the mean is the mean of the errors, so the answer is the point of the errors'
    convex hull that is nearest to zero. With t >= 0 and w of sum 1, |t E w|^2 + (t - 1)^2 is least, over t, at
    |E w|^2 / (1 + |E w|^2), which grows with |E w|: non-negative least squares of E and a row of ones finds t w.

    Args:
        scores: (M, N) of M members on N clips.
        truth: (N,).
    Returns:
        (M,). Of members with the same scores, the first has the weight.
    Source: Lawson and Hanson 1974, Solving Least Squares Problems (the solver, and the reduction).
    """
    errors = (scores - truth).T
    size = np.sqrt(np.mean(errors**2)) or 1.0
    system = np.vstack([errors / (size * np.sqrt(len(errors))), np.ones(len(scores))])
    scaled, _ = nnls(system, np.append(np.zeros(len(errors)), 1.0))
    return np.asarray(scaled / scaled.sum())
