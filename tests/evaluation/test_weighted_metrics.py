"""Weighted statistics against scipy on data whose clips are really repeated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from audiomos_cache.evaluation import weighted_metrics
from audiomos_cache.evaluation.weighted_metrics import WeightedAgreement

CORRELATIONS = (stats.pearsonr, stats.spearmanr, stats.kendalltau)


def repeated(x, y, group, counts):
    """What scipy says of the points, each as often as its group was drawn."""
    times = counts[group].astype(int)
    x, y = np.repeat(x, times), np.repeat(y, times)
    if not np.ptp(x) or not np.ptp(y):
        return [np.mean((x - y) ** 2), np.nan, np.nan, np.nan]
    return [np.mean((x - y) ** 2), *(measure(x, y).statistic for measure in CORRELATIONS)]


@pytest.mark.parametrize("decimals", [None, 1, 0], ids=["no ties", "some ties", "mostly ties"])
def test_numbers_are_those_of_the_repeated_clips(decimals):
    rng = np.random.default_rng(7)
    group = rng.permutation(np.repeat(np.arange(8), rng.integers(1, 12, 8)))
    x = rng.uniform(1, 5, len(group))
    y = 0.6 * x + rng.uniform(0, 2, len(group))
    if decimals is not None:
        x, y = x.round(decimals), y.round(decimals)
    counts = np.apply_along_axis(np.bincount, 1, rng.integers(8, size=(50, 8)), minlength=8).astype(float)
    expected = [repeated(x, y, group, row) for row in counts]
    np.testing.assert_allclose(WeightedAgreement(x, y, group)(counts), expected, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_numbers_of_any_few_points_are_those_of_the_repeated_points(data):
    groups = data.draw(st.integers(1, 4))
    extra = data.draw(st.lists(st.integers(0, groups - 1), max_size=6))
    group = np.array([*range(groups), *extra])
    scores = st.lists(st.integers(1, 4), min_size=len(group), max_size=len(group))
    x, y = (np.array(data.draw(scores), float) for _ in range(2))
    counts = np.array(data.draw(st.lists(st.integers(0, 3), min_size=groups, max_size=groups)), float)
    counts[data.draw(st.integers(0, groups - 1))] += 1
    found = WeightedAgreement(x, y, group)(counts[None])[0]
    np.testing.assert_allclose(found, repeated(x, y, group, counts), rtol=0, atol=1e-12)


def test_a_resample_of_equal_values_has_no_correlation_and_warns_of_nothing():
    x, y = np.array([0.1, 0.1, 0.1, 0.3]), np.array([1.0, 2.0, 3.0, 4.0])
    weigh = WeightedAgreement(x, y, np.array([0, 0, 1, 2]))
    found = weigh(np.array([[3.0, 1.0, 0.0], [0.0, 0.0, 4.0], [1.0, 1.0, 1.0]]))
    assert np.isnan(found[:, 1:]).all(axis=1).tolist() == [True, True, False]
    assert np.isfinite(found[:, 0]).all()


def test_a_resample_of_values_that_differ_by_rounding_alone_has_no_correlation():
    """The last group has another prediction: only resamples that draw it vary."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(4), 6)
    nearly, truth = np.where(group == 3, 2.0, 3.3) + rng.uniform(-1e-15, 1e-15, 24), rng.uniform(1, 5, 24)
    weights = np.array([[1.0, 1, 1, 1], [4, 0, 0, 0], [1, 2, 1, 0], [1, 1, 0, 2]])
    for found in (WeightedAgreement(nearly, truth, group)(weights), WeightedAgreement(truth, nearly, group)(weights)):
        assert np.isnan(found[:, 1:]).tolist() == [[False] * 3, [True] * 3, [True] * 3, [False] * 3]
        assert np.isfinite(found[:, 0]).all()


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    x, y = rng.uniform(1, 5, (2, 40)).round(1)
    group = np.arange(40) % 6
    counts = rng.integers(1, 4, (30, 6)).astype(float)
    whole = WeightedAgreement(x, y, group)(counts)
    monkeypatch.setattr(weighted_metrics, "_BLOCK", 100)
    np.testing.assert_array_equal(WeightedAgreement(x, y, group)(counts), whole)
