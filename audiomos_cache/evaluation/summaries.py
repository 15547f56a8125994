"""Results of an evaluation as plain values, rows and tables: the sixteen numbers, systems, comparisons."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from typing import Any

import numpy as np
from scipy.stats import rankdata

from audiomos_cache.escaping import csv_cell, latex
from audiomos_cache.evaluation.bootstrap import Uncertainty
from audiomos_cache.evaluation.comparison import Comparison
from audiomos_cache.evaluation.metrics import Points, Scores
from audiomos_cache.progress import counted
from audiomos_cache.targets import MEASURES, TARGETS, VIEWS

_ROUNDING = 1e-9


def ties_note(shown: Scores, other: Scores, *, as_original: bool) -> str | None:
    """Return a sentence: which numbers depend on whether systems of equal means tie, and what they would be.

    Args:
        shown: the numbers.
        other: those of the same predictions, made the other way.
        as_original: how `shown` was made, see `metrics.points_of`.
    Returns:
        None where the two agree.
    """
    differing = {view: _differing(shown, other, view) for view in VIEWS}
    numbers = "; ".join(f"{view[:3]} {view[4:].upper()} {', '.join(each)}" for view, each in differing.items() if each)
    if not numbers:
        return None
    rounding = "ranked by rounding, in the list's order, as the original does"
    if as_original:
        return f"systems of equal means are {rounding}; if they tied: {numbers}"
    return f"systems of equal means tie; {rounding} (--as-original): {numbers}"


def _differing(shown: Scores, other: Scores, view: str) -> list[str]:
    """Name the measures that differ, with the other's value."""
    pairs = {measure: [getattr(getattr(each, view), measure) for each in (shown, other)] for measure in MEASURES}
    return [
        f"{measure.upper()} {value:.4f}"
        for measure, (own, value) in pairs.items()
        if not (abs(own - value) <= _ROUNDING or (math.isnan(own) and math.isnan(value)))
    ]


@dataclass(frozen=True, slots=True)
class SystemRank:
    """One target of one system.

    Attributes:
        predicted, true: means of its clips, or listeners' score of the system where that was given.
        bias: predicted less true.
        rank: its rank by `true`, 1 for the highest; equal ones share the mean of their ranks.
        predicted_rank: its rank by `predicted`.
        rank_change: how many ranks higher the predictions put it than listeners do; negative: lower.
    """

    predicted: float
    true: float
    bias: float
    rank: float
    predicted_rank: float
    rank_change: float


@dataclass(frozen=True, slots=True)
class SystemLine:
    """One system: its name, how many clips it has, MI and TA."""

    system: str
    clips: int
    mi: SystemRank
    ta: SystemRank


def per_system(points: Mapping[str, Points], systems: Sequence[str]) -> list[SystemLine]:
    """Lay out every system, in the order of their names.

    Args:
        points: what `metrics.points_of` returns.
        systems: the system of each clip, as in the labels.
    """
    names = sorted(set(systems))
    clips = np.bincount(points["utt_mi"].system, minlength=len(names))
    ranked = {target: _ranked(points[f"sys_{target}"]) for target in TARGETS}
    rows = zip(names, clips.tolist(), ranked["mi"], ranked["ta"], strict=True)
    return [SystemLine(*row) for row in rows]


def _ranked(points: Points) -> list[SystemRank]:
    rank, predicted_rank = (rankdata(-values) for values in (points.truth, points.predicted))
    columns = (
        points.predicted,
        points.truth,
        points.predicted - points.truth,
        rank,
        predicted_rank,
        rank - predicted_rank,
    )
    return [SystemRank(*map(float, row)) for row in zip(*columns, strict=True)]


LEVEL_NAMES = {"utt": "utterance", "sys": "system"}

Record = dict[str, Any]


def scores_table(scores: Scores, uncertainty: Uncertainty | None = None) -> str:
    """Lay out the sixteen numbers, each with its interval where there are any, in lines of a table."""
    header, rows = score_cells(scores, uncertainty)
    return f"{aligned([header, *rows])}\n{counted(scores.n_clips, 'clip')}, {counted(scores.n_systems, 'system')}"


def score_cells(scores: Scores, uncertainty: Uncertainty | None) -> tuple[list[str], list[list[str]]]:
    """Return the cells of a table of the sixteen numbers: its header, and a row for each view."""
    intervals = uncertainty.intervals if uncertainty else {}

    def cell(view: str, measure: str) -> str:
        bounds = intervals.get((view, measure))
        number = shown_cell(_filled(getattr(getattr(scores, view), measure)))
        return f"{number} [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else number

    rows = [[f"{view[:3]} {view[4:].upper()}", *(cell(view, measure) for measure in MEASURES)] for view in VIEWS]
    return ["score", *(measure.upper() for measure in MEASURES)], rows


def shown_cell(value: str | float | None) -> str:
    """Return a cell as it is shown: numbers with four decimals, `n/a` where a number is not defined."""
    if value is None:
        return "n/a"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Join rows of cells into lines, the first column aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def scores_json(scores: Scores, uncertainty: Uncertainty | None) -> Record:
    """Return the sixteen numbers as `Scores.to_json` does, with their intervals: `"srcc_ci": [low, high]`.

    An interval that is not defined is None; `"intervals"` contains how they were made.
    """
    content: Record = dict(scores.to_json())
    if uncertainty is None:
        return content
    for view in VIEWS:
        found = {f"{measure}_ci": uncertainty.intervals.get((view, measure)) for measure in MEASURES}
        content[view] = content[view] | {name: list(bounds) if bounds else None for name, bounds in found.items()}
    return content | {"intervals": uncertainty.to_json()}


def score_rows(scores: Scores, uncertainty: Uncertainty | None) -> list[Record]:
    """Return a row for each of the sixteen numbers; what is not defined is empty."""
    intervals = uncertainty.intervals if uncertainty else {}
    return [
        _names(view, measure)
        | {"value": _filled(getattr(getattr(scores, view), measure))}
        | _bounds(intervals.get((view, measure)))
        for view in VIEWS
        for measure in MEASURES
    ]


def comparison_rows(comparison: Comparison, a: Scores, b: Scores) -> list[Record]:
    """Return a row for each of the sixteen numbers of A and of B, and their difference."""
    rows = []
    for (view, measure), difference in comparison.differences.items():
        numbers = {name: _filled(getattr(getattr(of, view), measure)) for name, of in (("a", a), ("b", b))}
        values = {name: _filled(value) for name, value in asdict(difference).items()}
        row = _names(view, measure) | numbers | {"difference": values.pop("value")}
        rows.append(row | _bounds(comparison.uncertainty.intervals.get((view, measure))) | values)
    return rows


def system_rows(lines: Sequence[SystemLine]) -> list[Record]:
    """Return a row for each system, with columns such as `mi_bias`."""
    return [
        {"system": line.system, "clips": line.clips}
        | {f"{target}_{name}": value for target in TARGETS for name, value in asdict(getattr(line, target)).items()}
        for line in lines
    ]


def comparison_json(comparison: Comparison, other: str, scores: Scores, verdicts: Mapping[str, str]) -> Record:
    """Return the value of `"compare"`: the other file, its numbers, the differences, what they amount to."""
    return {"file": other, "scores": scores.to_json(), "differences": comparison.to_json(), "verdicts": dict(verdicts)}


def _names(view: str, measure: str) -> Record:
    level, score = view.split("_")
    return {"level": LEVEL_NAMES[level], "score": score.upper(), "measure": measure.upper()}


def _bounds(interval: tuple[float, float] | None) -> Record:
    low, high = interval or (None, None)
    return {"ci_low": low, "ci_high": high}


def _filled(number: float) -> float | None:
    return None if math.isnan(number) else number


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of the same columns as CSV, with a header; a cell of None is empty, strings are `csv_cell`s."""
    table = StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
    return table.getvalue()


def latex_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Return a `tabular` with the rules of the package booktabs; the first column is aligned left.

    >>> print(latex_table(["score", "MSE"], [["utt_mi", "0.25"]]), end="")
    \begin{tabular}{lr}
    \toprule
    score & MSE \\
    \midrule
    utt\_mi & 0.25 \\
    \bottomrule
    \end{tabular}
    """
    lines = [" & ".join(map(latex, row)) + r" \\" for row in (header, *rows)]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
