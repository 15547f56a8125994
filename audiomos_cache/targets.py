"""The two scores (MI and TA), their bounds, and labels as training targets of a head: distributions or ordinal levels.

Scores are on the 1 to 5 scale. All functions take (N,) mean opinion scores, or (N, R) ratings where documented, and
compute in float64. Nothing heavier than NumPy is imported here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

NARROWEST_SIGMA = 1e-3  # of a gaussian target, in score units: narrower ones all give the nearest of the bins

TARGETS = ("mi", "ta")
LOWEST, HIGHEST = 1.0, 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """A score that a bundle predicts.

    Attributes:
        name: such as `mi`.
        lowest, highest: the scale of the listeners whose mean is predicted.
        clipped: whether predictions are kept within it; the scalar heads of others give 5.2 as it is.
        hears_prompt: whether it depends on the prompt, and is predicted only where there is one.
    """

    name: str
    lowest: float = LOWEST
    highest: float = HIGHEST
    clipped: bool = True
    hears_prompt: bool = False


TRAINED_TARGETS = (Target("mi"), Target("ta", hears_prompt=True))
"""What heads that are trained here predict."""

MEASURES = ("mse", "lcc", "srcc", "ktau")
VIEWS = ("utt_mi", "utt_ta", "sys_mi", "sys_ta")  # a level and a score


def bin_centres(bins: int) -> Floats:
    """Return the score each bin stands for: (bins,) from 1 to 5, evenly spaced."""
    return np.linspace(LOWEST, HIGHEST, bins)


def gaussian_distribution(scores: ArrayLike, bins: int, sigma: float) -> Floats:
    """Spread each score over the bins as a normalised gaussian.

    Args:
        scores: (N,), clamped to 1..5 first.
        bins: number of bins.
        sigma: width in score units, `NARROWEST_SIGMA` or more.
    Returns:
        (N, bins), rows sum to 1.
    Raises:
        ValueError: a narrower sigma.
    Source: Ritter-Gutierrez et al. 2025 (sigma 0.25, 20 bins).
    """
    if not sigma >= NARROWEST_SIGMA:
        raise ValueError(f"sigma is {sigma}, expected {NARROWEST_SIGMA} or more")
    clamped = np.clip(np.asarray(scores, np.float64), LOWEST, HIGHEST)
    distance = (bin_centres(bins) - clamped[:, None]) / sigma
    # Relative to the nearest bin, so that a narrow sigma cannot underflow to a row of zeros.
    exponent = -0.5 * (distance**2 - (distance**2).min(axis=1, keepdims=True))
    density = np.exp(exponent)
    return np.asarray(density / density.sum(axis=1, keepdims=True))


def one_hot_distribution(scores: ArrayLike, bins: int) -> Floats:
    """Put all of each score's mass in bin floor((s - 1) / 4 * (bins - 1)).

    Args:
        scores: (N,), clamped to 1..5 first.
        bins: number of bins.
    Returns:
        (N, bins), one 1 per row. The last bin is reached only by a score of exactly 5.
    Source: Ritter-Gutierrez et al. 2025, published code.
    """
    clamped = np.clip(np.asarray(scores, np.float64), LOWEST, HIGHEST)
    # Labels are decimal fractions that binary floats miss by an ulp: 2.6 must not fall into the bin below.
    position = np.round((clamped - LOWEST) / (HIGHEST - LOWEST) * (bins - 1), 9)
    return np.asarray(np.eye(bins)[np.floor(position).astype(int)])


def rater_distribution(ratings: ArrayLike) -> Floats:
    """Return for each clip the share of its listeners that gave it each of the ranks 1 to 5.

    The mean of such a distribution over `bin_centres(5)` is the clip's mean opinion score.

    Args:
        ratings: (N, R) whole numbers 1 to 5; NaN where a clip has fewer than R ratings.
    Returns:
        (N, 5), rows sum to 1.
    Raises:
        ValueError: a clip without ratings, or one that is not a rank.
    Source: Faridee and Gamper 2022 (the histogram of the opinion scores as a target).
    """
    given = np.asarray(ratings, np.float64)
    if given.ndim != 2:
        raise ValueError(f"found labels of shape {given.shape}, expected each clip's ratings, (N, R)")
    counts = (given[:, :, None] == np.arange(LOWEST, HIGHEST + 1)).sum(axis=1)
    totals = (~np.isnan(given)).sum(axis=1)
    if (wrong := np.flatnonzero((counts.sum(axis=1) != totals) | (totals == 0))).size:
        raise ValueError(f"row {wrong[0]}: found the ratings {given[wrong[0]]}, expected ranks 1 to 5, one or more")
    return np.asarray(counts / totals[:, None])


def ordinal_levels(scores: ArrayLike, ranks: int = 5) -> Floats:
    """Return for each score which of the thresholds 1, 2, ... ranks - 1 it exceeds.

    Args:
        scores: (N,).
        ranks: number of ordinal categories.
    Returns:
        (N, ranks - 1) of 0 and 1; column k - 1 is [score > k].
    Source: Cao, Mirjalili and Raschka 2020 (CORAL), thresholds as in the published code.
    """
    return (np.asarray(scores, np.float64)[:, None] > np.arange(1, ranks)).astype(np.float64)
