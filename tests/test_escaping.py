"""Strings that spreadsheets, LaTeX and Markdown would run are shown instead."""

import csv
import io

import pytest

from audiomos_cache.escaping import csv_cell, from_csv_cell, latex, markdown
from audiomos_cache.evaluation.summaries import csv_table, latex_table

FORMULAS = (
    "=1+1",
    "+1+1",
    "-1-1",
    "-",
    "-1e999",
    "@SUM(A1)",
    "\t=1",
    "\t1",
    "\r=1",
    '=HYPERLINK("http://x")',
    "\uff1d1+1",
    "'=1+1",
    "''-x",
)


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_begins_as_a_formula_and_it_can_be_read_back(text):
    cell = csv_cell(text)
    assert cell == f"'{text}" and from_csv_cell(cell) == text


@pytest.mark.parametrize("value", ["song", "it's", "'quoted'", "a=b", "", 3, -1.5, "-1.5", "+1", "-2e-3", None])
def test_what_no_spreadsheet_runs_stays_as_it_is(value):
    assert csv_cell(value) is value
    assert not isinstance(value, str) or from_csv_cell(value) == value


def test_a_table_of_systems_holds_no_formula_and_its_numbers_stay_numbers():
    names = [text for text in FORMULAS if "\r" not in text]  # which no id or system has
    rows = [{"system": text, "bias": -0.5} for text in names]
    found = list(csv.DictReader(io.StringIO(csv_table(rows), newline="")))
    assert [from_csv_cell(row["system"]) for row in found] == names
    assert all(row["system"][0] == "'" and row["bias"] == "-0.5" for row in found)


def test_latex_prints_what_it_would_run():
    assert latex("\\input{/etc/passwd} 50% a_b ~^&$#<\x1b") == (
        "\\textbackslash{}input\\{/etc/passwd\\} 50\\% a\\_b \\textasciitilde{}\\textasciicircum{}\\&\\$\\#\\textless{}"
        "\\textbackslash{}x1b"
    )
    assert "\\textbackslash{}write18\\{ls\\} & 1" in latex_table(["system", "MSE"], [["\\write18{ls}", "1"]])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("x\n# Heading", "x\\\\n\\# Heading"),
        ("a | b", "a \\| b"),
        ("![x](http://evil)", "!\\[x\\](http\\://evil)"),
        ("```sh", "\\`\\`\\`sh"),
        ("*b* _i_ ~s~ $m$ &amp;", "\\*b\\* \\_i\\_ \\~s\\~ \\$m\\$ &amp;amp;"),
        ("\u202egnp", "\\\\u202egnp"),
    ],
)
def test_markdown_shows_what_it_would_turn_into_something(text, shown):
    assert markdown(text) == shown
