import json
from pathlib import Path

import pytest

from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.lines import LINE, OF_BUNDLE, OF_CLIP, to_line
from audiomos_cache.scoring.results import Outcome, Score
from tests.support.score_lines import BUNDLE, ITEMS, OTHER, entries, line, line_of_several, score, score_of_several

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
        {"mi": 3.25, "ta": 2.5, "mi_spread": 0.12345678, "ta_spread": None},
        40.5,
        2,
        (0.0, 37.12345678),
        ("odd",),
        columns={"system": "S1"},
    )
    content = to_line(made, entries())
    assert content.endswith(b"}\n")
    assert content.count(b"\n") == 1
    assert list(json.loads(content)) == list(LINE), "in the order of the table"
    assert json.loads(content) == {
        "id": "a, b", "path": "m/a.mp3", "prompt": 'sad "blues"', "mi": 3.25, "ta": 2.5, "mi_interval": [3.0, 3.5],
        "ta_interval": [2.0, 3.0], "scores": {"mi": 3.25, "ta": 2.5, "mi_spread": 0.123457, "ta_spread": None},
        "duration_s": 40.5, "windows": 2, "heard": [0.0, 37.123457], "warnings": ["odd"], "error": None,
        "bundle": {"name": "model", "digest": BUNDLE, "windows": "mean of 30 s", "licence": "mit"},
        "columns": {"system": "S1"},
    }  # fmt: skip


def test_a_line_of_several_bundles_holds_what_each_says():
    failed = score(ITEMS[0], mi=None, ta=None, scores={}, windows=0, error="6 s long", warnings=("odd",))
    content = json.loads(
        line_of_several(ITEMS[0], failed, error="muq-eval-a1: 6 s long", warnings=("clipped",), columns={"n": 1})
    )
    assert list(content) == list(OF_CLIP), "in the order of the table"
    assert [set(each) for each in content["bundles"].values()] == [set(OF_BUNDLE)] * 2
    assert content == {
        "id": "a", "path": "m/a.wav", "prompt": "prompt of a, é", "duration_s": 192.5, "warnings": ["clipped"],
        "error": "muq-eval-a1: 6 s long", "columns": {"n": 1},
        "bundles": {
            "model": {
                "mi": 3.25, "ta": 2.5, "mi_interval": None, "ta_interval": None,
                "scores": {"mi": 3.25, "ta": 2.5, "mi_spread": None, "ta_spread": None}, "windows": 7,
                "heard": [0.0, 192.5], "warnings": [], "error": None,
                "bundle": {"name": "model", "digest": BUNDLE, "windows": "mean of 30 s", "licence": "mit"},
            },
            "muq-eval-a1": {
                "mi": None, "ta": None, "mi_interval": None, "ta_interval": None, "scores": {}, "windows": 0,
                "heard": None, "warnings": ["odd"], "error": "6 s long",
                "bundle": {"name": "muq-eval-a1", "digest": OTHER, "windows": "centre 10 s", "licence": "mit"},
            },
        },
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
        (
            Score("a", None, None, scores={"coherence": 2.796, "coherence_spread": 0.5, "clarity": None}),
            "Score('a': coherence 2.80, clarity none)",
        ),
        (
            score_of_several(ITEMS[0], Score("a", None, None, scores={"coherence": 2.796})),
            "Score('a': model: MI 3.25, TA 2.50; muq-eval-a1: coherence 2.80)",
        ),
        (Score("a", "a.wav", "x", error="a.wav: no such file"), "Score('a': error: a.wav: no such file)"),
    ],
)
def test_a_score_prints_what_matters(made, said):
    assert repr(made) == str(made) == said


def test_a_line_holds_nothing_that_a_terminal_obeys():
    """It is the same JSON to every reader."""
    name = "a\x1b[31m\x9b2J\x7f\u202egnp\u2066\ufeff"
    line = to_line(Score(name, "p", None, mi=3.0, windows=1), entries())
    assert line.decode().rstrip("\n").isprintable() and json.loads(line)["id"] == name


# An outcome


def test_the_means_are_of_the_clips_that_have_a_score():
    outcome = Outcome(4)
    for each in (
        score(ITEMS[0], scores={"mi": 3.0, "mi_spread": 0.25, "ta": 2.0}),
        score(ITEMS[1], scores={"mi": 4.0, "mi_spread": None, "ta": None}, warnings=("odd",)),
        score(ITEMS[2], scores={"mi": None, "ta": None}, error="no audio"),
        score(ITEMS[3], scores={"mi": 5.5, "ta": 2.5}),
    ):
        outcome.add(each.to_dict())
    assert str(outcome) == "3 of 4 clips scored, 1 failed, 1 with warnings; mean MI 4.167, TA 2.250 (of 2)"
    assert outcome.to_dict() == {
        "total": 4, "scored": 3, "warned": 1, "failed": {"c": "no audio"}, "mi": pytest.approx(12.5 / 3), "ta": 2.25,
        "scores": {"mi": pytest.approx(12.5 / 3), "ta": 2.25},
    }  # fmt: skip


def test_of_several_bundles_each_has_its_means():
    outcome = Outcome(3)
    failed = score(ITEMS[1], mi=None, ta=None, scores={}, error="too long")
    outcome.add(score_of_several(ITEMS[0]).to_dict())
    outcome.add(score_of_several(ITEMS[1], failed, error="muq-eval-a1: too long").to_dict())
    odd = score(ITEMS[2], scores={"mi": 4.75}, warnings=("odd",))
    outcome.add(score_of_several(ITEMS[2], odd).to_dict())
    assert str(outcome) == (
        "3 of 3 clips scored, 1 failed, 1 with warnings; mean model.mi 3.250, model.ta 2.500, muq-eval-a1.mi 5.000 "
        "(of 2)"
    )
    assert outcome.mean("muq-eval-a1.ta_without_prompt") == -0.5, "which the line leaves out, as it is no MI or TA"
    assert "muq-eval-a1.ta_without_prompt" in outcome.to_dict()["scores"]
    assert outcome.failed == {"b": "muq-eval-a1: too long"}
    assert (outcome.mean("mi"), outcome.mean("muq-eval-a1.mi")) == (None, 5.0)
