"""How often the intervals hold the truth, and how often the tests find what is not there: by simulation.

Measured figures stand in the docstrings; all of these are slow.
"""

import numpy as np
import pytest

from audiomos_cache.evaluation import Bca, UndefinedIntervalError, bootstrap_intervals, compare
from audiomos_cache.evaluation.bootstrap import LEVEL
from audiomos_cache.evaluation.comparison import ALPHA, ROWS
from audiomos_cache.evaluation.weighted import WeightedAgreement
from audiomos_cache.metrics import MEASURES
from tests.evaluation.studies import CLIPS, SYSTEM, Head, study

pytestmark = pytest.mark.slow

STUDIES, RESAMPLES = 200, 2000
GOOD, USUAL, POOR = Head(0.1, 0.3), Head(0.25, 0.5), Head(0.6, 0.8)


def coverage(head, intervals_of, studies=STUDIES):
    """The share of intervals that hold the truth, (utterance, system) x four numbers.

    MI and TA of a study are drawn independently, so there are two intervals of each number in a study.
    """
    rng = np.random.default_rng(1)
    truth = dict(zip(("utt", "sys"), head.true_numbers(), strict=True))
    held = np.zeros((2, 4))
    for seed in range(studies):
        (points,) = study(rng, head)
        for (view, measure), (low, high) in intervals_of(points, seed).items():
            column = MEASURES.index(measure)
            held[int(view.startswith("sys")), column] += low <= truth[view[:3]][column] <= high
    return held / (2 * studies)


def ours(points, seed):
    return bootstrap_intervals(points, RESAMPLES, seed).intervals


@pytest.mark.parametrize("head", [GOOD, USUAL, POOR], ids=["good", "usual", "poor"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(head):
    found = coverage(head, ours)
    assert (found[:, 1:] > 0.9).all()


def two_stage(points, seed):
    """BCa intervals of system-level numbers where the clips of each drawn system are drawn anew as well."""
    rng, found = np.random.default_rng(seed), {}
    for target in ("mi", "ta"):
        clips, systems = points[f"utt_{target}"], points[f"sys_{target}"]
        drawn = rng.integers(0, len(CLIPS), (RESAMPLES // 4, len(CLIPS)))
        predicted, truth = np.empty(drawn.shape), np.empty(drawn.shape)
        for system, count in enumerate(CLIPS):
            places = drawn == system
            rows = np.flatnonzero(system == SYSTEM)[rng.integers(0, count, (places.sum(), count))]
            predicted[places], truth[places] = (v[rows].mean(axis=1) for v in (clips.predicted, clips.truth))
        one = np.ones((1, len(CLIPS)))
        replicates = [WeightedAgreement(x, y, systems.system)(one)[0] for x, y in zip(predicted, truth, strict=True)]
        weigh = WeightedAgreement(systems.predicted, systems.truth, systems.system)
        columns = np.array(replicates).T, weigh(one)[0], weigh(1 - np.eye(len(CLIPS))).T
        for measure, *column in zip(MEASURES, *columns, strict=True):
            try:
                found[f"sys_{target}", measure] = Bca.of(*column).expanded_interval(LEVEL)
            except UndefinedIntervalError:
                continue  # which holds nothing
    return found


def test_to_draw_clips_anew_would_hold_it_far_less_often():
    found = coverage(GOOD, two_stage, 50)[1]
    assert (found < 0.9).all()


def rejections(a, b, studies):
    """The share of studies in which each number differs by each test, uncorrected, and any by both, corrected."""
    rng, found, any_both = np.random.default_rng(2), np.zeros((2, 16)), 0
    for seed in range(studies):
        comparison = compare(*study(rng, a, b), n_boot=RESAMPLES, seed=seed)
        differences = [comparison.differences[row] for row in ROWS]
        found += [[d.p_bootstrap < ALPHA for d in differences], [d.p_permutation < ALPHA for d in differences]]
        any_both += any(d.p_value < ALPHA for d in differences)
    return found.reshape(2, 4, 4) / studies, any_both / studies


def test_heads_that_are_equally_good_are_rarely_told_apart():
    found, any_both = rejections(USUAL, USUAL, STUDIES)
    assert found[1].max() < 0.1
    assert found[0].max() < 0.14
    assert any_both < 0.05


def test_a_far_better_head_is_nearly_always_found():
    found, any_both = rejections(GOOD, POOR, 25)
    assert any_both == 1.0
    assert found.min() > 0.9
