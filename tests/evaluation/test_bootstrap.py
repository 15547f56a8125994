"""Intervals against scipy's on the same resamples, and every case in which there is none."""

import math

import numpy as np
import pytest
from scipy import stats

from audiomos_cache.evaluation.bootstrap import (
    LEVEL,
    Bca,
    UndefinedIntervalError,
    bootstrap_intervals,
    draw_systems,
    expanded_level,
)
from audiomos_cache.evaluation.metrics import Points
from audiomos_cache.evaluation.weighted_metrics import WeightedAgreement
from audiomos_cache.targets import MEASURES
from tests.support.studies import Head, study

SYSTEMS, RESAMPLES, SEED = 9, 300, 4


def scipys(points, measure, level):
    """scipy's BCa over whole systems, whose clips are really repeated: it draws from the same generator as we do."""
    of = {
        "mse": lambda x, y: np.mean((x - y) ** 2),
        "lcc": lambda x, y: stats.pearsonr(x, y).statistic,
        "srcc": lambda x, y: stats.spearmanr(x, y).statistic,
        "ktau": lambda x, y: stats.kendalltau(x, y).statistic,
    }[measure]

    def number(drawn):
        rows = np.concatenate([np.flatnonzero(points.system == system) for system in drawn])
        return of(points.predicted[rows], points.truth[rows])

    found = stats.bootstrap(
        (np.arange(points.system.max() + 1),), number, n_resamples=RESAMPLES, vectorized=False, method="BCa",
        confidence_level=level, rng=np.random.default_rng(SEED),
    )  # fmt: skip
    return tuple(found.confidence_interval)


@pytest.fixture(scope="module")
def points():
    """MI and TA of nine systems of 2 to 12 clips, with ties as listeners' means have them."""
    rng = np.random.default_rng(11)
    clips = rng.integers(2, 13, SYSTEMS)
    system = np.repeat(np.arange(SYSTEMS), clips)
    found = {}
    for target in ("mi", "ta"):
        truth = np.clip(3 + rng.normal(0, 0.7, SYSTEMS)[system] + rng.normal(0, 0.6, len(system)), 1, 5).round(1)
        predicted = truth + rng.normal(0, 0.3, SYSTEMS)[system] + rng.normal(0, 0.5, len(system))
        found[f"utt_{target}"] = Points(predicted, truth, system)
        mean = [np.bincount(system, values) / clips for values in (predicted, truth)]
        found[f"sys_{target}"] = Points(*mean, np.arange(SYSTEMS))
    return found


@pytest.mark.parametrize("view", ["utt_mi", "sys_ta"])
@pytest.mark.parametrize("measure", MEASURES)
def test_intervals_are_scipys_on_the_same_resamples(points, view, measure):
    column = MEASURES.index(measure)
    weigh = WeightedAgreement(points[view].predicted, points[view].truth, points[view].system)
    replicates = weigh(draw_systems(RESAMPLES, SYSTEMS, SEED))[:, column]
    estimate = weigh(np.ones((1, SYSTEMS)))[0, column]
    bca = Bca.of(replicates, estimate, weigh(1 - np.eye(SYSTEMS))[:, column])
    assert bca.interval(0.9) == pytest.approx(scipys(points[view], measure, 0.9), abs=1e-10)
    shown = bootstrap_intervals(points, RESAMPLES, SEED).intervals[view, measure]
    assert shown == pytest.approx(scipys(points[view], measure, expanded_level(LEVEL, SYSTEMS)), abs=1e-10)


def test_the_level_is_raised_as_by_hand():
    # 31 systems: sqrt(31 / 30) * 2.0423 (Student's t, 30 degrees of freedom) = 2.0760; normal between -+ that: .96210.
    assert expanded_level(0.95, 31) == pytest.approx(0.96210, abs=1e-5)
    assert expanded_level(0.95, 10**6) == pytest.approx(0.95, abs=1e-5)


def test_draws_are_as_many_systems_as_there_are_each_as_likely():
    counts = draw_systems(20_000, 7, seed=1)
    assert (counts.sum(axis=1) == 7).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(7), abs=0.03)
    assert counts.var(axis=0) == pytest.approx(np.full(7, 6 / 7), abs=0.05)  # binomial(7, 1/7)


@pytest.mark.parametrize("null", [0.3, 0.6])
def test_the_p_value_is_that_of_the_interval_that_just_reaches_the_null(null):
    rng = np.random.default_rng(0)
    values = rng.gamma(2, 0.25, 25)
    replicates = rng.choice(values, (20_000, 25)).mean(axis=1)
    jackknife = (values.sum() - values) / 24
    bca = Bca.of(replicates, values.mean(), jackknife)
    p = bca.expanded_p_value(null)
    assert 0.001 < p < 0.5
    low, high = bca.expanded_interval(1 - p)
    assert min(abs(low - null), abs(high - null)) < 1e-3


def test_a_p_value_is_no_less_than_one_resample_and_one_in_the_middle():
    replicates = np.random.default_rng(0).normal(5, 1, 1001)
    bca = Bca.of(replicates, float(np.median(replicates)), np.linspace(4.9, 5.1, 500))
    assert bca.expanded_p_value(0.0) == pytest.approx(2 / 1002, rel=0.2)  # both tails
    skewed = Bca.of(replicates, float(np.quantile(replicates, 0.99)), np.linspace(4.9, 5.1, 500))
    assert skewed.expanded_p_value(0.0) == 1 / 1002
    assert bca.expanded_p_value(float(np.median(replicates))) == pytest.approx(1, abs=0.01)


NAN = math.nan
GOOD = np.linspace(0, 1, 101)


@pytest.mark.parametrize(
    ("replicates", "estimate", "jackknife", "message"),
    [
        (GOOD, NAN, [0.4, 0.5], "it is not defined"),
        (GOOD, 0.5, [0.4, NAN], "it is not defined without one of the systems"),
        (np.append(GOOD, [NAN] * 6), 0.5, [0.4, 0.5], "it is not defined in 6 of 107 resamples"),
        (np.full(101, 0.1 + 0.2), 0.3, [0.3, 0.3], "it is the same in every resample"),
        (GOOD, 1.5, [0.4, 0.5], "it is above what every resample gives"),
        (GOOD, -0.5, [0.4, 0.5], "it is below what every resample gives"),
    ],
)
def test_there_is_no_interval(replicates, estimate, jackknife, message):
    with pytest.raises(UndefinedIntervalError) as error:
        Bca.of(replicates, estimate, np.array(jackknife))
    assert str(error.value) == message


def test_a_few_undefined_resamples_are_left_out_and_counted():
    bca = Bca.of(np.append(GOOD, [NAN] * 5), 0.5, np.array([0.4, 0.5, 0.6]))
    assert bca.undefined == 5
    assert bca.interval(0.9) == pytest.approx(Bca.of(GOOD, 0.5, np.array([0.4, 0.5, 0.6])).interval(0.9))


def test_an_end_that_is_nowhere_is_the_most_extreme_replicate():
    # One system in 30 decides: a = 0.158. One replicate in 400,001 is above: z0 = 4.6, and 1 - a (z0 + 1.96) < 0.
    bca = Bca.of(np.linspace(0, 1, 400_001), 1 - 1.25e-6, np.array([0.0] + [1.0] * 29))
    assert 1 - bca.acceleration * (bca.bias + 1.96) < 0
    assert bca.interval(0.95)[1] == 1.0


def test_intervals_of_five_systems_say_which_resamples_were_left_out():
    # One of five systems alone varies in its truth: a resample without it has no correlation, (4/5)^5 = 33 % of them.
    system = np.repeat(np.arange(5), 2)
    predicted, truth = np.arange(10.0), np.array([1.0, 2.0] + [3.0] * 8)
    utterances = Points(predicted, truth, system)
    means = Points(np.arange(5.0), np.array([1.5, 3, 3, 3, 3]), np.arange(5))
    points = {"utt_mi": utterances, "utt_ta": utterances, "sys_mi": means, "sys_ta": means}
    found = bootstrap_intervals(points, 1000, seed=0)
    assert set(found.intervals) == {(view, "mse") for view in points}
    assert found.notes[0] == "5 systems are few: such intervals are too short"
    assert found.notes[1].endswith("ktau: no interval, it is not defined without one of the systems")


def test_perfect_predictions_have_no_interval_rather_than_a_certain_one():
    (points,) = study(np.random.default_rng(0), Head(0.0, 0.0))
    found = bootstrap_intervals(points, 100)
    assert not found.intervals
    assert found.notes == ("all sixteen: no interval, it is the same in every resample",)


@pytest.mark.parametrize("n_boot", [1, 99])
def test_of_few_resamples_no_interval_is_made(points, n_boot):
    found = bootstrap_intervals(points, n_boot)
    assert not found.intervals
    assert found.notes == ("no intervals: they take 3 systems and 100 resamples, or more",)
    assert len(bootstrap_intervals(points, 100).intervals) == 16


def test_nearly_equal_predictions_have_no_interval_of_a_correlation(points):
    nearly = {
        view: Points(3 + 1e-9 * each.predicted, each.truth, each.system) if view.endswith("mi") else each
        for view, each in points.items()
    }
    found = bootstrap_intervals(nearly, 200)
    of_mi = {row for row in found.intervals if row[0].endswith("mi")}
    assert of_mi == {("utt_mi", "mse"), ("sys_mi", "mse")}
    names = ", ".join(f"{view} {measure}" for view in ("utt_mi", "sys_mi") for measure in ("lcc", "srcc", "ktau"))
    assert f"{names}: no interval, it is not defined" in found.notes
