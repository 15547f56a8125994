"""Results of an evaluation as plain values and rows: the sixteen numbers, systems, comparisons."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from audiomos_cache.evaluation.bootstrap import Uncertainty
from audiomos_cache.evaluation.comparison import Comparison
from audiomos_cache.evaluation.metrics import Points, Scores
from audiomos_cache.targets import MEASURES, TARGETS, VIEWS

_ROUNDING = 1e-9


def ties_note(shown: Scores, other: Scores, *, as_original: bool) -> str | None:
    """Say which numbers depend on whether systems of equal means tie, and what they would be.

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
class Placed:
    """One target of one system.

    Attributes:
        predicted, true: means of its clips, or listeners' score of the system where that was given.
        bias: predicted less true.
        rank: its place by `true`, 1 for the highest; equal ones share the mean of their places.
        predicted_rank: its place by `predicted`.
        rank_change: how many places higher the predictions put it than listeners do; negative: lower.
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
    mi: Placed
    ta: Placed


def per_system(points: Mapping[str, Points], systems: Sequence[str]) -> list[SystemLine]:
    """Lay out every system, in the order of their names.

    Args:
        points: what `metrics.points_of` returns.
        systems: the system of each clip, as in the labels.
    """
    names = sorted(set(systems))
    clips = np.bincount(points["utt_mi"].system, minlength=len(names))
    placed = {target: _placed(points[f"sys_{target}"]) for target in TARGETS}
    rows = zip(names, clips.tolist(), placed["mi"], placed["ta"], strict=True)
    return [SystemLine(*row) for row in rows]


def _placed(points: Points) -> list[Placed]:
    rank, predicted_rank = (rankdata(-values) for values in (points.truth, points.predicted))
    columns = (
        points.predicted,
        points.truth,
        points.predicted - points.truth,
        rank,
        predicted_rank,
        rank - predicted_rank,
    )
    return [Placed(*map(float, row)) for row in zip(*columns, strict=True)]


LEVEL_NAMES = {"utt": "utterance", "sys": "system"}

Record = dict[str, Any]


def scores_json(scores: Scores, uncertainty: Uncertainty | None) -> Record:
    """Return the sixteen numbers as `Scores.to_json` does, each interval beside its number: `"srcc_ci": [low, high]`.

    An interval that is not defined is None; how they were made stands under `"intervals"`.
    """
    content: Record = dict(scores.to_json())
    if uncertainty is None:
        return content
    for view in VIEWS:
        found = {f"{measure}_ci": uncertainty.intervals.get((view, measure)) for measure in MEASURES}
        content[view] = content[view] | {name: list(ends) if ends else None for name, ends in found.items()}
    return content | {"intervals": uncertainty.to_json()}


def score_rows(scores: Scores, uncertainty: Uncertainty | None) -> list[Record]:
    """Return a row for each of the sixteen numbers; what is not defined is empty."""
    intervals = uncertainty.intervals if uncertainty else {}
    return [
        _names(view, measure)
        | {"value": _filled(getattr(getattr(scores, view), measure))}
        | _ends(intervals.get((view, measure)))
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
        rows.append(row | _ends(comparison.uncertainty.intervals.get((view, measure))) | values)
    return rows


def system_rows(lines: Sequence[SystemLine]) -> list[Record]:
    """Return a row for each system, with columns such as `mi_bias`."""
    return [
        {"system": line.system, "clips": line.clips}
        | {f"{target}_{name}": value for target in TARGETS for name, value in asdict(getattr(line, target)).items()}
        for line in lines
    ]


def comparison_json(comparison: Comparison, other: str, scores: Scores, verdicts: Mapping[str, str]) -> Record:
    """Return what stands under `"compare"`: the other file, its numbers, the differences, what they amount to."""
    return {"file": other, "scores": scores.to_json(), "differences": comparison.to_json(), "verdicts": dict(verdicts)}


def _names(view: str, measure: str) -> Record:
    level, score = view.split("_")
    return {"level": LEVEL_NAMES[level], "score": score.upper(), "measure": measure.upper()}


def _ends(interval: tuple[float, float] | None) -> Record:
    low, high = interval or (None, None)
    return {"ci_low": low, "ci_high": high}


def _filled(number: float) -> float | None:
    return None if math.isnan(number) else number
