"""Where equal means of systems rank otherwise than in the original."""

import math

from audiomos_cache.metrics import MEASURES, VIEWS, Scores

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
