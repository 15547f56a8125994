"""Tables for the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from audiomos_cache.errors import escaped
from audiomos_cache.progress import counted

if TYPE_CHECKING:
    from audiomos_cache.dataset.splitting import Side
    from audiomos_cache.evaluation.bootstrap import Uncertainty
    from audiomos_cache.evaluation.comparison import Comparison
    from audiomos_cache.evaluation.metrics import Scores
    from audiomos_cache.evaluation.summaries import SystemLine
    from audiomos_cache.training.finished_run import HeadResult

MEASURES = ("MSE", "LCC", "SRCC", "KTAU")


_ELLIPSIS = "…"
_SHORTEST = 12  # cells of a name, however narrow the terminal


def cut_in_the_middle(name: str, width: int) -> str:
    """Cut a name to so many cells of a terminal: its beginning and its end tell it from others.

    >>> cut_in_the_middle("decoupled-lstm-dist-seed1984", 20)
    'decoupled…t-seed1984'
    """
    if cell_len(name) <= width:
        return name
    if width < 1:
        return ""
    tail = _first_cells(name[::-1], width // 2)[::-1]
    while tail and not cell_len(tail[0]):  # an accent of the letter that is cut off
        tail = tail[1:]
    return f"{_first_cells(name, width - 1 - cell_len(tail))}{_ELLIPSIS}{tail}"


def _first_cells(name: str, width: int) -> str:
    """Return as much of the beginning as fits into so many cells; some letters take two, accents none."""
    for count, letter in enumerate(name):
        width -= cell_len(letter)
        if width < 0:
            return name[:count]
    return name


class Name:
    """A name of the user's in a table or next to a bar: on one line, cut in the middle where there is no room."""

    def __init__(self, name: str) -> None:
        self.name = escaped(name)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Return the fewest and the most cells that it takes."""
        width = min(cell_len(self.name), options.max_width)
        return Measurement(min(width, _SHORTEST), width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the name in the cells that there are."""
        yield Text(cut_in_the_middle(self.name, options.max_width), no_wrap=True)


def scores_table(scores: "Scores", title: str, uncertainty: "Uncertainty | None" = None) -> Group:
    """Lay out the sixteen numbers: utterance and system level, MI and TA; MSE, LCC, SRCC, KTAU.

    Where there are intervals, each is under its number.
    """
    caption = f"{counted(scores.n_clips, 'clip')}, {counted(scores.n_systems, 'system')}"
    if uncertainty and uncertainty.intervals:
        caption += f"\n{_how(uncertainty)}"
    table = _left(caption)
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
    return Group(Name(title), table)


def comparison_table(comparison: "Comparison", a: "Scores", b: "Scores", letter: str = "B") -> Table:
    """Lay out a line for each of the sixteen numbers: A, B, A - B with its interval, and both p-values.

    `letter` is the name of B.
    """
    uncertainty = comparison.uncertainty
    caption = (
        "In brackets under a p-value: corrected for the sixteen numbers (Holm)."
        f"\n{_how(uncertainty) if uncertainty.intervals else 'No intervals'}; {comparison.n_swaps} swaps"
    )
    table = _left(caption)
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


def systems_table(lines: Sequence["SystemLine"], title: str) -> Group:
    """Lay out a line for each system and score: its means, bias and ranks."""
    caption = "rank: 1 is the best by listeners; change: ranks that the predictions put it higher (+) or lower (-)"
    table = _left(caption)
    for column in ("system", "clips", "score", "true", "pred.", "bias", "rank", "pred.\nrank", "change"):
        left = column in ("system", "score")
        table.add_column(column, justify="left" if left else "right", no_wrap=column != "system")
    for line in lines:
        for target, of_system in (("MI", line.mi), ("TA", line.ta)):
            numbers = (f"{of_system.true:.3f}", f"{of_system.predicted:.3f}", f"{of_system.bias:+.3f}")
            ranks = (f"{of_system.rank:g}", f"{of_system.predicted_rank:g}", f"{of_system.rank_change:+g}")
            table.add_row(Name(line.system), str(line.clips), target, *numbers, *ranks)
    return Group(Name(title), table)


def split_table(sides: Mapping[str, "Side"], title: str) -> Group:
    """Lay out both sides of an inner split: clips, systems, prompts, means and standard deviations."""
    table = _left()
    for column in ("list", "clips", "systems", "prompts", "MI", "sd", "TA", "sd"):
        table.add_column(column, justify="left" if column == "list" else "right", no_wrap=column != "list")
    for name, side in sides.items():
        counts = (len(side.clips), side.systems, side.prompts)
        scores = (side.mi.mean(), side.mi.std(), side.ta.mean(), side.ta.std())
        table.add_row(Name(name), *map(str, counts), *(f"{score:.3f}" for score in scores))
    return Group(Name(title), table)


def runs_table(results: Sequence["HeadResult"], mean: "Scores | None" = None) -> Table:
    """Lay out a line for each finished run: epochs trained, and the dev SRCC of its best-loss checkpoint.

    The last line, if a mean is given, is that of the mean of their predictions. A run that was finished before has no
    seconds.
    """
    title = "Dev SRCC of each run's best-loss checkpoint, chosen on these clips"
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("run")  # without lines the presets' names fit 80 columns
    for column in ("epochs", "MI utt", "TA utt", "MI sys", "TA sys", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results:
        seconds = "" if result.seconds is None else f"{result.seconds:.1f}"
        table.add_row(Name(result.folder.name), str(result.epochs), *_srccs(result.dev["loss"]), seconds)
    if mean:
        table.add_section()
        table.add_row("mean of the predictions", "", *_srccs(mean), "")
    return table


def _left(caption: str | None = None) -> Table:
    return Table(caption=caption, caption_justify="left")


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
