"""Whether the predictions A are better than B, number by number, and what that amounts to.

Two tests stand beside each other, since each has a weakness the other lacks. The paired bootstrap takes both in the
same resamples of systems and asks whether the difference of a number is zero, whatever else differs; with few systems
it is only roughly right. The permutation test is right for any number of systems, but its null hypothesis is more than
an equal number: that A and B can be swapped; and of few systems there are too few swaps for a small p-value. A
difference counts where both find it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from audiomos_cache import metrics
from audiomos_cache.evaluation.bootstrap import (
    FEW_SYSTEMS,
    LEVEL,
    Row,
    Uncertainty,
    corrected_distributions,
    draw_distributions,
)
from audiomos_cache.evaluation.permutation import choose_swaps, least_swap_p_value, swap_p_values
from audiomos_cache.metrics import MEASURES, VIEWS, Floats, Points

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
        """Say of each number of a target (mi or ta) for which a difference is found, which is better: "a" or "b"."""
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
    """Say what the bootstrap's p-values, of which so many are corrected, are not good for."""
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
    """Say in a sentence which of A and B is better for a target, or that the data cannot tell.

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
            f"{head}: the data cannot tell {a} from {b}, nor any others: of {comparison.n_systems} systems the "
            f"permutation test finds no difference; swaps give p = {comparison.least_p_value:g} at least, corrected "
            "for the sixteen numbers."
        )
    if not better:
        return f"{head}: the data cannot tell {a} from {b}: no difference has p < {ALPHA:g} in {test}."
    if numbers["a"] and numbers["b"]:
        both = f"{a} in {', '.join(numbers['a'])}, {b} in {', '.join(numbers['b'])}"
        return f"{head}: each is better in some numbers, {both} (p < {ALPHA:g} in {test})."
    (side,) = {*better.values()}
    first, second = (a, b) if side == "a" else (b, a)
    return f"{head}: {first} is better than {second} in {', '.join(numbers[side])} (p < {ALPHA:g} in {test})."


def _value(a: Points, b: Points, measure: str) -> float:
    numbers = [getattr(metrics, measure)(each.predicted, each.truth) for each in (a, b)]
    return float(numbers[0] - numbers[1])
