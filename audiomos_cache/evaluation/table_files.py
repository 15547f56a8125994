"""Tables as CSV and LaTeX."""

import csv
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

_SPECIAL = re.compile(r"([&%$#_{}])")


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows that have the same columns as CSV, with a header; None is an empty field."""
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


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
    lines = [" & ".join(_SPECIAL.sub(r"\\\1", cell) for cell in row) + r" \\" for row in (header, *rows)]
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
