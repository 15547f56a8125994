"""A table of scores at 80 columns: widths that are known before, long names, warnings, errors."""

import json
from pathlib import Path

import pytest
from rich.cells import cell_len

from audiomos_cache.cli.score_rows import ScoreRows
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.results import Score, to_line

LONG = "music/" + "a-rather-long-name-" * 5 + "final.wav"
UNTRAINED = "untrained: the weights of muq-tiny and roberta-tiny are random, so the score means nothing"


def table(monkeypatch, *scores, columns=80):
    """The lines that these scores give."""
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = []
    rows = ScoreRows(lines.append)
    rows.begin([Item(each.id, Path(each.path or each.id), each.prompt) for each in scores])
    assert lines == [], "no head before there is a row"
    for each in scores:
        rows.write(to_line(each, "digest"))
    return lines


def scored(path, prompt="x", **values):
    numbers = {"mi": 3.414, "mi_interval": (2.9, 3.9), "duration_s": 192.4, "windows": 7}
    return Score(path, path, prompt, **numbers | values)


def test_rows_have_the_numbers_of_the_lines(monkeypatch):
    first = scored("a.wav", ta=2.5, ta_interval=(1.0, 5.0))
    assert table(monkeypatch, first, scored("bb.wav", None, mi_interval=None, duration_s=4.56, windows=1)) == [
        "file     length  MI                 TA                 heard",
        "a.wav      3:12  3.41 [2.90, 3.90]  2.50 [1.00, 5.00]  7 windows",
        "bb.wav    4.6 s  3.41               -                  1 window",
    ]


def test_without_any_prompt_there_is_no_ta(monkeypatch):
    assert table(monkeypatch, scored("a.wav", None, duration_s=3733.0), scored("b.wav", " "))[:2] == [
        "file    length  MI                 heard",
        "a.wav  1:02:13  3.41 [2.90, 3.90]  7 windows",
    ]


def test_a_warning_is_whole_once_and_an_error_is_there_in_full(monkeypatch):
    error = "c.wav: not audio,\nor damaged, expected a whole wav, flac, ogg or mp3; get it again"
    first, second = (scored(f"{name}.wav", warnings=(*own, UNTRAINED)) for name, own in (("a", ()), ("b", ("odd",))))
    lines = table(monkeypatch, first, second, Score("c", "c.wav", "x", error=error))
    assert [line.split()[0] if line[0] != " " else line for line in lines] == [
        "file",
        "a.wav",
        "    untrained: the weights of muq-tiny and roberta-tiny are random, so the",
        "    score means nothing",
        "b.wav",
        "    odd; untrained",
        "c.wav",
        "    error: c.wav: not audio, or damaged, expected a whole wav, flac, ogg or",
        "    mp3; get it again",
    ]


@pytest.mark.parametrize("columns", [40, 60, 80, 132])
def test_long_names_are_cut_so_that_every_row_is_one_line(monkeypatch, columns):
    names = (LONG, "夜曲の夜曲の夜曲の夜曲の夜曲の夜曲の夜曲の夜曲の夜曲の最終版.wav", "short.wav")
    head, *rows = table(monkeypatch, *(scored(name, ta=2.0, ta_interval=(1.0, 3.0)) for name in names), columns=columns)
    assert len(rows) == 3
    assert all((line[-9:] == "7 windows") == (columns >= 80) for line in rows)
    assert max(cell_len(line) for line in (head, *rows)) < columns
    starts = [line.partition("   ")[0] for line in rows]
    assert all(start.endswith(".wav") for start in starts)
    assert ("…" in starts[0]) == (columns < 132 or LONG not in rows[0])


def test_a_narrow_terminal_shows_what_matters_most(monkeypatch):
    both = scored("music/song.wav", ta=2.0, ta_interval=(1.0, 3.0), windows=1)
    assert table(monkeypatch, both, columns=65) == [
        "file             length  MI                 TA",
        "music/song.wav     3:12  3.41 [2.90, 3.90]  2.00 [1.00, 3.00]",
    ]
    assert table(monkeypatch, both, columns=40) == [
        "file             length  MI    TA",
        "music/song.wav     3:12  3.41  2.00",
    ]
    assert (
        table(monkeypatch, scored("music/song.wav", None), columns=45)[1]
        == "music/song.wav     3:12  3.41 [2.90, 3.90]"
    )


def test_what_a_file_name_says_to_the_terminal_is_escaped(monkeypatch):
    lines = table(monkeypatch, scored("a\x1b[31m\n.wav", warnings=("b\x1b[2J",)))
    assert "".join(lines).isprintable()
    assert r"a\x1b[31m\n.wav" in lines[1]


def test_a_row_is_printed_with_its_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines, items = [], [Item(name, Path(name), "x") for name in ("a.wav", "b.wav")]
    rows = ScoreRows(lines.append)
    rows.begin(items)
    rows.write(to_line(scored("a.wav"), "digest"))
    assert [line.split()[0] for line in lines] == ["file", "a.wav"]
    rows.write(json.dumps({**json.loads(to_line(scored("b.wav"), "digest")), "path": None}).encode())
    assert lines[2].startswith("b.wav  ")
