"""Forward selection of members."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.fusion.averages import simplex, weighted_mean
from audiomos_cache.fusion.base import AssignFolds, Blend, FittedFusion, Members, Truth, finite_array
from audiomos_cache.fusion.stacking import SCORE_SIGMA
from audiomos_cache.registry import register
from audiomos_cache.targets import HIGHEST, LOWEST, TARGETS, Floats, gaussian_distribution

MAX_STEPS = 100


@register("fusion", "greedy")
class GreedyFusion(FittedFusion):
    """The mean of members taken one after the other, for MI and TA each.

    Each step takes the member, one taken before or not, that lowers the squared error of the mean most. How many steps
    there are is chosen by cross-validation on the same clips. Besides the members there is a constant, the mean of the
    labels: where the members' scores spread more than what can be known of the listeners' does, it shrinks the spread,
    which else a member of mere noise around the mean would be taken for.

    In simulations of 412 clips, three good and 40 random members (tests/fusion/test_greedy.py), the random ones had up
    to 0.15 of the weight without the constant, and have at most 0.02 with it, none of them more than a good one. Of 60
    clips, where the best of 40 random members fits by chance, they have up to 0.23, and some has more than a good one
    in up to 9 of 50 studies.

    Source: Caruana et al. 2004, Ensemble selection from libraries of models (selection with replacement).

    Attributes:
        names: M.
        weights: by target, (M + 1,), not negative, of sum 1; the last is the constant's.
        constants: the mean of the labels by target.
    """

    needs_folds = True

    def __init__(self, names: Sequence[str], weights: dict[str, Floats], constants: dict[str, float]) -> None:
        super().__init__(names)
        self.weights, self.constants = weights, constants

    @classmethod
    def fit(cls, members: Members, truth: Truth, folds: AssignFolds) -> Self:
        """Choose the number of steps by cross-validation, and take as many on all clips."""
        fold = folds()
        weights = {target: greedy_weights(members.scores[target], truth[target], fold) for target in TARGETS}
        return cls(members.names, weights, {target: float(truth[target].mean()) for target in TARGETS})

    def blend(self, members: Members) -> Blend:
        """Average N clips' scores with the weights, and their distributions where all members have one."""
        return weighted_mean(self._with_constant(members), self.weights)

    def _with_constant(self, members: Members) -> Members:
        """Add a member that predicts the constants for every clip, with a gaussian around each as in stacking."""
        scores, dists = {}, {}
        for target in TARGETS:
            constant = np.full(members.clips, self.constants[target])
            bins = members.bins(target)
            scores[target] = np.vstack([members.scores[target], constant])
            dist = None if bins is None else gaussian_distribution(constant, bins, SCORE_SIGMA)
            dists[target] = [*members.dists[target], dist]
        return Members((*members.names, "the mean of the labels"), scores, dists)

    def to_json(self) -> dict[str, Any]:
        """Return the members' weights by target, and the constant with its own weight: 1 less their sum."""
        return {
            "weights": {target: weights[:-1].tolist() for target, weights in self.weights.items()},
            "constant": {
                target: {"score": self.constants[target], "weight": float(weights[-1])}
                for target, weights in self.weights.items()
            },
        }

    @classmethod
    def from_json(cls, names: Sequence[str], content: dict[str, Any]) -> Self:
        """Make the fusion that `to_json` described."""
        constant = {target: content["constant"][target] for target in TARGETS}
        weights = {
            target: simplex([*content["weights"][target], constant[target]["weight"]], len(names) + 1)
            for target in TARGETS
        }
        constants = {target: float(finite_array(constant[target]["score"], ())) for target in TARGETS}
        if outside := [score for score in constants.values() if not LOWEST <= score <= HIGHEST]:
            raise ValueError(f"a constant of {outside[0]}, expected 1 to 5")
        return cls(names, weights, constants)


def greedy_weights(scores: Floats, truth: Floats, fold: NDArray[np.intp]) -> Floats:
    """Choose how often each member, and the mean of the labels, is taken.

    Args:
        scores: (M, N) of M members on N clips.
        truth: (N,).
        fold: (N,) the fold of each clip, from 0.
    Returns:
        (M + 1,) the share of the steps in which each was taken, the mean of the labels last; of sum 1.
    """
    steps = choose_steps(scores, truth, fold, MAX_STEPS)
    counts = greedy_path(_errors(scores, truth, truth.mean()), steps)[-1]
    return np.asarray(counts / counts.sum())


def _errors(scores: Floats, truth: Floats, constant: float) -> Floats:
    """Return the errors of the members and, last, of a constant: (M + 1, N)."""
    return np.vstack([scores, np.full(len(truth), constant)]) - truth


def greedy_path(errors: Floats, steps: int) -> NDArray[np.int64]:
    """Take members one after the other, each time that after which the mean has the least squared error.

    Args:
        errors: (M, N) of M members on N clips.
        steps: how many to take.
    Returns:
        (steps, M) how often each was taken after each step. Of members that do as well, the first is taken.
    """
    products = errors @ errors.T / errors.shape[1]
    alone = np.diag(products)
    counts = np.zeros(len(errors), dtype=np.int64)
    with_taken = np.zeros(len(errors))  # products @ counts
    path = []
    for _ in range(steps):
        # The mean squared error with each candidate, times step^2, less what is the same for all.
        after = alone + 2 * with_taken
        best = int((after <= after.min() + 1e-12 * abs(after).max()).argmax())  # rounding never decides
        counts[best] += 1
        with_taken += products[best]
        path.append(counts.copy())
    return np.array(path)


def choose_steps(scores: Floats, truth: Floats, fold: NDArray[np.intp], steps: int) -> int:
    """Choose the number of steps by cross-validation.

    It is the smallest that does not do worse on held-out clips than the best one by more than a standard error of their
    difference: members that add nothing but chance stay out, and those that help do not.

    Args:
        scores: (M, N) of M members on N clips.
        truth: (N,).
        fold: (N,) the fold of each clip, from 0.
        steps: the most to choose from.
    Returns:
        1 to `steps`.
    Source: Breiman et al. 1984 (the rule of one standard error), here of the paired difference.
    """
    squared = np.empty((steps, len(truth)))
    sizes = np.arange(1, steps + 1)[:, None]
    for number in range(fold.max() + 1):
        held = fold == number
        errors = _errors(scores, truth, truth[~held].mean())
        weights = greedy_path(errors[:, ~held], steps) / sizes
        squared[:, held] = (weights @ errors[:, held]) ** 2
    worse = squared - squared[squared.mean(axis=1).argmin()]  # (steps, N)
    standard_error = worse.std(axis=1, ddof=1) / np.sqrt(worse.shape[1])
    return int(np.flatnonzero(worse.mean(axis=1) <= standard_error)[0]) + 1
