"""How the outcome of a check reads, and that it says no more than its rows do."""

import json
import math

import pytest

from audiomos_cache.scoring.check_report import Check
from audiomos_cache.scoring.ladders import CLIPPING, LOW_PASS, NOISE, PROMPTS, SEGMENTS
from audiomos_cache.scoring.verdicts import Row
from audiomos_cache.targets import Target
from tests.support.check import TA, row

ADVICE = "Do not compare systems by these scores; check the encoder's weights and the audio."


def check_of(*rows: Row, clips: int = 3, **options) -> Check:
    return Check("d" * 32, clips, options.pop("music", None), rows, **options)


FALL, STAY, RISE, DIFFER = [-0.3, -0.5, -0.2], [0.0, 0.0, 0.0], [0.3, 0.45, 0.35], [-0.9, 0.8, -0.1]
GOOD = (row(NOISE, FALL), row(LOW_PASS, FALL), row(CLIPPING, FALL), row(SEGMENTS, STAY), row(PROMPTS, STAY))


def test_it_passes_in_a_sentence():
    found = check_of(*GOOD, row(PROMPTS, FALL, target=TA))
    assert (found.passed, found.outcome, found.failures) == (True, "passed", [])
    assert found.verdict() == "Passed: MI falls under noise, low-pass and clipping, TA under other prompts (3 clips)."
    assert found.summary() == (
        "MI: noise -0.33  low-pass -0.33  clipping -0.33  shuffled segments +0.00 (blind to structure)  "
        "shuffled prompts TA -0.33"
    )


def test_what_rises_elsewhere_is_told_though_it_passes():
    found = check_of(*GOOD, row(NOISE, RISE, target=TA, is_main=False))
    assert found.passed
    assert "clipping; but TA rises by 0.37 at 0 dB SNR under noise (INVERTED) (3 clips)." in found.verdict()


@pytest.mark.parametrize("clips", [1, 2])
@pytest.mark.parametrize("differences", [-0.5, 0.0, 0.5])
def test_one_or_two_clips_decide_nothing(clips, differences):
    rows = [row(ladder, [differences] * clips) for ladder in (NOISE, LOW_PASS, CLIPPING, SEGMENTS)]
    found = check_of(*rows, clips=clips)
    assert (found.passed, found.outcome, found.failures) == (False, "not decided", [])
    counted = "1 clip" if clips == 1 else "2 clips"
    assert found.verdict() == f"Not decided: {counted} can only hint at it, give 3 or more."


def test_what_clips_differ_in_is_not_decided():
    found = check_of(row(NOISE, DIFFER), *GOOD[1:])
    assert (found.passed, found.outcome, found.failures) == (False, "not decided", [])
    assert found.verdict() == "Not decided: MI under noise: uncertain, clips differ (3 clips); give more clips."
    assert "noise -0.07 (uncertain)  low-pass -0.33" in found.summary()
    unscored = check_of(row(NOISE, []), *GOOD[1:])
    assert unscored.verdict() == "Not decided: MI under noise: not scored (3 clips); give clips that can be scored."


def test_an_untrained_encoder_fails_outright():
    found = check_of(*GOOD, untrained=("muq-tiny",), music="made-up music")
    assert (found.passed, found.outcome) == (False, "failed")
    assert found.verdict() == (
        f"FAILED: the encoder is untrained (muq-tiny), so scores mean nothing (3 clips of made-up music). {ADVICE}"
    )
    assert check_of(*GOOD, untrained=("muq-tiny",), clips=1).outcome == "failed", "it takes no clips to know"


def test_all_that_speaks_against_it_is_in_the_sentence_and_nothing_else():
    rows = (row(NOISE, RISE), row(LOW_PASS, STAY), row(CLIPPING, DIFFER), *GOOD[3:], row(PROMPTS, STAY, target=TA))
    found = check_of(*rows)
    assert found.failures == [
        "MI rises by 0.37 at 0 dB SNR under noise (INVERTED)",
        "MI under low-pass: no effect",
        "TA under shuffled prompts: does not hear the prompt",
    ]
    assert found.verdict() == f"FAILED: {'; '.join(found.failures)} (3 clips). {ADVICE}"


def test_the_summary_and_the_sentence_name_the_rung_of_a_rise():
    found = check_of(row(NOISE, [0.48, 0.5, 0.52], [-0.4, -0.5, -0.6]), *GOOD[1:])
    assert found.summary().startswith("MI: noise -0.50 (INVERTED at 10 dB SNR)  low-pass -0.33  ")
    assert found.verdict().startswith("FAILED: MI rises by 0.50 at 10 dB SNR under noise (INVERTED) (3 clips). ")


def test_the_table_fits_80_columns_and_holds_all_numbers():
    long = Target("performance_and_singing_mood", hears_prompt=True)
    rows = [row(LOW_PASS, *([[-3.21] * 99] * 3), target=long), row(CLIPPING, [-1.0, 1.0] * 50, target=long)]
    rows += [row(NOISE, [0.2] * 99, [-0.2] * 99, target=long)]
    rows += [row(SEGMENTS, [0.2] * 99, target=long), row(PROMPTS, [0.0] * 99, target=long)]
    found = check_of(*rows, *(row(each, [], target=TA) for each in (NOISE, PROMPTS)), clips=99)
    lines = found.lines()
    assert max(map(len, lines[1:-2])) < 80
    assert lines[2:11] == [
        "                     change of score,  strongest rung:",
        "                         rung by rung  ± 95 %    fell",
        "performance_and_singing_mood",
        "  low-pass          -3.21 -3.21 -3.21  ± 0.00   99/99  falls as expected",
        "  clipping          +0.00 +0.00 +0.00  ± 0.20  50/100  uncertain: clips differ",
        "  noise             +0.00 +0.20 -0.20  ± 0.00   99/99  INVERTED at 10 dB SNR",
        "  shuffled segments             +0.20  ± 0.00    0/99  rises by 0.20",
        "  shuffled prompts              +0.00  ± 0.00    0/99  does not hear the prompt",
        "TA: not scored; if it hears prompts, give them",
    ]
    assert lines[-1] == found.verdict()


def test_what_fell_and_the_number_beside_it_do_not_contradict_each_other():
    [line] = [each for each in check_of(row(SEGMENTS, [-0.003] * 4)).lines() if each.startswith("  shuffled")]
    assert line == "  shuffled segments             -0.00  ± 0.00     4/4  blind to structure"
    [line] = [each for each in check_of(row(SEGMENTS, [-5e-5] * 4)).lines() if each.startswith("  shuffled")]
    assert line == "  shuffled segments             +0.00  ± 0.00     0/4  blind to structure"


def test_notes_tell_what_was_left_out():
    problems = tuple(f"c{n}, noise 0 dB SNR: broken" for n in range(7))
    found = check_of(
        *GOOD, left_out={"a": "silent"}, problems=problems, too_short=("b",), no_prompts="no target hears prompts"
    )
    assert found.notes() == [
        "shuffled prompts: no target hears prompts",
        "left out: a: silent",
        *(f"not scored: {each}" for each in problems[:5]),
        "not scored: ... (7 in all)",
        "without shuffled segments, as shorter than 3 s: b",
    ]


def test_it_turns_into_plain_values():
    found = check_of(*GOOD, row(PROMPTS, FALL, target=TA)).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["passed"], found["outcome"]) == (True, "passed")
    strongest = found["targets"]["mi"]["noise"]["changes"][-1]
    assert strongest == {"rung": 0, "mean": -0.333, "error": 0.088, "fell": 3, "clips": 3, "moved": 0.333,
                         "half_width_95": 0.379}  # fmt: skip
    assert found["targets"]["mi"]["noise"]["outcome"] == "passed"
    assert found["targets"]["mi"]["shuffled segments"]["outcome"] is None
    assert found["targets"]["ta"]["shuffled prompts"]["verdict"] == "falls as expected"
    assert math.isclose(found["ladders"]["low-pass"]["rungs"][-1], 1)
