"""Tables for the terminal."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from audiomos_cache.metrics import Scores
    from audiomos_cache.training.results import HeadResult


def scores_table(scores: "Scores", title: str) -> Table:
    """Lay out the sixteen numbers: utterance and system level, MI and TA; MSE, LCC, SRCC, KTAU."""
    caption = f"{scores.n_clips} clips, {scores.n_systems} systems"
    table = Table(title=Text(title), caption=caption, title_justify="left", caption_justify="left")
    table.add_column("level")
    table.add_column("score")
    for measure in ("MSE", "LCC", "SRCC", "KTAU"):
        table.add_column(measure, justify="right")
    for level, score, agreement in (
        ("utterance", "MI", scores.utt_mi),
        ("utterance", "TA", scores.utt_ta),
        ("system", "MI", scores.sys_mi),
        ("system", "TA", scores.sys_ta),
    ):
        numbers = (agreement.mse, agreement.lcc, agreement.srcc, agreement.ktau)
        table.add_row(level, score, *map(_shown, numbers))
    return table


def runs_table(results: Sequence["HeadResult"], mean: "Scores | None" = None) -> Table:
    """Lay out a line for each finished run: epochs trained, and the dev SRCC of its best-loss checkpoint.

    The last line, where it is given, is that of the mean of their predictions.
    """
    table = Table(title="Dev SRCC of each run's best-loss checkpoint, chosen on these clips")
    for column in ("run", "epochs", "MI utt", "TA utt", "MI sys", "TA sys"):
        table.add_column(column, justify="left" if column == "run" else "right")
    for result in results:
        table.add_row(Text(result.folder.name), str(result.epochs), *_srccs(result.dev["loss"]))
    if mean:
        table.add_section()
        table.add_row("mean of the predictions", "", *_srccs(mean))
    return table


def _srccs(scores: "Scores") -> list[str]:
    return [_shown(each.srcc) for each in (scores.utt_mi, scores.utt_ta, scores.sys_mi, scores.sys_ta)]


def _shown(number: float) -> str:
    return "n/a" if math.isnan(number) else f"{number:.4f}"
