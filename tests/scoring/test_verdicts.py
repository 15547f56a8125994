"""What is said of changes that are known, and how it reads."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from audiomos_cache.scoring.ladders import CLIPPING, LOW_PASS, NOISE, PROMPTS, SEGMENTS, Ladder
from audiomos_cache.scoring.verdicts import Change, Check, Row, judge
from audiomos_cache.targets import Target
from tests.support.check import MI, TA

WIDE = Target("clarity", lowest=0, highest=100)


def row(ladder: Ladder, *rungs: list[float], target: Target = MI, is_main: bool = True) -> Row:
    """What is said of differences of clips, a list for each rung; the weaker ones are 0."""
    given = [[0.0] * len(rungs[0])] * (len(ladder.rungs) - len(rungs)) + list(rungs)
    return judge(target, ladder, [Change.of(r, d) for r, d in zip(ladder.rungs, given, strict=True)], is_main=is_main)


@pytest.mark.parametrize(
    ("ladder", "target", "differences", "verdict", "fails"),
    [
        (NOISE, MI, [-0.3, -0.5, -0.1], "falls as expected", False),
        (NOISE, MI, [-0.3], "falls as expected", False),
        (LOW_PASS, MI, [0.3, 0.5, 0.1], "INVERTED: rises by 0.30", True),
        (CLIPPING, MI, [0.0, 0.0, 0.0], "no effect", True),
        (CLIPPING, MI, [-0.09, -0.05, -0.08], "no effect", True),
        (NOISE, MI, [-2.0, 1.5, 0.1], "uncertain: clips differ", True),
        (NOISE, MI, [], "not scored", True),
        (NOISE, WIDE, [-2.0, -2.4, -1.9], "no effect", True),
        (NOISE, WIDE, [-3.0, -2.4, -2.9], "falls as expected", False),
        (SEGMENTS, MI, [-0.3, -0.5, -0.1], "falls as expected", False),
        (SEGMENTS, MI, [0.01, -0.02, 0.0], "blind to structure", False),
        (SEGMENTS, MI, [0.3, 0.4, 0.3], "rises by 0.33", False),
        (SEGMENTS, MI, [0.9, -0.8, 0.0], "uncertain: clips differ", False),
        (SEGMENTS, MI, [], "not scored", False),
        (PROMPTS, TA, [-0.3, -0.5, -0.1], "falls as expected", False),
        (PROMPTS, TA, [0.0, 0.0, 0.0], "does not hear the prompt", True),
        (PROMPTS, TA, [0.2, 0.3, 0.4], "INVERTED: rises by 0.30", True),
        (PROMPTS, TA, [0.9, -0.8, 0.0], "uncertain: clips differ", True),
        (PROMPTS, MI, [0.0, 0.0, 0.0], "unmoved, as expected", False),
        (PROMPTS, MI, [0.0, 0.0, 0.01], "moves with the prompt", True),
        (PROMPTS, MI, [], "not scored", True),
    ],
)
def test_what_is_said_and_whether_the_check_fails_for_it(ladder, target, differences, verdict, fails):
    found = row(ladder, differences, target=target)
    assert (found.verdict, found.fails) == (verdict, fails)


def test_a_rise_on_a_weaker_rung_is_one_too():
    found = row(NOISE, [0.4, 0.5, 0.6], [-0.4, -0.5, -0.6])
    assert (found.verdict, found.fails) == ("INVERTED: rises by 0.50", True)
    assert row(NOISE, [0.01, 0.02, 0.0], [-0.4, -0.5, -0.6]).verdict == "falls as expected"


def test_the_check_does_not_depend_on_the_quality_of_other_targets_but_on_all_that_hear_prompts():
    assert not row(NOISE, [0.3, 0.5, 0.1], target=TA, is_main=False).fails
    assert row(PROMPTS, [0.3, 0.5, 0.1], target=TA, is_main=False).fails


def test_the_interval_is_students_of_clips():
    differences = [-0.3, -0.5, -0.1, 0.2]
    change = Change.of(0, differences)
    low, high = stats.t.interval(0.95, 3, np.mean(differences), stats.sem(differences))
    assert change.mean == pytest.approx((low + high) / 2)
    assert change.half_width == pytest.approx((high - low) / 2)
    assert (change.fell, change.clips, change.moved) == (3, 4, pytest.approx(0.275))
    assert Change.of(0, differences[:2]).half_width is None, "of two clips it says nothing"
    assert Change.of(0, differences[:1]).error is None


def test_an_effect_has_to_be_larger_than_its_standard_error():
    spread = [-1.0, 0.0, 0.4]
    assert abs(np.mean(spread)) < stats.sem(spread)
    assert Change.of(0, spread).beyond_chance(0.1) == 0
    assert Change.of(0, [-1.0, -0.9, -0.4]).beyond_chance(0.1) == pytest.approx(-2.3 / 3)


def check_of(*rows: Row, clips: int = 3, **options) -> Check:
    return Check("d" * 32, clips, options.pop("music", None), rows, **options)


FALL, STAY = [-0.3, -0.5, -0.1], [0.0, 0.0, 0.0]
GOOD = (row(NOISE, FALL), row(LOW_PASS, FALL), row(CLIPPING, FALL), row(SEGMENTS, STAY), row(PROMPTS, STAY))


def test_it_passes_in_a_sentence():
    found = check_of(*GOOD, row(PROMPTS, FALL, target=TA))
    assert found.passed and found.failures == []
    assert found.verdict() == "Passed: MI falls under noise, low-pass and clipping, TA under other prompts (3 clips)."
    assert found.summary() == (
        "noise -0.30  low-pass -0.30  clipping -0.30  shuffled segments +0.00 (blind to structure)  "
        "shuffled prompts TA -0.30"
    )


def test_what_rises_elsewhere_is_told_though_it_passes():
    found = check_of(*GOOD, row(NOISE, [0.3, 0.5, 0.1], target=TA, is_main=False))
    assert found.passed
    assert "clipping; but TA rises by 0.30 under noise (INVERTED) (3 clips)." in found.verdict()


def test_few_clips_are_a_hint():
    assert check_of(*GOOD, clips=1).verdict().endswith("; 1 clip can only hint at it, give 3 or more.")


def test_an_untrained_encoder_fails_outright():
    found = check_of(*GOOD, untrained=("muq-tiny",), music="made-up music")
    assert not found.passed
    assert found.verdict() == (
        "FAILED: the encoder is untrained (muq-tiny), so scores mean nothing (3 clips of made-up music)."
    )


def test_all_that_is_wrong_is_in_the_sentence():
    rows = (row(NOISE, [0.3, 0.5, 0.1]), row(LOW_PASS, STAY), *GOOD[2:], row(PROMPTS, STAY, target=TA))
    assert check_of(*rows).failures == [
        "MI rises by 0.30 under noise (INVERTED)",
        "MI under low-pass: no effect",
        "TA under shuffled prompts: does not hear the prompt",
    ]


def test_the_table_fits_80_columns_and_holds_all_numbers():
    long = Target("performance_and_singing_mood", hears_prompt=True)
    rows = [row(ladder, *([[-3.21] * 99] * len(ladder.rungs)), target=long) for ladder in (NOISE, LOW_PASS, CLIPPING)]
    rows += [row(SEGMENTS, [0.2] * 99, target=long), row(PROMPTS, [0.0] * 99, target=long)]
    found = check_of(*rows, *(row(each, [], target=TA) for each in (NOISE, PROMPTS)), clips=99)
    lines = found.lines()
    table = lines[2:-2]
    assert max(map(len, table)) < 80
    assert table[1:7] == [
        "performance_and_singing_mood",
        "  noise             -3.21 -3.21 -3.21  ± 0.00 99/99  falls as expected",
        "  low-pass          -3.21 -3.21 -3.21  ± 0.00 99/99  falls as expected",
        "  clipping          -3.21 -3.21 -3.21  ± 0.00 99/99  falls as expected",
        "  shuffled segments             +0.20  ± 0.00  0/99  rises by 0.20",
        "  shuffled prompts              +0.00  ± 0.00  0/99  does not hear the prompt",
    ]
    assert table[7] == "TA: not scored; if it hears prompts, give them"
    assert lines[-1] == found.verdict()


def test_notes_tell_what_was_left_out():
    problems = tuple(f"c{n}, noise 0 dB SNR: broken" for n in range(7))
    found = check_of(*GOOD, left_out={"a": "silent"}, problems=problems, too_short=("b",))
    assert found.notes() == [
        "left out: a: silent",
        *(f"not scored: {each}" for each in problems[:5]),
        "not scored: ... (7 in all)",
        "without shuffled segments, as shorter than 3 s: b",
    ]


def test_it_turns_into_plain_values():
    found = check_of(*GOOD, row(PROMPTS, FALL, target=TA)).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["passed"] is True
    strongest = found["targets"]["mi"]["noise"]["changes"][-1]
    assert strongest == {"rung": 0, "mean": -0.3, "error": 0.115, "fell": 3, "clips": 3, "moved": 0.3,
                         "half_width_95": 0.497}  # fmt: skip
    assert found["targets"]["ta"]["shuffled prompts"]["verdict"] == "falls as expected"
    assert math.isclose(found["ladders"]["low-pass"]["rungs"][-1], 1)
