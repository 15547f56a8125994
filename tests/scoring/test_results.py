import json
from pathlib import Path

import pytest

from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.results import LINE, Score, to_line
from tests.support.score_lines import BUNDLE, ITEMS, line

# A line


def test_a_line_holds_the_score_and_the_bundle():
    item = Item("a, b", Path("m/a.mp3"), 'sad "blues"')
    made = Score(
        item.id,
        str(item.path),
        item.prompt,
        3.25,
        2.5,
        (3.0, 3.5),
        (2.0, 3.0),
        {"mi_spread": 0.12345678, "ta_spread": None},
        40.5,
        2,
        ("odd",),
        columns={"system": "S1"},
    )
    content = to_line(made, BUNDLE)
    assert content.endswith(b"}\n")
    assert content.count(b"\n") == 1
    assert list(json.loads(content)) == list(LINE), "in the order of the table"
    assert json.loads(content) == {
        "id": "a, b", "path": "m/a.mp3", "prompt": 'sad "blues"', "mi": 3.25, "ta": 2.5, "mi_interval": [3.0, 3.5],
        "ta_interval": [2.0, 3.0], "scores": {"mi_spread": 0.123457, "ta_spread": None}, "duration_s": 40.5,
        "windows": 2, "warnings": ["odd"], "error": None, "bundle": BUNDLE, "columns": {"system": "S1"},
    }  # fmt: skip


def test_text_is_written_as_it_is_but_for_what_ends_a_line_somewhere():
    prompt = "夜曲 🎵 a\u2028b\x85c\u2029d\x0ce\r\n\\u2028"
    content = line(Item("é", Path("é.wav"), prompt))
    assert "夜曲 🎵".encode() in content
    assert len(content.decode().splitlines()) == 1
    assert json.loads(content)["prompt"] == prompt


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_never_written(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        line(ITEMS[0], mi=value)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            Score("a", "a.wav", "x", 3.414, 2.5, (2.9, 3.9), (2.0, 3.0), warnings=("silent: peak 0",)),
            "Score('a': MI 3.41 (2.90 to 3.90), TA 2.50 (2.00 to 3.00); silent: peak 0)",
        ),
        (Score("a", None, None, 3.414), "Score('a': MI 3.41, TA none)"),
        (Score("a", "a.wav", "x", error="a.wav: no such file"), "Score('a': error: a.wav: no such file)"),
    ],
)
def test_a_score_prints_what_matters(made, said):
    assert repr(made) == str(made) == said


def test_a_line_holds_nothing_that_a_terminal_obeys():
    """It is the same JSON to every reader."""
    name = "a\x1b[31m\x9b2J\x7f\u202egnp\u2066\ufeff"
    line = to_line(Score(name, "p", None, mi=3.0, windows=1), "ab" * 16)
    assert line.decode().rstrip("\n").isprintable() and json.loads(line)["id"] == name
