"""Intervals: by hand, by brute force, and by how often they hold what they should."""

import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from audiomos_cache.bundle.calibration import Calibration, calibrate, spreads
from audiomos_cache.fusion.base import Blend, Members
from audiomos_cache.targets import bin_centres
from tests.support.bundle import brute_force


def test_a_worked_example():
    """Residuals in spreads 1, 2, 3, 4, 5: of 5 the 5th (0.8 * 6 = 4.8), without a fold's of 4 the 4th (0.8 * 5)."""
    scores, spread = np.full(5, 3.0), np.full(5, 0.1)
    truth = np.array([3.1, 2.8, 3.3, 2.6, 3.5])
    found = calibrate(scores, spread, truth, np.arange(5))
    assert found.factor == pytest.approx(5)
    assert found.clips == 5
    # Held out, each of the first four has the others' largest, 5, and is held; the fifth has 4, and is not.
    assert found.coverage == 4 / 5
    assert found.mean_width == pytest.approx((4 * 2 * 0.5 + 2 * 0.4) / 5)


def test_a_wider_spread_makes_a_wider_interval():
    found = Calibration(factor=2.0, clips=9, coverage=0.8, mean_width=1.0)
    assert found.interval(3.0, 0.25) == (2.5, 3.5)
    assert found.interval(3.0, 0.5) == (2.0, 4.0)
    assert found.interval(1.5, 1.0) == (1.0, 3.5), "no opinion is below 1"
    assert found.interval(4.5, 1.0) == (2.5, 5.0)


@pytest.mark.parametrize("clips", [6, 14, 19, 24, 49, 50])
def test_it_is_what_brute_force_finds(clips):
    random = np.random.default_rng(clips)
    scores, spread = random.uniform(2, 4, clips), random.uniform(0.1, 0.6, clips)
    truth = np.clip(scores + random.normal(0, spread), 1, 5)
    fold = np.arange(clips) % 3
    found = calibrate(scores, spread, truth, fold)
    assert (found.factor, found.coverage, found.mean_width) == pytest.approx(brute_force(scores, spread, truth, fold))


NO_RESAMPLES = ["all"]  # of clips that are all of one group, the interval of the coverage is not asked for


def gaussian_study(random, clips):
    """Listeners' means around scores, as far as a spread says that changes from clip to clip."""
    scores, spread = random.uniform(2.5, 3.5, clips), random.uniform(0.05, 0.4, clips)
    return scores, spread, np.clip(scores + random.normal(0, spread), 1, 5)


def test_new_labels_are_held_as_often_as_is_said():
    """4000 bundles of 29 clips, each judged by one new clip: it is among the 24 nearest of 30 as often as any other."""
    random = np.random.default_rng(0)
    studies, clips = 4000, 29
    held = 0
    for _ in range(studies):
        scores, spread, truth = gaussian_study(random, clips + 1)
        found = calibrate(scores[:-1], spread[:-1], truth[:-1], np.arange(clips) % 2, NO_RESAMPLES * clips)
        low, high = found.interval(scores[-1], spread[-1])
        held += low <= truth[-1] <= high
    assert abs(held / studies - 0.8) < 3 * math.sqrt(0.8 * 0.2 / studies)


def test_the_coverage_that_is_told_is_that_of_the_gaussian():
    random = np.random.default_rng(1)
    clips = 5000
    scores, spread, truth = gaussian_study(random, clips)
    found = calibrate(scores, spread, truth, random.integers(0, 5, clips))
    assert abs(found.coverage - 0.8) < 3 * math.sqrt(0.8 * 0.2 / clips)
    assert found.factor == pytest.approx(norm.ppf(0.9), abs=0.05)
    assert found.mean_width == pytest.approx(2 * norm.ppf(0.9) * spread.mean(), rel=0.05)


def test_coverage_falls_where_the_folds_differ():
    """A fold whose scores are all off by far is not held by the factor of the other folds."""
    scores, spread = np.full(40, 3.0), np.full(40, 0.1)
    fold = np.repeat([0, 1], 20)
    truth = np.where(fold == 0, 3.05, 4.0)
    assert calibrate(scores, spread, truth, fold).coverage == 0.5


@pytest.mark.parametrize(
    ("clips", "folds"), [(3, 3), (4, 4), (6, 2)], ids=["of three", "without a fold three", "of six in halves"]
)
def test_too_few_clips_tell_nothing(clips, folds):
    values = np.linspace(2, 4, clips)
    assert calibrate(values, np.ones(clips), values + 0.1, np.arange(clips) % folds) is None


def test_five_clips_tell_something():
    values = np.linspace(2, 4, 5)
    assert calibrate(values, np.ones(5), values + 0.1, np.arange(5)).factor == pytest.approx(0.1)


def test_clips_without_a_spread_count_only_where_the_score_is_wrong():
    scores, truth, fold = np.full(20, 3.0), np.full(20, 3.2), np.arange(20) % 4
    spread = np.full(20, 0.1)
    spread[:2] = 0.0
    truth[:1] = 3.0
    assert calibrate(scores, spread, truth, fold).factor == pytest.approx(2)
    spread[:8] = 0.0
    assert calibrate(scores, spread, truth, fold) is None, "seven of 20 are infinitely many spreads off"


def study_of_groups(groups, missed, clips_each):
    """Clips whose label is far off in every fifth group or so, `missed` of them, and near in all others."""
    group = np.repeat(np.arange(groups), clips_each)
    scores, spread = np.full(len(group), 3.0), np.full(len(group), 0.1)
    return scores, spread, np.where(group < missed, 4.5, 3.05), group


@pytest.mark.parametrize("clips_each", [1, 5])
@pytest.mark.parametrize(("groups", "missed"), [(10, 1), (40, 4), (200, 30)])
def test_the_coverage_may_be_off_as_far_as_that_many_groups_tell(groups, missed, clips_each):
    """Whole groups are held or missed, so the share of a resample is that of a binomial of as many draws."""
    scores, spread, truth, group = study_of_groups(groups, missed, clips_each)
    found = calibrate(scores, spread, truth, group % 5, group.tolist())
    assert found.coverage == pytest.approx(1 - missed / groups)
    expected = binom.ppf((0.025, 0.975), groups, 1 - missed / groups) / groups
    assert np.abs(np.subtract(found.coverage_ci, expected)).max() < 1.01 / groups  # the next number of groups, at most


def test_groups_of_several_sizes_are_drawn_whole():
    """Two, one of 30 clips held and one of 10 missed: of two draws both are the one, both the other, or one each."""
    scores, spread = np.full(40, 3.0), np.full(40, 0.1)
    group = ["held"] * 30 + ["missed"] * 10
    truth = np.where(np.arange(40) < 30, 3.05, 4.9)
    found = calibrate(scores, spread, truth, np.array([0] * 30 + [1] * 10), group)
    assert (found.coverage, found.coverage_ci) == (0.75, (0.0, 1.0))


def test_clips_that_are_not_grouped_are_their_own_groups():
    scores, spread, truth, group = study_of_groups(60, 9, 1)
    one = calibrate(scores, spread, truth, group % 5)
    assert one == calibrate(scores, spread, truth, group % 5, [f"P{number}" for number in group])
    assert one.coverage_ci[0] < one.coverage < one.coverage_ci[1]


def test_of_one_group_nothing_is_told_of_the_coverage():
    scores, spread, truth, group = study_of_groups(20, 2, 1)
    assert calibrate(scores, spread, truth, group % 5, ["P1"] * 20).coverage_ci is None


@pytest.mark.parametrize("clips", [9, 19, 49, 200])
def test_on_few_clips_the_coverage_is_above_the_level(clips):
    """As the card says: ceil(0.8 n) of n - 1 others, when each clip is held out by itself."""
    random = np.random.default_rng(0)
    fold = np.arange(clips)
    studies = (gaussian_study(random, clips) for _ in range(200))
    coverage = [calibrate(*study, fold, NO_RESAMPLES * clips).coverage for study in studies]
    assert np.mean(coverage) == pytest.approx(math.ceil(0.8 * clips) / clips, abs=0.01)
    assert np.mean(coverage) >= 0.8


def members(*pairs):
    """Members that predict scores of MI, each with a distribution or none."""
    scores, dists = np.array([mi for mi, _ in pairs], float), [dist for _, dist in pairs]
    return Members(tuple("abc"[: len(pairs)]), {"mi": scores, "ta": scores}, {"mi": dists, "ta": [None] * len(pairs)})


def blend(mi, dist=None):
    scores = np.array(mi, float)
    return Blend({"mi": scores, "ta": scores}, {} if dist is None else {"mi": dist})


def test_spreads_are_those_of_the_fused_distribution():
    """Half at 2 and half at 4 is 1 from the mean; members do not count where the fusion has distributions."""
    five = np.array([[0, 0.5, 0, 0.5, 0], [0, 0, 1, 0, 0]])
    assert spreads(members(([3, 3], None)), blend([3, 3], five), "mi").tolist() == [1, 0]


def test_members_that_disagree_spread_a_fusion_without_distributions():
    """One sure of 2, one sure of 4: together 1 from 3."""
    one, other = (([score], (bin_centres(5)[None] == score).astype(float)) for score in (2, 4))
    assert spreads(members(one, other, ([3], None)), blend([3]), "mi").tolist() == [1]


def test_scores_alone_have_a_spread_of_one():
    assert spreads(members(([3, 4], None)), blend([3, 4]), "mi").tolist() == [1, 1]
