"""Forward selection of members."""

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.dataset import Labels
from audiomos_cache.fusion.align import align, align_labels
from audiomos_cache.fusion.base import TARGETS, Floats, scores_of
from audiomos_cache.fusion.folds import Folds
from audiomos_cache.fusion.mean import WeightedMean
from audiomos_cache.predictions import Predictions

MAX_STEPS = 100


class GreedyFusion(WeightedMean):
    """The mean of members taken one after the other, for MI and TA each.

    Each step takes the member, one taken before or not, that lowers the squared error of the mean most. How many steps
    there are is chosen by cross-validation on the same clips. Where the members' scores spread more than what can be
    known of the listeners' does, even a member of mere noise around the mean may be taken: it shrinks the spread.

    Source: Caruana et al. 2004, Ensemble selection from libraries of models (selection with replacement).
    """

    method: ClassVar[str] = "greedy"

    @classmethod
    def fit(cls, names: Sequence[str], members: Sequence[Predictions], labels: Labels, folds: Folds) -> Self:
        """Choose the number of steps on `folds`, and take as many on all clips of `labels`."""
        truth = align_labels(labels, align(members, names), names[0])
        fold = folds.assign(truth.ids)
        return cls(
            names,
            {target: greedy_weights(scores_of(members, target), getattr(truth, target), fold) for target in TARGETS},
        )


def greedy_weights(scores: Floats, truth: Floats, fold: NDArray[np.intp]) -> Floats:
    """Choose how often each member is taken.

    Args:
        scores: (M, N) of M members on N clips.
        truth: (N,).
        fold: (N,) the fold of each clip, from 0.
    Returns:
        (M,) the share of the steps in which each was taken, of sum 1.
    """
    errors = scores - truth
    counts = greedy_path(errors, MAX_STEPS)[choose_steps(errors, fold, MAX_STEPS) - 1]
    return np.asarray(counts / counts.sum())


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


def choose_steps(errors: Floats, fold: NDArray[np.intp], steps: int) -> int:
    """Choose the number of steps by cross-validation.

    It is the smallest that does not do worse on held-out clips than the best one by more than a standard error of their
    difference: members that add nothing but chance stay out, and those that help do not.

    Args:
        errors: (M, N) of M members on N clips.
        fold: (N,) the fold of each clip, from 0.
        steps: the most to choose from.
    Returns:
        1 to `steps`.
    Source: Breiman et al. 1984 (the rule of one standard error), here of the paired difference.
    """
    squared = np.empty((steps, errors.shape[1]))
    sizes = np.arange(1, steps + 1)[:, None]
    for number in range(fold.max() + 1):
        held = fold == number
        weights = greedy_path(errors[:, ~held], steps) / sizes
        squared[:, held] = (weights @ errors[:, held]) ** 2
    worse = squared - squared[squared.mean(axis=1).argmin()]  # (steps, N)
    standard_error = worse.std(axis=1, ddof=1) / np.sqrt(worse.shape[1])
    return int(np.flatnonzero(worse.mean(axis=1) <= standard_error)[0]) + 1
