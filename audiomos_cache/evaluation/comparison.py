"""Whether one file of predictions is better than another: paired bootstrap and permutation tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from audiomos_cache.evaluation import metrics
from audiomos_cache.evaluation.bootstrap import (
    FEW_SYSTEMS,
    LEVEL,
    Row,
    Uncertainty,
    corrected_distributions,
    draw_distributions,
)
from audiomos_cache.evaluation.metrics import Points
from audiomos_cache.evaluation.weighted_metrics import WeightedAgreement
from audiomos_cache.targets import MEASURES, VIEWS, Floats

_ROUNDING = 1e-12
_ALL = 4096  # ways to swap that are always all made: drawing fewer would save nothing


def choose_swaps(n_swaps: int, systems: int, seed: int) -> NDArray[np.bool_]:
    """Choose which systems to swap, (B, G): all ways there are, but to swap none, if they are few; else some.

    Few are `n_swaps` or 4,096. Some are `n_swaps`, drawn at random, but not as the bootstrap of the same seed draws.
    """
    if 2**systems <= max(n_swaps, _ALL):
        return np.asarray((np.arange(1, 2**systems)[:, None] >> np.arange(systems)) % 2 == 1)
    return np.random.default_rng([seed, 1]).integers(0, 2, (n_swaps, systems)).astype(bool)


def least_swap_p_value(systems: int) -> float:
    """Return the least p-value that swaps can give: to swap all systems makes the same difference as to swap none."""
    return 2.0 ** (1 - systems)


def swap_p_values(a: Points, b: Points, swaps: NDArray[np.bool_]) -> Floats:
    """Return (4,) two-sided p-values of the differences between A's numbers and B's, in the order of `MEASURES`.

    Each is the share of swaps, the predictions as they are among them, with a difference as large or larger. A swap in
    which a number is not defined counts as one. nan where a number of A or B is not defined.

    Args:
        a, b: predictions of the same points, in the same order.
        swaps: (B, G), True where a system is swapped.
    Source: Phipson and Smyth 2010, "Permutation P-values should never be zero".
    """
    as_they_are = np.zeros((1, swaps.shape[1]), bool)
    swapped = np.vstack([as_they_are, swaps])
    taken = np.hstack([~swapped, swapped]).astype(np.float64)  # (1 + B, 2 G), from A's systems and from B's
    p_values = {}
    for comparable, measures in _COMPARABLE:
        # One set of points, A's and then B's: a swap chooses from which of the two a system's points are taken.
        both = WeightedAgreement(
            np.concatenate([comparable(a.predicted), comparable(b.predicted)]),
            np.concatenate([a.truth, b.truth]),
            np.concatenate([a.system, b.system + swaps.shape[1]]),
        )
        for measure in measures:
            numbers = getattr(both, measure)
            p_values[measure] = _p_value(np.abs(numbers(taken) - numbers(1 - taken)))
    return np.array([p_values[measure] for measure in MEASURES])


def _p_value(differences: Floats) -> float:
    """Compare the first difference with all of them."""
    if np.isnan(differences[0]):
        return float("nan")
    smaller = np.count_nonzero(differences < differences[0] - _ROUNDING)  # nan is not smaller
    return float((len(differences) - smaller) / len(differences))


def _standardised(values: Floats) -> Floats:
    if metrics.is_constant(values):
        return np.zeros_like(values)
    return np.asarray((values - np.mean(values)) / np.std(values))


def _as_they_are(values: Floats) -> Floats:
    return values


def _ranks(values: Floats) -> Floats:
    return np.zeros_like(values) if metrics.is_constant(values) else np.asarray(rankdata(values), np.float64)


_COMPARABLE = ((_as_they_are, ("mse",)), (_standardised, ("lcc",)), (_ranks, ("srcc", "ktau")))


ALPHA = 0.05
ROWS: tuple[Row, ...] = tuple((view, measure) for view in VIEWS for measure in MEASURES)


@dataclass(frozen=True, slots=True)
class Difference:
    """A number of A less that of B. What is not defined is nan.

    Attributes:
        value: the difference.
        p_bootstrap: two-sided p-value of the paired bootstrap, that of the interval (BCa, expanded for few systems).
        p_permutation: two-sided p-value of swapping A and B within systems.
        holm_bootstrap, holm_permutation: the same, corrected by Holm's method over all the sixteen that are defined.
    """

    value: float
    p_bootstrap: float
    p_permutation: float
    holm_bootstrap: float
    holm_permutation: float

    @property
    def p_value(self) -> float:
        """The larger of the corrected p-values: both tests must find a difference."""
        return float(np.maximum(self.holm_bootstrap, self.holm_permutation))  # nan if either is


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences between A and B.

    Attributes:
        differences: of each of the sixteen numbers.
        uncertainty: their intervals.
        n_systems: of how many systems.
        n_swaps: how many swaps the permutation test made.
    """

    differences: Mapping[Row, Difference]
    uncertainty: Uncertainty
    n_systems: int
    n_swaps: int

    @property
    def least_p_value(self) -> float:
        """The least p-value that swaps of so many systems can give, corrected as if all others were as small."""
        tests = sum(not np.isnan(difference.p_permutation) for difference in self.differences.values())
        return min(1.0, tests * least_swap_p_value(self.n_systems))

    def better(self, target: str) -> dict[Row, str]:
        """Return which is better, "a" or "b", in each number of a target (mi or ta) for which a difference is found."""
        return {
            (view, measure): "a" if (difference.value < 0) == (measure == "mse") else "b"
            for (view, measure), difference in self.differences.items()
            if view.endswith(target) and difference.p_value < ALPHA
        }

    def to_json(self) -> dict[str, Any]:
        """Return nested plain values for `json.dumps`, by view and measure; what is not defined is None."""
        content: dict[str, Any] = {view: {} for view in VIEWS}
        for (view, measure), difference in self.differences.items():
            values = {name: getattr(difference, name) for name in Difference.__slots__}
            content[view][measure] = {name: None if np.isnan(value) else value for name, value in values.items()}
            interval = self.uncertainty.intervals.get((view, measure))
            content[view][measure]["ci"] = list(interval) if interval else None
        return content | {"alpha": ALPHA, "n_swaps": self.n_swaps, "intervals": self.uncertainty.to_json()}


def compare(a: Mapping[str, Points], b: Mapping[str, Points], n_boot: int = 10_000, seed: int = 0) -> Comparison:
    """Compare two predictions of the same clips with listeners' scores.

    Args:
        a, b: what `metrics.points_of` returns for each, with the same labels.
        n_boot: how many resamples and how many swaps to draw, 1 or more; of few systems, all swaps there are.
        seed: the same seed gives the same result.
    Raises:
        ValueError: the two are not predictions of the same points.
    """
    for view in VIEWS:
        if not all(np.array_equal(getattr(a[view], name), getattr(b[view], name)) for name in ("truth", "system")):
            raise ValueError(f"{view}: found predictions of other points, expected the same truth and systems for both")
    of_a, of_b = (draw_distributions(each, n_boot, seed) for each in (a, b))
    corrected, notes = corrected_distributions({view: of_a[view] - of_b[view] for view in of_a})
    systems = len(a["sys_mi"].truth)
    intervals = {row: bca.expanded_interval(LEVEL) for row, bca in corrected.items()}
    values = np.array([_value(a[view], b[view], measure) for view, measure in ROWS])
    bootstrap = np.array([corrected[row].expanded_p_value() if row in corrected else np.nan for row in ROWS])
    notes += _notes_on_p_values(systems, n_boot, int(np.count_nonzero(~np.isnan(bootstrap))))
    swaps = choose_swaps(n_boot, systems, seed)
    permutation = np.concatenate([swap_p_values(a[view], b[view], swaps) for view in VIEWS])
    columns = (values, bootstrap, permutation, holm(bootstrap), holm(permutation))
    differences = {row: Difference(*(float(column[i]) for column in columns)) for i, row in enumerate(ROWS)}
    return Comparison(differences, Uncertainty(intervals, notes, n_boot, seed), systems, len(swaps))


def _notes_on_p_values(systems: int, n_boot: int, tests: int) -> tuple[str, ...]:
    """Return notes on the limits of the bootstrap's p-values, of which `tests` are corrected."""
    if not tests:
        return ()
    notes = (f"p boot of {systems} systems is too small",) if systems < FEW_SYSTEMS else ()
    if tests / (n_boot + 1) < ALPHA:  # the least that it can be
        return notes
    return (
        *notes,
        f"{n_boot} resamples are too few to find any difference, at least {int(tests / ALPHA)} must be drawn",
    )


def holm(p_values: Floats) -> Floats:
    """Correct (M,) p-values for their number, so that a false one below alpha is found in a share alpha of studies.

    Args:
        p_values: from 0 to 1; nan for a test that could not be made, which does not count.
    Returns:
        (M,), each at least as large as before; nan stays.
    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    corrected = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]  # nan is last
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    return corrected


def verdict(comparison: Comparison, target: str, a: str, b: str) -> str:
    """Return a sentence: which of A and B is better for a target, or that the data do not show it.

    Args:
        target: mi or ta.
        a, b: what to call them.
    """
    better = comparison.better(target)
    numbers = {side: [f"{view[:3]} {measure.upper()}" for (view, measure), who in better.items() if who == side]
               for side in "ab"}  # fmt: skip
    test = "both tests, corrected for the sixteen numbers"
    head = target.upper()
    if comparison.least_p_value >= ALPHA:
        return (
            f"{head}: the data cannot distinguish {a} from {b}, nor any others: of {comparison.n_systems} systems the "
            f"permutation test finds no difference; swaps give p = {comparison.least_p_value:g} at least, corrected "
            "for the sixteen numbers."
        )
    if not better:
        return f"{head}: the data cannot distinguish {a} from {b}: no difference has p < {ALPHA:g} in {test}."
    if numbers["a"] and numbers["b"]:
        both = f"{a} in {', '.join(numbers['a'])}, {b} in {', '.join(numbers['b'])}"
        return f"{head}: each is better in some numbers, {both} (p < {ALPHA:g} in {test})."
    (side,) = {*better.values()}
    first, second = (a, b) if side == "a" else (b, a)
    return f"{head}: {first} is better than {second} in {', '.join(numbers[side])} (p < {ALPHA:g} in {test})."


def _value(a: Points, b: Points, measure: str) -> float:
    numbers = [getattr(metrics, measure)(each.predicted, each.truth) for each in (a, b)]
    return float(numbers[0] - numbers[1])
