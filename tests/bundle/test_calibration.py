"""Intervals: by hand, by brute force, and by how often they hold what they should."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import norm

from audiomos_cache.bundle import Calibration, calibrate, spreads
from audiomos_cache.predictions import Predictions
from audiomos_cache.targets import bin_centres


def test_a_worked_example():
    """Residuals in spreads 1, 2, 3, 4, 5: of 5 the 5th (0.8 * 6 = 4.8), beside a fold's of 4 the 4th (0.8 * 5)."""
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


def brute_force(scores, spread, truth, fold):
    """The same by the definition: the least factor whose intervals hold ceil(0.8 (n + 1)) of n labels."""

    def factor(rows):
        wanted = math.ceil(Fraction(4, 5) * (len(rows) + 1))
        for candidate in sorted(abs(truth[row] - scores[row]) / spread[row] for row in rows):
            if sum(abs(truth[row] - scores[row]) / spread[row] <= candidate for row in rows) >= wanted:
                return candidate
        return None

    held, widths = [], []
    for row in range(len(scores)):
        half = factor([other for other in range(len(scores)) if fold[other] != fold[row]]) * spread[row]
        low, high = max(scores[row] - half, 1), min(scores[row] + half, 5)
        held.append(low <= truth[row] <= high)
        widths.append(high - low)
    return factor(range(len(scores))), np.mean(held), np.mean(widths)


@pytest.mark.parametrize("clips", [6, 14, 19, 24, 49, 50])
def test_it_is_what_brute_force_finds(clips):
    random = np.random.default_rng(clips)
    scores, spread = random.uniform(2, 4, clips), random.uniform(0.1, 0.6, clips)
    truth = np.clip(scores + random.normal(0, spread), 1, 5)
    fold = np.arange(clips) % 3
    found = calibrate(scores, spread, truth, fold)
    assert (found.factor, found.coverage, found.mean_width) == pytest.approx(brute_force(scores, spread, truth, fold))


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
        found = calibrate(scores[:-1], spread[:-1], truth[:-1], np.arange(clips) % 2)
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
    """A fold whose scores are all off by far is not held by what the other folds tell."""
    scores, spread = np.full(40, 3.0), np.full(40, 0.1)
    fold = np.repeat([0, 1], 20)
    truth = np.where(fold == 0, 3.05, 4.0)
    assert calibrate(scores, spread, truth, fold).coverage == 0.5


@pytest.mark.parametrize(
    ("clips", "folds"), [(3, 3), (4, 4), (6, 2)], ids=["of three", "beside a fold three", "of six in halves"]
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


def predictions(mi, dist=None):
    return Predictions.build([f"c{place}" for place in range(len(mi))], mi, mi, dist, None)


def test_spreads_are_those_of_the_fused_distribution():
    """Half at 2 and half at 4 is 1 from the mean; members do not count where the fusion has distributions."""
    five = np.array([[0, 0.5, 0, 0.5, 0], [0, 0, 1, 0, 0]])
    assert spreads([predictions([3, 3])], predictions([3, 3], five), "mi").tolist() == [1, 0]


def test_members_that_disagree_spread_a_fusion_without_distributions():
    """One sure of 2, one sure of 4: together 1 from 3."""
    one, other = (predictions([score], bin_centres(5)[None] == score) for score in (2, 4))
    assert spreads([one, other, predictions([3])], predictions([3]), "mi").tolist() == [1]


def test_scores_alone_have_a_spread_of_one():
    assert spreads([predictions([3, 4])], predictions([3, 4]), "mi").tolist() == [1, 1]
