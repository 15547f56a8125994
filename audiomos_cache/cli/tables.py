"""Tables for the terminal."""

import math
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from audiomos_cache.metrics import Scores


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
        table.add_row(level, score, *("n/a" if math.isnan(n) else f"{n:.4f}" for n in numbers))
    return table
