"""How far listeners may be from a score: 80 % intervals, calibrated on clips that the fusion was not fitted on.

`calibrate` finds how wide they must be, and `Calibration.interval` makes one."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.fusion.base import Blend, Members
from audiomos_cache.targets import HIGHEST, LOWEST, Floats, bin_centres

LEVEL = 0.8
FEW = 50  # clips: below, rounding up to a whole clip shows in the coverage
RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True, slots=True)
class Calibration:
    """How wide a target's intervals are.

    Attributes:
        factor: half an interval's width, in spreads.
        clips: that it was calibrated on.
        coverage: the share of these clips whose label an interval held that was calibrated without their fold.
        mean_width: of these intervals.
        coverage_ci: how far the coverage may be off, as the clips are few: its 95 % interval; None where they are all
            of one group.
    """

    factor: float
    clips: int
    coverage: float
    mean_width: float
    coverage_ci: tuple[float, float] | None = None

    def interval(self, score: float, spread: float) -> tuple[float, float]:
        """Return an interval around a score, within 1 to 5."""
        low, high = _bounds(np.array([score]), np.array([spread]), self.factor)
        return float(low[0]), float(high[0])


def calibrate(
    scores: Floats, spread: Floats, truth: Floats, fold: NDArray[np.intp], groups: Sequence[Hashable] | None = None
) -> Calibration | None:
    """Find how wide intervals must be to hold 80 % of the labels, and how many they hold of other clips.

    The factor is that quantile of |label - score| / spread which holds the next such clip's label with 80 %
    probability. It comes from all N clips; the coverage and the width are of each fold's clips, by the factor of the
    other folds. Out-of-fold scores are those of fusions that were fitted on fewer clips than the bundle's, which makes
    its intervals wider than they need to be, if anything. On few clips the factor is too large rather than too small,
    and so is the coverage: it is that of ceil(0.8 (n + 1)) of n clips.

    Args:
        scores: (N,) of clips that the fusion was not fitted on.
        spread: (N,) of the opinions on them, see `spreads`.
        truth: (N,) labels, from 1 to 5.
        fold: (N,) clips of a fold are held out together; from 0.
        groups: N, such as prompts: clips of a group are alike, and are in one fold; None: each clip is its own.
    Returns:
        None where no factor follows: of fewer than four clips, all or without a fold's, or where too many of them have
        no spread and miss their label.
    Source: Lei, G'Sell, Rinaldo, Tibshirani and Wasserman 2018, section 5.2 (locally weighted split conformal
        intervals).
    """
    factor = _factor(scores, spread, truth)
    if factor is None:
        return None
    held = np.zeros(len(scores), dtype=bool)
    width = np.zeros(len(scores))
    for number in np.unique(fold):
        inside, others = fold == number, fold != number
        without = _factor(scores[others], spread[others], truth[others])
        if without is None:
            return None
        low, high = _bounds(scores[inside], spread[inside], without)
        held[inside] = (low <= truth[inside]) & (truth[inside] <= high)
        width[inside] = high - low
    interval = _coverage_interval(held, range(len(held)) if groups is None else groups)
    return Calibration(factor, len(scores), float(held.mean()), float(width.mean()), interval)


def _coverage_interval(held: NDArray[np.bool_], groups: Sequence[Hashable]) -> tuple[float, float] | None:
    """Return the 95 % interval of the share of (N,) clips that are held, by resampling whole groups.

    Clips of a group are held or missed together, so that there is less to learn from them than from as many others.

    Source: Efron and Tibshirani 1993, chapter 13 (percentile intervals).
    """
    number = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    if len(number) < 2:
        return None
    group_of = np.array([number[group] for group in groups])
    sizes, hits = np.bincount(group_of), np.bincount(group_of, weights=held)
    random = np.random.default_rng(_SEED)
    drawn = (random.integers(len(number), size=len(number)) for _ in range(RESAMPLES))
    low, high = np.quantile([hits[some].sum() / sizes[some].sum() for some in drawn], (0.025, 0.975))
    return float(low), float(high)


def _factor(scores: Floats, spread: Floats, truth: Floats) -> float | None:
    """Return the ceil((n + 1) * 0.8)-th smallest residual in spreads; None where there are not so many, or it has none.

    A clip whose score is right counts as 0, also without a spread; without one, a score that is not right is infinitely
    many spreads off.
    """
    misses = abs(truth - scores)
    with np.errstate(divide="ignore", invalid="ignore"):
        residuals = np.sort(np.where(misses == 0, 0.0, misses / spread))
    rank = math.ceil(round(LEVEL * (len(residuals) + 1), 9))  # 0.8 is not quite 4 / 5
    if rank > len(residuals) or not np.isfinite(residuals[rank - 1]):
        return None
    return float(residuals[rank - 1])


def _bounds(scores: Floats, spread: Floats, factor: float) -> tuple[Floats, Floats]:
    """Return the (N,) lower and upper bounds of intervals around (N,) scores, within 1 to 5."""
    half = factor * spread
    return np.clip(scores - half, LOWEST, HIGHEST), np.clip(scores + half, LOWEST, HIGHEST)


def spreads(members: Members, fused: Blend, target: str) -> Floats:
    """Return how much the opinions on each clip differ that a fusion was made of.

    Args:
        members: predictions of N clips.
        fused: of the same clips.
        target: `mi` or `ta`.
    Returns:
        (N,) standard deviations of the fused distributions, or where the fusion has none, of the mean of those of the
        members that have one; so members that disagree count too. 1 where none has one.
    """
    own = fused.dists.get(target)
    dists = [own] if own is not None else [dist for dist in members.dists[target] if dist is not None]
    if not dists:
        return np.ones(members.clips)
    dist = np.mean(dists, axis=0)  # (N, bins)
    centres = bin_centres(dist.shape[1])
    mean = dist @ centres
    return np.asarray(np.sqrt((dist * (centres - mean[:, None]) ** 2).sum(axis=1)))
