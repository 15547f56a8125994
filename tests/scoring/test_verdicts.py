"""What is said of changes that are known: nothing that the clips are no evidence of."""

import math

import numpy as np
import pytest
from scipy import stats

from audiomos_cache.scoring.ladders import CLIPPING, LOW_PASS, NOISE, PROMPTS, SEGMENTS
from audiomos_cache.scoring.verdicts import Change
from audiomos_cache.targets import Target
from tests.support.check import MI, TA, row

WIDE = Target("clarity", lowest=0, highest=100)


@pytest.mark.parametrize(
    ("ladder", "target", "differences", "verdict", "outcome"),
    [
        (NOISE, MI, [-0.3, -0.5, -0.2], "falls as expected", "passed"),
        (NOISE, MI, [-0.3, -0.5, -0.1], "uncertain: clips differ", "not decided"),
        (LOW_PASS, MI, [0.3, 0.45, 0.35], "INVERTED: rises by 0.37 at 1 kHz", "failed"),
        (LOW_PASS, MI, [0.3, 0.5, 0.2], "uncertain: clips differ", "not decided"),
        (CLIPPING, MI, [0.0, 0.0, 0.0], "no effect", "failed"),
        (CLIPPING, MI, [-0.06, -0.05, -0.06], "no effect", "failed"),
        (CLIPPING, MI, [-0.09, -0.05, -0.08], "uncertain: moves little", "not decided"),
        (NOISE, MI, [-2.0, 1.5, 0.1], "uncertain: clips differ", "not decided"),
        (NOISE, MI, [], "not scored", "not decided"),
        (NOISE, MI, [-0.3], "hint: falls (1 clip)", "not decided"),
        (NOISE, MI, [0.3, 0.3], "hint: rises (2 clips)", "not decided"),
        (NOISE, MI, [0.0, 0.0], "hint: hardly moves (2 clips)", "not decided"),
        (NOISE, WIDE, [-2.0, -2.1, -1.9], "no effect", "failed"),
        (NOISE, WIDE, [-3.0, -2.4, -2.9], "falls as expected", "passed"),
        (SEGMENTS, MI, [-0.3, -0.5, -0.2], "falls as expected", None),
        (SEGMENTS, MI, [0.01, -0.02, 0.0], "blind to structure", None),
        (SEGMENTS, MI, [0.3, 0.4, 0.3], "rises by 0.33", None),
        (SEGMENTS, MI, [0.9, -0.8, 0.0], "uncertain: clips differ", None),
        (SEGMENTS, MI, [], "not scored", None),
        (PROMPTS, TA, [-0.3, -0.5, -0.2], "falls as expected", "passed"),
        (PROMPTS, TA, [0.0, 0.0, 0.0], "does not hear the prompt", "failed"),
        (PROMPTS, TA, [0.2, 0.3, 0.4], "INVERTED: rises by 0.30", "failed"),
        (PROMPTS, TA, [0.9, -0.8, 0.0], "uncertain: clips differ", "not decided"),
        (PROMPTS, TA, [-0.3], "hint: falls (1 clip)", "not decided"),
        (PROMPTS, MI, [0.0, 0.0, 0.0], "unmoved, as expected", "passed"),
        (PROMPTS, MI, [0.0, 0.0, 0.01], "moves with the prompt", "failed"),
        (PROMPTS, MI, [0.01], "moves with the prompt", "failed"),
        (PROMPTS, MI, [], "not scored", "not decided"),
    ],
)
def test_what_is_said_and_what_it_means_for_the_check(ladder, target, differences, verdict, outcome):
    found = row(ladder, differences, target=target)
    assert (found.verdict, found.outcome) == (verdict, outcome)


@pytest.mark.parametrize(
    ("ladder", "rungs", "verdict"),
    [
        (LOW_PASS, ([1.3, -0.5, 0.7, -0.7], [1.2, -0.5, 0.7, -0.6], [1.0, -0.5, 0.8, -0.6]), "uncertain: clips differ"),
        (CLIPPING, ([0.0] * 4, [0.0] * 4, [-1.3, 0.1, -0.8, 0.1]), "uncertain: clips differ"),
        (NOISE, ([0.0] * 4, [0.0] * 4, [0.9, -0.9, 0.6, -0.4]), "uncertain: clips differ"),
    ],
)
def test_nothing_is_claimed_of_an_effect_that_is_smaller_than_its_interval(ladder, rungs, verdict):
    found = row(ladder, *rungs)
    assert abs(found.strongest.mean) < found.strongest.half_width
    assert (found.verdict, found.outcome) == (verdict, "not decided")


def test_a_rise_on_a_weaker_rung_is_one_too_and_says_which():
    found = row(NOISE, [0.48, 0.5, 0.52], [-0.4, -0.5, -0.6])
    assert (found.verdict, found.outcome) == ("INVERTED: rises by 0.50 at 10 dB SNR", "failed")
    assert found.sentence == "MI rises by 0.50 at 10 dB SNR under noise (INVERTED)"
    assert found.label == "INVERTED at 10 dB SNR"
    assert row(NOISE, [0.01, 0.02, 0.0], [-0.4, -0.5, -0.6]).verdict == "falls as expected"


def test_a_rise_is_corrected_for_the_number_of_rungs():
    differences = [0.3, 0.5, 0.1, 0.1]
    p = stats.ttest_1samp(differences, 0, alternative="greater").pvalue
    assert 0.05 / 3 < p < 0.05
    assert row(NOISE, differences).verdict == "uncertain: clips differ"
    assert row(PROMPTS, differences, target=TA).verdict == "INVERTED: rises by 0.25", "it has one rung"
    assert row(NOISE, [-each for each in differences]).verdict == "falls as expected", "one rung is asked about"


def test_the_check_does_not_depend_on_the_quality_of_other_targets_but_on_all_that_hear_prompts():
    rise = [0.3, 0.45, 0.35]
    assert row(NOISE, rise, target=TA, is_main=False).outcome is None
    assert row(PROMPTS, rise, target=TA, is_main=False).outcome == "failed"


def test_the_interval_is_students_of_clips():
    differences = [-0.3, -0.5, -0.1, 0.2]
    change = Change.of(0, differences)
    low, high = stats.t.interval(0.95, 3, np.mean(differences), stats.sem(differences))
    assert change.mean == pytest.approx((low + high) / 2)
    assert change.half_width == pytest.approx((high - low) / 2)
    assert (change.fell, change.clips, change.moved) == (3, 4, pytest.approx(0.275))
    assert Change.of(0, differences[:2]).half_width is None, "of two clips it says nothing"
    assert Change.of(0, differences[:1]).error is None


def test_what_another_batch_does_to_a_score_is_no_fall():
    assert Change.of(0, [-5e-5, -9e-5, -2e-4]).fell == 1


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("of_tests", [1, 3])
def test_evidence_is_that_of_a_one_sided_test_in_both_directions(sign, of_tests):
    rng = np.random.default_rng(5)
    outcomes = set()
    for _ in range(50):
        differences = sign * rng.normal(0.5, 0.6, size=4)
        mean = np.mean(differences)
        p = stats.ttest_1samp(differences, 0, alternative="greater" if mean > 0 else "less").pvalue
        is_evident = abs(mean) >= 0.1 and p < 0.05 / of_tests
        outcomes.add(is_evident)
        found = Change.of(0, differences).evident(0.1, of_tests)
        assert found == (pytest.approx(mean) if is_evident else 0)
    assert outcomes == {True, False}
    assert Change.of(0, [sign * 1.0] * 2).evident(0.1) == 0, "of two clips it says nothing"
    assert math.isclose(Change.of(0, [sign * 1.0] * 3).evident(0.1), sign)
