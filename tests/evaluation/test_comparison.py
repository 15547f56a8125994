"""Paired comparison: swaps against brute force, Holm by hand, and what the sentences say."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats

from audiomos_cache.evaluation import metrics
from audiomos_cache.evaluation.bootstrap import Uncertainty
from audiomos_cache.evaluation.comparison import (
    ROWS,
    Comparison,
    Difference,
    choose_swaps,
    compare,
    holm,
    swap_p_values,
    verdict,
)
from audiomos_cache.evaluation.metrics import Points
from audiomos_cache.targets import MEASURES, VIEWS
from tests.support.studies import Head, study

NUMBERS = {
    "mse": lambda x, y: np.mean((x - y) ** 2),
    "lcc": lambda x, y: stats.pearsonr(x, y).statistic,
    "srcc": lambda x, y: stats.spearmanr(x, y).statistic,
    "ktau": lambda x, y: stats.kendalltau(x, y).statistic,
}


def by_brute_force(measure, a, b, swaps):
    """The share of swaps with a difference as large, every mix of the two predictions made and measured on its own."""
    prepare = {"mse": np.asarray, "lcc": stats.zscore}.get(measure, stats.rankdata)
    x, z = prepare(a.predicted), prepare(b.predicted)

    def difference(swapped):
        mixed = np.where(swapped[a.system], z, x), np.where(swapped[a.system], x, z)
        return abs(NUMBERS[measure](mixed[0], a.truth) - NUMBERS[measure](mixed[1], a.truth))

    observed = difference(np.zeros(swaps.shape[1], bool))
    return (1 + sum(difference(swap) >= observed - 1e-12 for swap in swaps)) / (1 + len(swaps))


@pytest.fixture(scope="module")
def small():
    """Points of six systems of two to four clips, by two predictions, with ties."""
    rng = np.random.default_rng(2)
    system = np.repeat(np.arange(6), [2, 3, 4, 2, 3, 2])
    truth = rng.uniform(1, 5, 16).round(1)
    return [Points((truth + rng.normal(0, spread, 16)).round(1), truth, system) for spread in (0.5, 1.2)]


def test_swaps_are_those_of_brute_force(small):
    swaps = np.array(list(itertools.product([False, True], repeat=6)))
    expected = [by_brute_force(measure, *small, swaps) for measure in MEASURES]
    assert swap_p_values(*small, swaps) == pytest.approx(expected, abs=1e-12)
    assert len(set(expected)) > 1


def test_a_scale_that_a_correlation_does_not_see_changes_its_p_value_not(small):
    a, b = small
    swaps = np.random.default_rng(0).integers(0, 2, (200, 6)).astype(bool)
    stretched = Points(0.2 * b.predicted + 7, b.truth, b.system)
    before, after = swap_p_values(a, b, swaps), swap_p_values(a, stretched, swaps)
    assert before[1:] == pytest.approx(after[1:])
    assert before[0] != after[0]
    cubed = Points(b.predicted**3, b.truth, b.system)
    assert swap_p_values(a, cubed, swaps)[2:] == pytest.approx(before[2:])


@pytest.mark.parametrize("spread", [0, 1e-15, 1e-8])
def test_a_constant_prediction_has_no_p_value_for_correlations(small, spread):
    a, _ = small
    constant = Points(3 + spread * np.random.default_rng(0).uniform(-1, 1, 16), a.truth, a.system)
    found = swap_p_values(a, constant, np.zeros((5, 6), bool))
    assert np.isnan(found[1:]).all()
    assert found[0] == 1.0  # all five "swaps" leave everything as it is


@pytest.mark.parametrize("systems", [1, 2, 6, 12])
def test_of_few_systems_every_swap_is_made_once(systems):
    swaps = choose_swaps(100, systems, seed=0)
    others = set(itertools.product([False, True], repeat=systems)) - {(False,) * systems}
    assert {tuple(swap) for swap in swaps.tolist()} == others
    assert len(swaps) == len(others)


def test_of_many_systems_as_many_swaps_are_drawn_as_were_asked_for():
    assert len(choose_swaps(5000, 12, seed=0)) == 4095
    swaps = choose_swaps(5000, 13, seed=0)
    assert swaps.shape == (5000, 13)
    assert swaps.mean(axis=0) == pytest.approx(np.full(13, 0.5), abs=0.03)


def far_apart(systems):
    """A nearly perfect prediction and noise, of so many systems of 13 clips."""
    rng, system = np.random.default_rng(0), np.repeat(np.arange(systems), 13)
    found = {}, {}
    for target in ("mi", "ta"):
        truth = 3 + rng.normal(0, 0.7, systems)[system] + rng.normal(0, 0.6, len(system))
        for points, error in zip(found, (0.01, 2.0), strict=True):
            errors = rng.normal(0, error, systems)[system] + rng.normal(0, error, len(system))
            means = [np.bincount(system, values) / 13 for values in (truth + errors, truth)]
            points[f"utt_{target}"] = Points(truth + errors, truth, system)
            points[f"sys_{target}"] = Points(*means, np.arange(systems))
    return found


@pytest.mark.parametrize("systems", [2, 8, 9])
def test_it_is_said_that_so_few_systems_show_no_difference(systems):
    least = min(1, 16 * 2 / 2**systems)  # none and all swapped differ as much
    found = compare(*far_apart(systems), n_boot=300)
    p_values = [difference.holm_permutation for difference in found.differences.values()]
    assert least >= 0.05
    assert min(p_values) == pytest.approx(least)
    assert verdict(found, "mi", "a", "b") == (
        f"MI: the data cannot distinguish a from b, nor any others: of {systems} systems the permutation test finds no "
        f"difference; swaps give p = {least:g} at least, corrected for the sixteen numbers."
    )


def test_ten_systems_show_a_difference():
    found = compare(*far_apart(10), n_boot=2000)
    assert min(each.holm_permutation for each in found.differences.values()) == pytest.approx(16 * 2 / 2**10)
    assert verdict(found, "mi", "a", "b").startswith("MI: a is better than b in ")
    assert not found.uncertainty.notes


def test_fewer_tests_are_corrected_for_fewer():
    a, b = far_apart(9)
    constant = [
        {view: Points(np.full(len(p.truth), 3.0), p.truth, p.system) if view.endswith("ta") else p
         for view, p in points.items()}
        for points in (a, b)
    ]  # fmt: skip
    found = compare(*constant, n_boot=2000)  # of TA, MSE alone is defined: 10 tests
    assert found.least_p_value == pytest.approx(10 * 2 / 2**9)
    assert "nor any others" not in verdict(found, "mi", "a", "b")


def test_p_values_are_corrected_over_all_sixteen(better_and_worse):
    a, _ = better_and_worse
    other = {view: Points(0.8 * each.predicted + 0.5, each.truth, each.system) for view, each in a.items()}
    differences = compare(a, other, n_boot=400).differences
    assert len(differences) == 16
    for test in ("bootstrap", "permutation"):
        raw = {row: getattr(each, f"p_{test}") for row, each in differences.items()}
        defined = sorted((row for row in raw if not np.isnan(raw[row])), key=raw.get)
        corrected = 0.0
        for index, row in enumerate(defined):
            corrected = max(corrected, min(1.0, raw[row] * (len(defined) - index)))
            assert getattr(differences[row], f"holm_{test}") == pytest.approx(corrected)


def test_holm_by_hand():
    found = holm(np.array([0.03, 0.01, np.nan, 0.02, 0.5]))  # times 2, 4, -, 3, 1, and never falling
    assert found == pytest.approx([0.06, 0.04, np.nan, 0.06, 0.5], nan_ok=True)
    assert holm(np.array([0.4, 0.9])) == pytest.approx([0.8, 0.9])
    assert holm(np.full(3, np.nan)) == pytest.approx([np.nan] * 3, nan_ok=True)


@pytest.fixture(scope="module")
def better_and_worse():
    return study(np.random.default_rng(5), Head(0.1, 0.3), Head(0.5, 1.0))


@pytest.fixture(scope="module")
def compared(better_and_worse):
    return compare(*better_and_worse, n_boot=2000)


def test_differences_are_those_of_the_numbers_and_their_intervals_hold_them(better_and_worse, compared):
    a, b = better_and_worse
    found = compared
    assert list(found.differences) == list(ROWS)
    for view, measure in ROWS:
        numbers = [getattr(metrics, measure)(each[view].predicted, each[view].truth) for each in (a, b)]
        assert found.differences[view, measure].value == pytest.approx(numbers[0] - numbers[1], abs=1e-12)
        low, high = found.uncertainty.intervals[view, measure]
        assert low < numbers[0] - numbers[1] < high


def test_to_swap_a_and_b_changes_signs_alone(better_and_worse):
    a, b = better_and_worse
    one, other = compare(a, b, n_boot=100), compare(b, a, n_boot=100)
    for row in ROWS:
        there, back = one.differences[row], other.differences[row]
        assert there.value == -back.value
        assert there.p_permutation == back.p_permutation
        assert there.p_bootstrap == pytest.approx(back.p_bootstrap, rel=1e-6)


def test_a_better_head_is_found_and_said(compared):
    assert verdict(compared, "mi", "good", "bad") == (
        "MI: good is better than bad in utt MSE, utt LCC, utt SRCC, utt KTAU, sys MSE, sys LCC, sys SRCC, sys KTAU "
        "(p < 0.05 in both tests, corrected for the sixteen numbers)."
    )
    assert not compared.uncertainty.notes


def test_too_few_resamples_are_said(better_and_worse):
    found = compare(*better_and_worse, n_boot=100)
    assert not found.better("mi")
    assert found.uncertainty.notes == ("100 resamples are too few to find any difference, at least 320 must be drawn",)


def test_the_fewest_resamples_that_are_said_do_find_a_difference(better_and_worse):
    least = 16 / 321  # sixteen times 1 / (B + 1)
    assert least < 0.05 <= 16 / 320
    for n_boot, found in ((319, False), (320, True)):
        comparison = compare(*better_and_worse, n_boot=n_boot)
        p_values = [difference.holm_bootstrap for difference in comparison.differences.values()]
        assert (min(p_values) < 0.05) == found
        assert bool(comparison.uncertainty.notes) != found


def test_the_same_predictions_cannot_be_told_apart():
    (points,) = study(np.random.default_rng(5), Head(0.2, 0.4))
    found = compare(points, points, n_boot=200)
    assert {(d.value, d.p_permutation, d.holm_permutation) for d in found.differences.values()} == {(0.0, 1.0, 1.0)}
    assert verdict(found, "mi", "this", "that") == (
        "MI: the data cannot distinguish this from that: no difference has p < 0.05 in both tests, corrected for the "
        "sixteen numbers."
    )
    assert "the same in every resample" in found.uncertainty.notes[0]


def made(**p_values):
    """A comparison with these differences, (value, corrected bootstrap p, corrected permutation p); others are nil."""
    nil = (0.0, 1.0, 1.0)
    differences = {}
    for view, measure in ROWS:
        value, bootstrap, permutation = p_values.get(f"{view}_{measure}", nil)
        differences[view, measure] = Difference(value, bootstrap, permutation, bootstrap, permutation)
    return Comparison(differences, Uncertainty({}, (), 1, 0), 31, 10_000)


def test_both_tests_must_find_a_difference():
    found = made(utt_mi_mse=(-0.1, 0.01, 0.2), sys_mi_srcc=(0.1, 0.2, 0.01), sys_mi_ktau=(0.1, np.nan, 0.01))
    assert "the data cannot distinguish" in verdict(found, "mi", "a", "b")


def test_a_smaller_mse_and_a_larger_correlation_are_better():
    assert made(utt_mi_mse=(-0.1, 0.01, 0.01)).better("mi") == {("utt_mi", "mse"): "a"}
    assert made(sys_ta_lcc=(-0.1, 0.01, 0.01)).better("ta") == {("sys_ta", "lcc"): "b"}
    assert made(sys_ta_lcc=(-0.1, 0.01, 0.01)).better("mi") == {}


def test_a_mixed_result_is_said():
    found = made(utt_mi_mse=(0.1, 0.01, 0.01), sys_mi_srcc=(0.1, 0.01, 0.01), sys_ta_srcc=(-0.1, 0.01, 0.01))
    assert verdict(found, "mi", "x", "y") == (
        "MI: each is better in some numbers, x in sys SRCC, y in utt MSE (p < 0.05 in both tests, corrected for the "
        "sixteen numbers)."
    )
    assert verdict(found, "ta", "x", "y").startswith("TA: y is better than x in sys SRCC (p < 0.05")


def test_json_holds_no_nan(better_and_worse):
    a, _ = better_and_worse
    constant = {view: Points(np.full(len(each.truth), 3.0), each.truth, each.system) for view, each in a.items()}
    content = compare(a, constant, n_boot=100).to_json()
    json.dumps(content, allow_nan=False)
    assert content["utt_mi"]["srcc"]["p_bootstrap"] is None
    assert content["utt_mi"]["srcc"]["ci"] is None
    assert content["utt_mi"]["mse"]["ci"] is not None
    assert content.keys() == {*VIEWS, "alpha", "n_swaps", "intervals"}


def test_other_points_are_refused(better_and_worse):
    a, b = better_and_worse
    other = b | {"utt_ta": Points(b["utt_ta"].predicted, b["utt_ta"].truth + 0.1, b["utt_ta"].system)}
    with pytest.raises(ValueError, match="utt_ta: found predictions of other points, expected the same truth"):
        compare(a, other)
