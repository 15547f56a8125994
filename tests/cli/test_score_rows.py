"""A table of scores at 80 columns: widths that are known before, long names, warnings, errors."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.cells import cell_len

from audiomos_cache.cli.score_rows import ScoreRows
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.lines import to_line
from audiomos_cache.scoring.results import Score
from audiomos_cache.targets import TRAINED_TARGETS, Target
from tests.support.score_lines import SEVERAL, entries, score_of_several

TRAINED = SimpleNamespace(targets=TRAINED_TARGETS, is_calibrated=True, entries=entries())
DEAF = SimpleNamespace(targets=(Target("mi"), Target("ta_without_prompt")), is_calibrated=False, entries=entries())
OTHERS = SimpleNamespace(targets=(Target("coherence"), Target("clarity")), is_calibrated=False, entries=entries())
BOTH = SimpleNamespace(
    targets=(Target("model.mi"), Target("model.ta", hears_prompt=True), Target("muq-eval-a1.mi")),
    is_calibrated=True,
    entries=SEVERAL,
)
LONG = "music/" + "a-rather-long-name-" * 5 + "final.wav"
UNTRAINED = "untrained: the weights of muq-tiny and roberta-tiny are random, so the score means nothing"


def table(monkeypatch, *scores, columns=80, scorer=TRAINED, made_by=None):
    """The lines that these scores give."""
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = []
    rows = ScoreRows(lines.append)
    rows.begin([Item(each.id, Path(each.path or each.id), each.prompt) for each in scores], scorer)
    assert lines == [], "no head before there is a row"
    for each in scores:
        rows.write(to_line(each, made_by or entries()))
    return lines


def scored(path, prompt="x", **values):
    numbers = {"mi": 3.414, "mi_interval": (2.9, 3.9), "duration_s": 192.4, "windows": 7, "heard": (0.0, 192.4)}
    values = numbers | values
    return Score(path, path, prompt, **{"scores": {"mi": values["mi"], "ta": values.get("ta")}} | values)


def test_rows_have_the_numbers_of_the_lines(monkeypatch):
    first = scored("a.wav", ta=2.5, ta_interval=(1.0, 5.0))
    second = scored("bb.wav", None, mi_interval=None, duration_s=4.56, windows=1, heard=(0.0, 4.56))
    third = scored("c.wav", None, windows=1, heard=(91.2, 101.2))
    assert table(monkeypatch, first, second, third) == [
        "file     length  MI                 TA                 heard",
        "a.wav      3:12  3.41 [2.90, 3.90]  2.50 [1.00, 5.00]  7 windows",
        "bb.wav    4.6 s  3.41               -                  all",
        "c.wav      3:12  3.41 [2.90, 3.90]  -                  1:31-1:41",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(4.56, "4.6 s"), (9.96, "10.0 s"), (41.5, "41.5 s"), (59.94, "59.9 s"), (59.96, "1:00"), (60.0, "1:00")],
)
def test_a_length_of_less_than_a_minute_has_a_decimal(monkeypatch, seconds, shown):
    one = scored("a.wav", windows=1, heard=(0.0, seconds), duration_s=seconds)
    head, row = table(monkeypatch, one)
    assert row[: head.index("MI")].removeprefix("a.wav").strip() == shown


@pytest.mark.parametrize(
    ("heard", "duration_s", "shown"),
    [
        ((0.0, 192.3995), 192.4, "all"),
        ((0.0, 192.3), 192.4, "0:00-3:12"),
        ((0.5, 192.4), 192.4, "0:00-3:12"),
        ((3589.9, 3599.9), 3700.0, "59:49-59:59"),
        (None, 192.4, "-"),
    ],
)
def test_what_was_heard_of_a_clip(monkeypatch, heard, duration_s, shown):
    one = scored("a.wav", windows=1, heard=heard, duration_s=duration_s)
    assert table(monkeypatch, one, columns=100)[1].rpartition("  ")[2] == shown


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
    rows.begin(items, TRAINED)
    rows.write(to_line(scored("a.wav"), entries()))
    assert [line.split()[0] for line in lines] == ["file", "a.wav"]
    rows.write(json.dumps({**json.loads(to_line(scored("b.wav"), entries())), "path": None}).encode())
    assert lines[2].startswith("b.wav  ")


def begun(monkeypatch, scorer, prompt, columns=80):
    """Rows for one clip, of which none is printed."""
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = ScoreRows(lambda _: None)
    rows.begin([Item("a", Path("a.wav"), prompt)], scorer)
    return rows


def test_it_knows_what_a_reader_has_to_be_told(monkeypatch):
    for scorer, prompt, columns, expected in (
        (TRAINED, "x", 80, (True, True, True)),
        (TRAINED, None, 40, (False, True, True)),
        (TRAINED, "x", 40, (True, True, False)),
        (DEAF, "x", 40, (True, False, True)),
        (OTHERS, None, 30, (False, False, True)),
        (BOTH, "x", 40, (True, True, True)),
    ):
        rows = begun(monkeypatch, scorer, prompt, columns)
        assert (rows.has_prompts, rows.hears_prompts, rows.has_intervals) == expected, (scorer, columns)


def test_a_bundle_without_intervals_needs_less_room(monkeypatch):
    one = scored("music/song.wav", None, mi_interval=None, windows=1, heard=(91.2, 101.2))
    assert table(monkeypatch, one, columns=47, scorer=DEAF) == [
        "file             length  MI    heard",
        "music/song.wav     3:12  3.41  1:31-1:41",
    ]


def test_a_bundle_that_hears_no_prompt_has_no_ta(monkeypatch):
    one = scored("a.wav", "x", mi_interval=None, scores={"mi": 3.414, "ta_without_prompt": 2.0})
    header, row, *_ = table(monkeypatch, one, scorer=DEAF)
    assert header == "file    length  MI    TA    heard" and row.split()[2:4] == ["3.41", "-"]


def test_other_scores_stand_below_their_clip(monkeypatch):
    named = {"coherence": 2.796, "coherence_spread": 0.5, "clarity": None}
    first = scored("a.wav", None, mi=None, mi_interval=None, scores=named, warnings=("odd",), windows=1)
    second = Score("b", "b.wav", None, error="b.wav: too long")
    assert table(monkeypatch, first, second, scorer=OTHERS) == [
        "file    length  heard",
        "a.wav     3:12  all",
        "    coherence 2.80, clarity -",
        "    odd",
        "b.wav        -  -",
        "    error: b.wav: too long",
    ]


def test_each_of_several_bundles_has_a_line(monkeypatch):
    item = Item("a", Path("a.wav"), "x")
    warned = Score("a", "a.wav", "x", scores={"clarity": 2.0}, windows=1, heard=(0.0, 192.5), warnings=("no TA: deaf",))
    failed = Score("a", "a.wav", "x", error="too long")
    first = score_of_several(item, warnings=("odd",))
    second = score_of_several(item, warned)
    third = score_of_several(item, failed, error="muq-eval-a1: too long", warnings=("odd",))
    assert table(monkeypatch, first, second, third, scorer=BOTH, made_by=SEVERAL) == [
        "file    length",
        "a.wav     3:12",
        "    model: MI 3.25, TA 2.50; heard 7 windows",
        "    muq-eval-a1: MI 5.25, ta_without_prompt -0.50; heard 1:31-1:41",
        "    odd",
        "a.wav     3:12",
        "    model: MI 3.25, TA 2.50; heard 7 windows",
        "    muq-eval-a1: clarity 2.00; heard all",
        "        no TA: deaf",
        "a.wav     3:12",
        "    model: MI 3.25, TA 2.50; heard 7 windows",
        "    error: muq-eval-a1: too long",
        "    odd",
    ]
