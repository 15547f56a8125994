"""Bootstrap confidence intervals of the sixteen numbers: whole systems are drawn with their clips.

`bootstrap_intervals` makes them; `Bca.interval` is the formula, `expanded_level` its correction for few systems.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from audiomos_cache.evaluation.metrics import Points
from audiomos_cache.evaluation.weighted_metrics import WeightedAgreement
from audiomos_cache.targets import MEASURES, VIEWS, Floats

MOST_UNDEFINED = 0.05  # of the resamples, beyond which the rest is no basis for an interval
_LEAST = 1e-9  # of a divisor, beyond which a normal quantile is infinite for all purposes
_SAME = 1e-12  # relative to the largest: what rounding may make of equal numbers


class UndefinedIntervalError(ValueError):
    """A bootstrap distribution from which no interval follows; the message is the reason."""


@dataclass(frozen=True, eq=False)
class Bca:
    """A number's bootstrap distribution, with what corrects its bias and skewness. Made by `of`.

    Attributes:
        replicates: (B,) float64, the number in each resample where it is defined.
        undefined: how many resamples were left out because it is not.
        bias: z0, the normal quantile of the share of replicates below the number itself.
        acceleration: a, a sixth of the skewness of the jackknife's values.
        groups: G, how many systems were resampled.
    """

    replicates: Floats
    undefined: int
    bias: float
    acceleration: float
    groups: int

    @classmethod
    def of(cls, replicates: Floats, estimate: float, jackknife: Floats) -> Self:
        """Correct a bootstrap distribution.

        Args:
            replicates: (B,), the number in each resample; nan where it is not defined.
            estimate: the number itself.
            jackknife: (G,), the number without each of the systems.
        Raises:
            UndefinedIntervalError: the number, one of the jackknife's or more than `MOST_UNDEFINED` of the resamples'
                are not defined; all resamples give the same, or none of them gives less, or more, than the number.
        """
        if math.isnan(estimate):
            raise UndefinedIntervalError("it is not defined")
        if np.isnan(jackknife).any():
            raise UndefinedIntervalError("it is not defined without one of the systems")
        defined = replicates[~np.isnan(replicates)]
        undefined = len(replicates) - len(defined)
        if undefined > MOST_UNDEFINED * len(replicates):
            raise UndefinedIntervalError(f"it is not defined in {undefined} of {len(replicates)} resamples")
        if np.ptp(defined) <= _SAME * np.abs(defined).max():
            raise UndefinedIntervalError("it is the same in every resample")
        share = (np.mean(defined < estimate) + np.mean(defined <= estimate)) / 2
        if not 0 < share < 1:
            raise UndefinedIntervalError(f"it is {'above' if share else 'below'} what every resample gives")
        influence = jackknife.mean() - jackknife
        spread = np.sum(influence**2)
        acceleration = float(np.sum(influence**3) / (6 * spread**1.5)) if spread > 0 else 0.0
        return cls(defined, undefined, float(ndtri(share)), acceleration, len(jackknife))

    def interval(self, level: float) -> tuple[float, float]:
        """Return the bounds of the BCa interval at a level between 0 and 1.

        Where bias and skewness are so large that a bound is undefined, it is the most extreme replicate.
        """
        half = ndtri((1 + level) / 2)
        shifted = self.bias + np.array([-half, half])
        shares = ndtr(self.bias + shifted / np.maximum(1 - self.acceleration * shifted, _LEAST))
        low, high = np.quantile(self.replicates, shares)
        return float(low), float(high)

    def expanded_interval(self, level: float) -> tuple[float, float]:
        """Return the bounds of the BCa interval at a level raised for few systems."""
        return self.interval(expanded_level(level, self.groups))

    def expanded_p_value(self, null: float = 0.0) -> float:
        """Return one less the level of the expanded interval that just reaches `null`: a two-sided p-value.

        It is 1 / (B + 1) at least, since B resamples cannot resolve smaller ones.
        Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 15 (BCa significance levels).
        """
        share = (np.mean(self.replicates < null) + np.mean(self.replicates <= null)) / 2
        least = 1 / (len(self.replicates) + 1)
        shifted = ndtri(min(max(share, least), 1 - least)) - self.bias
        z = shifted / max(1 + self.acceleration * shifted, _LEAST) - self.bias
        t = -abs(z) * math.sqrt((self.groups - 1) / self.groups)
        return float(np.clip(2 * stdtr(self.groups - 1, t), least, 1.0))


def expanded_level(level: float, groups: int) -> float:
    """Return the level to ask a bootstrap interval of few groups for, so that it holds the truth as often as `level`.

    Args:
        level: between 0 and 1.
        groups: G, how many were resampled, 2 or more.
    Source: Hesterberg 2015 (the expanded percentile interval).
    """
    quantile = math.sqrt(groups / (groups - 1)) * stdtrit(groups - 1, (1 + level) / 2)
    return float(2 * ndtr(quantile) - 1)


LEVEL = 0.95
FEWEST_SYSTEMS = 3  # of which an interval is made
FEW_SYSTEMS = 10  # below which it is too short, even expanded
FEWEST_RESAMPLES = 100  # of which an interval is made: in fewer, its bounds are the extremes or nearly so

Row = tuple[str, str]  # one of the sixteen numbers: a view, a measure


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """The intervals of the sixteen numbers, or of their differences between two predictions.

    Attributes:
        intervals: lower and upper confidence bound at `LEVEL`, of each number (view, measure) that has an interval.
        notes: why a number has none, and what else a reader must know, as sentences.
        n_boot: how many resamples there were.
        seed: of their generator.
    """

    intervals: Mapping[Row, tuple[float, float]]
    notes: tuple[str, ...]
    n_boot: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return how the intervals were made, in plain values."""
        return {
            "level": LEVEL,
            "method": "BCa, expanded for few systems",
            "resampled": "systems with all their clips",
            "n_boot": self.n_boot,
            "seed": self.seed,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """The four numbers of one view: as they are, in each resample, and without each of the systems.

    Attributes:
        estimate: (4,) float64, in the order of `metrics.MEASURES`.
        replicates: (B, 4), nan where a number is not defined.
        jackknife: (G, 4), likewise.
    """

    estimate: Floats
    replicates: Floats
    jackknife: Floats

    @classmethod
    def of(cls, points: Points, counts: Floats) -> "Distribution":
        """Compute them from (B, G) counts of the systems in each resample."""
        weigh = WeightedAgreement(points.predicted, points.truth, points.system)
        return cls(weigh(np.ones((1, weigh.groups)))[0], weigh(counts), weigh(1 - np.eye(weigh.groups)))

    def __sub__(self, other: "Distribution") -> "Distribution":
        """Subtract another's numbers in the same resamples."""
        return Distribution(
            self.estimate - other.estimate, self.replicates - other.replicates, self.jackknife - other.jackknife
        )


def draw_systems(n_boot: int, systems: int, seed: int) -> Floats:
    """Draw as many systems as there are, with replacement, `n_boot` times.

    Returns:
        (n_boot, systems) float64: how often each was drawn; rows sum to `systems`.
    """
    drawn = np.random.default_rng(seed).integers(0, systems, (n_boot, systems))
    flat = (drawn + systems * np.arange(n_boot)[:, None]).ravel()
    return np.bincount(flat, minlength=n_boot * systems).reshape(n_boot, systems).astype(np.float64)


def bootstrap_intervals(points: Mapping[str, Points], n_boot: int = 10_000, seed: int = 0) -> Uncertainty:
    """Make the 95 % intervals of the sixteen numbers, by BCa (Efron 1987), expanded for few systems (Hesterberg 2015).

    In simulated studies of 31 systems and 413 clips they hold the true number at utterance level in 91.8 to 95.1 %; at
    system level in 92.9 to 97.7 %, and KTAU in 97.3 to 99.0 % (tests/evaluation/test_bootstrap_coverage.py).
    Of few systems they hold it less often.

    Args:
        points: what `metrics.points_of` returns.
        n_boot: how many resamples to draw, 1 or more; of fewer than `FEWEST_RESAMPLES` no interval is made.
        seed: the same seed gives the same intervals.
    """
    distributions = draw_distributions(points, n_boot, seed)
    corrected, notes = corrected_distributions(distributions)
    intervals = {row: bca.expanded_interval(LEVEL) for row, bca in corrected.items()}
    return Uncertainty(intervals, notes, n_boot, seed)


def draw_distributions(points: Mapping[str, Points], n_boot: int, seed: int) -> dict[str, Distribution]:
    """Compute the numbers of each view in the same resamples; nothing where there are too few systems or resamples."""
    systems = len(points["sys_mi"].truth)
    if systems < FEWEST_SYSTEMS or n_boot < FEWEST_RESAMPLES:
        return {}
    counts = draw_systems(n_boot, systems, seed)
    return {view: Distribution.of(points[view], counts) for view in VIEWS}


def corrected_distributions(distributions: Mapping[str, Distribution]) -> tuple[dict[Row, Bca], tuple[str, ...]]:
    """Correct each number's distribution for its bias and skewness, where that can be done.

    Returns:
        The corrected distributions, and notes: why a number has none, which resamples were left out.
    """
    if not distributions:
        return {}, (f"no intervals: they take {FEWEST_SYSTEMS} systems and {FEWEST_RESAMPLES} resamples, or more",)
    corrected: dict[Row, Bca] = {}
    notes: dict[str, list[str]] = {}
    for view, distribution in distributions.items():
        for column, measure in enumerate(MEASURES):
            name = f"{view} {measure}"
            columns = distribution.replicates[:, column], distribution.jackknife[:, column]
            try:
                bca = Bca.of(columns[0], float(distribution.estimate[column]), columns[1])
            except UndefinedIntervalError as problem:
                notes.setdefault(f"no interval, {problem}", []).append(name)
                continue
            corrected[view, measure] = bca
            if bca.undefined:
                left_out = f"{bca.undefined} of {len(columns[0])} resamples left out, where it is not defined"
                notes.setdefault(left_out, []).append(name)
    found = [f"{_listed(names)}: {note}" for note, names in notes.items()]
    systems = len(distributions["sys_mi"].jackknife)
    if systems < FEW_SYSTEMS:
        found.insert(0, f"{systems} systems are few: such intervals are too short")
    return corrected, tuple(found)


def _listed(names: Sequence[str]) -> str:
    return "all sixteen" if len(names) == len(VIEWS) * len(MEASURES) else ", ".join(names)
