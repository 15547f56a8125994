"""Strings from anywhere in files that something else will interpret: spreadsheets, LaTeX, Markdown.

Those for a terminal are `errors.escaped`.
"""

import re

from audiomos_cache.errors import escaped
from audiomos_cache.files import is_number

_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]")  # the last four are as wide as Chinese characters
_MARKDOWN = re.compile(r"([\\`*_\[\]#|~$]|:(?=//))")
_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", '"': r"\textquotedbl{}",
    **{char: rf"\{char}" for char in "&%$#_{}"},
}  # fmt: skip


def csv_cell(value: object) -> object:
    """Return a value for a cell of CSV: a string that a spreadsheet would run as a formula gets an apostrophe first.

    Numbers are numbers, strings of one too. `from_csv_cell` gives the string back.

    >>> csv_cell("=1+1"), csv_cell("'=1+1"), csv_cell(-1.5), csv_cell("-1.5"), csv_cell("it's")
    ("'=1+1", "''=1+1", -1.5, "-1.5", "it's")
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value) else value


def _is_number(text: str) -> bool:
    return text == text.strip() and is_number(text)


def from_csv_cell(cell: str) -> str:
    """Return the string that `csv_cell` made a cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def latex(string: str) -> str:
    r"""Return a string as LaTeX prints it.

    >>> latex("a_b \\input{x}")
    'a\\_b \\textbackslash{}input\\{x\\}'
    """
    return "".join(_LATEX.get(char, char) for char in escaped(string))


def markdown(string: str) -> str:
    r"""Return a string as Markdown prints it: no tag, link, heading, emphasis, code or cell of a table begins in it.

    >>> markdown("# <img src=x> [a](b) | `c`")
    '\\# &lt;img src=x&gt; \\[a\\](b) \\| \\`c\\`'
    """
    text = escaped(string).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", text)
