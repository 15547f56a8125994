"""How sure the sixteen numbers are: intervals from resamples of whole systems.

Who generates music differs from system to system, and clips of one system resemble each other, so what is drawn anew is
systems, each with all its clips, at both levels (the cluster bootstrap). Then an interval of an utterance-level number
speaks of other systems like these, and so does that of a system-level number: of what it would be for other systems,
judged by as many clips each.

Clips are not drawn anew within a drawn system, which would count their noise twice: the means of a system's clips
already hold it. Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 3.8, and Field and Welsh
2007, "Bootstrapping clustered data", say so in general, and a simulation here (tests/evaluation/test_coverage.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audiomos_cache.evaluation.intervals import Bca, UndefinedIntervalError
from audiomos_cache.evaluation.weighted import WeightedAgreement
from audiomos_cache.metrics import MEASURES, VIEWS, Floats, Points

LEVEL = 0.95
FEWEST_SYSTEMS = 3  # of which an interval is made
FEW_SYSTEMS = 10  # below which it is too short, even expanded
FEWEST_RESAMPLES = 100  # of which an interval is made: in fewer, its ends are the extremes or nearly so

Row = tuple[str, str]  # one of the sixteen numbers: a view, a measure


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """The intervals of the sixteen numbers, or of their differences between two predictions.

    Attributes:
        intervals: low and high end at `LEVEL`, of each number (view, measure) that has an interval.
        notes: why a number has none, and what else a reader must know, in words.
        n_boot: how many resamples there were.
        seed: of their generator.
    """

    intervals: Mapping[Row, tuple[float, float]]
    notes: tuple[str, ...]
    n_boot: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Say how the intervals were made, in plain values."""
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
    places = (drawn + systems * np.arange(n_boot)[:, None]).ravel()
    return np.bincount(places, minlength=n_boot * systems).reshape(n_boot, systems).astype(np.float64)


def bootstrap_intervals(points: Mapping[str, Points], n_boot: int = 10_000, seed: int = 0) -> Uncertainty:
    """Make the 95 % intervals of the sixteen numbers, by BCa (Efron 1987), expanded for few systems (Hesterberg 2015).

    In simulated studies of 31 systems and 413 clips they hold the true number at utterance level in 91.8 to 95.1 %; at
    system level in 92.9 to 97.7 %, and KTAU in 97.3 to 99.0 % (tests/evaluation/test_coverage.py). Of few systems they
    hold it less often.

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
