"""How often the intervals hold the truth, and how often the tests find what is not there: by simulation.

Measured figures stand in the docstrings; all of these take minutes.
"""

import numpy as np
import pytest

from audiomos_cache.evaluation.bootstrap import LEVEL, Bca, UndefinedIntervalError, bootstrap_intervals
from audiomos_cache.evaluation.comparison import ALPHA, ROWS, compare
from audiomos_cache.evaluation.weighted_metrics import WeightedAgreement
from audiomos_cache.targets import MEASURES
from tests.support.studies import CLIPS, SYSTEM, Head, study

pytestmark = [pytest.mark.slow, pytest.mark.simulation]

STUDIES, RESAMPLES = 200, 2000
GOOD, USUAL, POOR = Head(0.1, 0.3), Head(0.25, 0.5), Head(0.6, 0.8)
# In what share of studies an interval must hold the truth. That of the systems' KTAU is too long, which is known.
HELD = {"mse": (0.91, 0.96), "lcc": (0.92, 0.98), "srcc": (0.92, 0.98), "ktau": (0.92, 0.98)}
HELD_OF_SYSTEMS = HELD | {"ktau": (0.96, 0.99)}


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


def standard_error(share):
    """Of a share found in as many intervals of a number as `STUDIES` make."""
    return np.sqrt(share * (1 - share) / (2 * STUDIES))


def ours(points, seed):
    return bootstrap_intervals(points, RESAMPLES, seed).intervals


@pytest.mark.parametrize("head", [GOOD, USUAL, POOR], ids=["good", "usual", "poor"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(head):
    """Measured in percent, for MSE, LCC, SRCC, KTAU of clips; of systems.

    usual head, 1,000 studies of MI and TA: 93.7, 92.5, 93.6, 93.8; 93.8, 95.0, 96.4, 98.6
    good head, 500 studies:                 95.1, 92.4, 93.3, 93.5; 92.9, 95.4, 97.7, 99.0
    poor head, 500 studies:                 91.8, 92.1, 92.8, 93.2; 92.9, 95.0, 95.3, 97.3

    So an interval of a correlation holds it in 92 to 98 %, but for the systems' KTAU, whose intervals are too long, in
    96 to 99 %; that of an MSE in 91 to 96 %. BCa without the expansion for few systems held it less often, in 400 other
    studies of the usual head, 92.8, 90.6, 92.5, 91.9; 92.4, 93.5, 95.5, 98.1, and with it, in the same, 94.1, 93.0,
    93.6, 93.4; 93.6, 95.5, 96.5, 98.5.

    The limits of the test are these, each two standard errors of 400 intervals wider, for that is what it makes. Its
    own figures:

    good head:  94.0, 92.2, 92.8, 93.0; 91.8, 95.0, 97.2, 98.5
    usual head: 92.0, 92.2, 91.5, 92.2; 93.0, 94.2, 95.2, 97.5
    poor head:  89.8, 91.5, 91.2, 91.8; 92.0, 94.0, 95.8, 97.0
    """
    found = coverage(head, ours)
    for level, row, limits in zip(("utt", "sys"), found, (HELD, HELD_OF_SYSTEMS), strict=True):
        for measure, share in zip(MEASURES, row, strict=True):
            low, high = limits[measure]
            low, high = low - 2 * standard_error(low), high + 2 * standard_error(high)
            assert low < share < high, f"{level} {measure}: {share:.3f}, expected {low:.3f} to {high:.3f}"


def two_stage(points, seed):
    """BCa intervals of system-level numbers where the clips of each drawn system are drawn again as well."""
    rng, found = np.random.default_rng(seed), {}
    for target in ("mi", "ta"):
        clips, systems = points[f"utt_{target}"], points[f"sys_{target}"]
        drawn = rng.integers(0, len(CLIPS), (RESAMPLES // 4, len(CLIPS)))
        predicted, truth = np.empty(drawn.shape), np.empty(drawn.shape)
        for system, count in enumerate(CLIPS):
            chosen = drawn == system
            rows = np.flatnonzero(system == SYSTEM)[rng.integers(0, count, (chosen.sum(), count))]
            predicted[chosen], truth[chosen] = (v[rows].mean(axis=1) for v in (clips.predicted, clips.truth))
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
    """Measured in percent, for MSE, LCC, SRCC, KTAU of systems: 72, 82, 81, 88."""
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
    """Measured: any of the sixteen numbers differs by both tests, corrected, in 1 % of the studies.

    One of them has p < 0.05, uncorrected, in 2.5 to 8 % by swaps (in the mean of the sixteen 5.0 %), and in 2 to 8.5 %
    by the bootstrap (5.8 %).
    """
    found, any_both = rejections(USUAL, USUAL, STUDIES)
    assert found[1].max() < 0.1
    assert found[0].max() < 0.14
    assert any_both < 0.05


def test_a_far_better_head_is_nearly_always_found():
    """Measured: uncorrected, each number in all studies by both tests, but for the systems' SRCC of MI in one."""
    found, any_both = rejections(GOOD, POOR, 25)
    assert any_both == 1.0
    assert found.min() > 0.9
