"""Tables for the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from audiomos_cache.progress import counted

if TYPE_CHECKING:
    from audiomos_cache.dataset.splitting import Side
    from audiomos_cache.evaluation.bootstrap import Uncertainty
    from audiomos_cache.evaluation.comparison import Comparison
    from audiomos_cache.evaluation.metrics import Scores
    from audiomos_cache.evaluation.summaries import SystemLine
    from audiomos_cache.training.finished_run import HeadResult

MEASURES = ("MSE", "LCC", "SRCC", "KTAU")


def scores_table(scores: "Scores", title: str, uncertainty: "Uncertainty | None" = None) -> Table:
    """Lay out the sixteen numbers: utterance and system level, MI and TA; MSE, LCC, SRCC, KTAU.

    Where there are intervals, each is under its number.
    """
    caption = f"{counted(scores.n_clips, 'clip')}, {counted(scores.n_systems, 'system')}"
    if uncertainty and uncertainty.intervals:
        caption += f"\n{_how(uncertainty)}"
    table = _left(title, caption)
    table.add_column("score")
    for measure in MEASURES:
        table.add_column(measure, justify="right")
    for view in ("utt_mi", "utt_ta", "sys_mi", "sys_ta"):
        agreement = getattr(scores, view)
        cells = [
            _with_interval(_shown(getattr(agreement, measure.lower())), uncertainty, (view, measure.lower()))
            for measure in MEASURES
        ]
        table.add_row(_name(view), *cells)
    return table


def comparison_table(comparison: "Comparison", a: "Scores", b: "Scores", letter: str = "B") -> Table:
    """Lay out a line for each of the sixteen numbers: A, B, A - B with its interval, and both p-values.

    `letter` is the name of B.
    """
    uncertainty = comparison.uncertainty
    caption = (
        "In brackets under a p-value: corrected for the sixteen numbers (Holm)."
        f"\n{_how(uncertainty) if uncertainty.intervals else 'No intervals'}; {comparison.n_swaps} swaps"
    )
    table = _left("", caption)
    for column in ("score", "A", letter, f"A - {letter}", "p boot", "p perm"):
        table.add_column(column, justify="left" if column == "score" else "right")
    for (view, measure), difference in comparison.differences.items():
        table.add_row(
            f"{_name(view)} {measure.upper()}",
            *(_shown(getattr(getattr(each, view), measure)) for each in (a, b)),
            _with_interval(_shown(difference.value), uncertainty, (view, measure)),
            f"{_shown(difference.p_bootstrap)}\n({_shown(difference.holm_bootstrap)})",
            f"{_shown(difference.p_permutation)}\n({_shown(difference.holm_permutation)})",
        )
    return table


def systems_table(lines: Sequence["SystemLine"], title: str) -> Table:
    """Lay out a line for each system and score: its means, bias and ranks."""
    caption = "rank: 1 is the best by listeners; change: ranks that the predictions put it higher (+) or lower (-)"
    table = _left(title, caption)
    for column in ("system", "clips", "score", "true", "pred.", "bias", "rank", "pred.\nrank", "change"):
        table.add_column(column, justify="left" if column in ("system", "score") else "right")
    for line in lines:
        for target, of_system in (("MI", line.mi), ("TA", line.ta)):
            numbers = (f"{of_system.true:.3f}", f"{of_system.predicted:.3f}", f"{of_system.bias:+.3f}")
            ranks = (f"{of_system.rank:g}", f"{of_system.predicted_rank:g}", f"{of_system.rank_change:+g}")
            table.add_row(Text(line.system), str(line.clips), target, *numbers, *ranks)
    return table


def split_table(sides: Mapping[str, "Side"], title: str) -> Table:
    """Lay out both sides of an inner split: clips, systems, prompts, means and standard deviations."""
    table = _left(title)
    for column in ("list", "clips", "systems", "prompts", "MI", "sd", "TA", "sd"):
        table.add_column(column, justify="left" if column == "list" else "right")
    for name, side in sides.items():
        counts = (len(side.clips), side.systems, side.prompts)
        scores = (side.mi.mean(), side.mi.std(), side.ta.mean(), side.ta.std())
        table.add_row(Text(name), *map(str, counts), *(f"{score:.3f}" for score in scores))
    return table


def runs_table(results: Sequence["HeadResult"], mean: "Scores | None" = None) -> Table:
    """Lay out a line for each finished run: epochs trained, and the dev SRCC of its best-loss checkpoint.

    The last line, if a mean is given, is that of the mean of their predictions. A run that was finished before has no
    seconds.
    """
    title = "Dev SRCC of each run's best-loss checkpoint, chosen on these clips"
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("run", overflow="fold")  # a name is never cut; without lines the presets' names fit 80 columns
    for column in ("epochs", "MI utt", "TA utt", "MI sys", "TA sys", "seconds"):
        table.add_column(column, justify="right")
    for result in results:
        seconds = "" if result.seconds is None else f"{result.seconds:.1f}"
        table.add_row(Text(result.folder.name), str(result.epochs), *_srccs(result.dev["loss"]), seconds)
    if mean:
        table.add_section()
        table.add_row("mean of the predictions", "", *_srccs(mean), "")
    return table


def _left(title: str, caption: str | None = None) -> Table:
    return Table(title=Text(title) if title else None, caption=caption, title_justify="left", caption_justify="left")


def _srccs(scores: "Scores") -> list[str]:
    return [_shown(each.srcc) for each in (scores.utt_mi, scores.utt_ta, scores.sys_mi, scores.sys_ta)]


def _name(view: str) -> str:
    level, score = view.split("_")
    return f"{level} {score.upper()}"


def _with_interval(shown: str, uncertainty: "Uncertainty | None", row: tuple[str, str]) -> str:
    if uncertainty is None or not uncertainty.intervals:
        return shown
    interval = uncertainty.intervals.get(row)
    return f"{shown}\n{f'{interval[0]:.3f}, {interval[1]:.3f}' if interval else '-'}"


def _how(uncertainty: "Uncertainty") -> str:
    resamples = f"{uncertainty.n_boot} resamples of systems, seed {uncertainty.seed}"
    return f"95 % intervals: BCa, expanded for few systems\n{resamples}"


def _shown(number: float) -> str:
    return "n/a" if math.isnan(number) else f"{number:.4f}"
