"""Numbers, intervals and comparisons as plain values: what `--json` and `--csv` hold."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from audiomos_cache.evaluation.bootstrap import Uncertainty
from audiomos_cache.evaluation.comparison import Comparison
from audiomos_cache.evaluation.systems import SystemLine
from audiomos_cache.metrics import MEASURES, TARGETS, VIEWS, Scores

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
