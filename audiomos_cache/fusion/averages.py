"""Averages of the members: the plain mean, and the mean with the best weights."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import nnls

from audiomos_cache.dataset.labels import Labels
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.fusion.align import align, align_labels
from audiomos_cache.fusion.base import finite_array, stacked_scores
from audiomos_cache.fusion.folds import Folds
from audiomos_cache.targets import TARGETS, Floats


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


class WeightedFusion:
    """The mean with the weights of the least squared error on labelled clips, for MI and TA each.

    Source: Breiman 1996 (stacked regressions: weights that are not negative).

    Attributes:
        names: M.
        weights: by target, (M,), not negative, of sum 1.
    """

    method: ClassVar[str] = "weighted"

    def __init__(self, names: Sequence[str], weights: dict[str, Floats]) -> None:
        self.names, self.weights = tuple(names), weights

    @classmethod
    def fit(cls, names: Sequence[str], members: Sequence[Predictions], labels: Labels, folds: Folds) -> Self:
        """Find the weights of both targets on the clips of `labels`."""
        del folds
        truth = align_labels(labels, align(members, names), names[0])
        return cls(
            names,
            {target: simplex_weights(stacked_scores(members, target), getattr(truth, target)) for target in TARGETS},
        )

    def apply(self, members: Sequence[Predictions]) -> Predictions:
        """Average N clips' scores with the weights, and their distributions where all members have one."""
        align(members, self.names)
        return blend(members, self.weights)

    def to_json(self) -> dict[str, Any]:
        """Return the weights by target."""
        return {"weights": {target: weights.tolist() for target, weights in self.weights.items()}}

    @classmethod
    def from_json(cls, names: Sequence[str], content: dict[str, Any]) -> Self:
        """Make it of what `to_json` returned."""
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
        (M,). Where members are alike, the first has the weight.
    Source: Lawson and Hanson 1974, Solving Least Squares Problems (the solver, and the reduction).
    """
    errors = (scores - truth).T
    size = np.sqrt(np.mean(errors**2)) or 1.0
    system = np.vstack([errors / (size * np.sqrt(len(errors))), np.ones(len(scores))])
    scaled, _ = nnls(system, np.append(np.zeros(len(errors)), 1.0))
    return np.asarray(scaled / scaled.sum())
