import json
import math
import warnings
from fractions import Fraction
from pathlib import Path
from statistics import fmean, mean

import numpy as np
import pytest
from scipy import stats

from audiomos_cache.dataset.labels import Labels, read_labels
from audiomos_cache.errors import DataError
from audiomos_cache.evaluation import metrics
from audiomos_cache.evaluation.predictions import Predictions, read_predictions

GOLDEN = Path(__file__).parents[1] / "golden" / "fusion"


def array(*values):
    return np.array(values, float)


def labels_of(ids, systems, mi, ta):
    return Labels(tuple(ids), tuple(systems), array(*mi), array(*ta))


# Clips in two different orders: a1 a2 b1, systems A A B.
PREDICTIONS = Predictions.build(["b1", "a2", "a1"], [5.0, 2.0, 1.0], [3.0, 3.0, 3.0])
LABELS = labels_of(["a2", "b1", "a1"], ["A", "B", "A"], [4.0, 4.0, 1.0], [1.0, 2.0, 3.0])


def test_mse_by_hand():
    assert metrics.mse(array(1, 2, 4), array(1, 4, 1)) == pytest.approx((0 + 4 + 9) / 3)


def test_lcc_by_hand():
    # Deviations (-1, 0, 1) and (-1, 1, 0): covariance 1, norms sqrt(2) each.
    assert metrics.lcc(array(1, 2, 3), array(1, 3, 2)) == pytest.approx(0.5)


def test_srcc_with_ties_by_hand():
    # Ranks (1, 2.5, 2.5, 4) and (1, 2, 3, 4): deviations (-1.5, 0, 0, 1.5) and (-1.5, -.5, .5, 1.5);
    # covariance 4.5, norms sqrt(4.5) and sqrt(5).
    assert metrics.srcc(array(1, 2, 2, 9), array(1, 2, 3, 4)) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_ktau_with_ties_by_hand():
    # Of the 6 pairs, 5 concordant and 1 tied in the first: tau-b = 5 / sqrt((6 - 1) * 6).
    assert metrics.ktau(array(1, 2, 2, 9), array(1, 2, 3, 4)) == pytest.approx(5 / math.sqrt(30))


@pytest.mark.parametrize("seed", range(5))
def test_correlations_agree_with_scipy(seed):
    x, y = np.random.default_rng(seed).integers(1, 6, (2, 40)) / 1.7
    assert metrics.lcc(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert metrics.srcc(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert metrics.ktau(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("measure", [metrics.lcc, metrics.srcc, metrics.ktau])
@pytest.mark.parametrize("constant", [array(0.1, 0.1, 0.1), array(3)])
def test_constant_input_gives_nan_without_a_warning(measure, constant):
    varied = np.arange(len(constant), dtype=float)
    assert math.isnan(measure(constant, varied))
    assert math.isnan(measure(varied, constant))


@pytest.mark.parametrize("value", [0.1, 3.3, -4.7, 1e6])
@pytest.mark.parametrize("spread", [0.0, 1e-16, 1e-15, 1e-14, 1e-7, 1e-5, 1e-3, 0.1])
def test_what_is_constant_up_to_rounding_has_no_correlation(value, spread):
    """Wherever scipy warns that its number may be wrong; and where float32, in which heads predict, cannot tell."""
    rng = np.random.default_rng(5)
    nearly, truth = value * (1 + spread * rng.uniform(-1, 1, 40)), rng.uniform(1, 5, 40)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        expected = stats.pearsonr(nearly, truth).statistic
    warned = any(issubclass(each.category, stats.DegenerateDataWarning | stats.ConstantInputWarning) for each in caught)
    assert warned == (spread <= 1e-14), "else this test tests nothing"
    in_float32 = np.ptp(nearly.astype(np.float32)) <= 8 * np.spacing(np.float32(abs(value)))
    for measure in (metrics.lcc, metrics.srcc, metrics.ktau):
        found = measure(nearly, truth), measure(truth, nearly)
        assert np.isnan(found).tolist() == [warned or in_float32] * 2
    if not (warned or in_float32):
        assert metrics.lcc(nearly, truth) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("measure", [metrics.lcc, metrics.srcc, metrics.ktau])
def test_correlations_stay_within_one(measure):
    x = array(0.1, 0.2, 0.7)
    assert measure(x, 3 * x) == pytest.approx(1) and measure(x, 3 * x) <= 1
    assert measure(x, -3 * x) == pytest.approx(-1) and measure(x, -3 * x) >= -1


def test_system_means_by_hand():
    means = metrics.system_means(["S2", "S1", "S2"], array(1, 5, 2))
    assert means == {"S1": 5.0, "S2": 1.5}
    assert list(means) == ["S1", "S2"]


@pytest.fixture(scope="module")
def golden():
    """The original's numbers of one of its heads, that head's predictions, and the labels in the original's order."""
    expected = json.loads((GOLDEN / "expected_metrics_dist_a_eval.json").read_text())
    return expected, read_predictions(GOLDEN / "dist_a_eval.pt"), read_labels(GOLDEN / "eval_labels.txt")


def test_evaluate_as_original_agrees_with_the_original(golden):
    expected, predictions, labels = golden
    scores = metrics.compute_metrics(predictions, labels, as_original=True).to_json()
    assert scores.pop("n_clips") == 60
    assert scores.pop("n_systems") == len(set(labels.systems))
    assert scores.keys() == expected.keys()
    for level, numbers in expected.items():
        assert scores[level] == pytest.approx(numbers, abs=1e-9), level


def test_evaluate_agrees_with_the_original_but_where_equal_means_must_tie(golden):
    expected, predictions, labels = golden
    scores = metrics.compute_metrics(predictions, labels).to_json()
    tied = {"sys_mi": exact_rank_correlations(predictions, labels, "mi")}
    tied["sys_ta"] = exact_rank_correlations(predictions, labels, "ta")
    for level, numbers in expected.items():
        assert scores[level] == pytest.approx(numbers | tied.get(level, {}), abs=1e-9), level
        for measure, value in tied.get(level, {}).items():
            assert abs(value - numbers[measure]) > 1e-3, "the original's is another"


def exact_rank_correlations(predictions, labels, target):
    """SRCC and KTAU of the systems' means, as exact fractions of the decimals in the list."""
    predicted = dict(zip(predictions.ids, getattr(predictions, target).tolist(), strict=True))
    clips = list(zip(labels.ids, labels.systems, getattr(labels, target).tolist(), strict=True))
    means = {
        system: (
            fmean(predicted[clip] for clip, of, _ in clips if of == system),
            mean(Fraction(str(score)) for _, of, score in clips if of == system),
        )
        for system in set(labels.systems)
    }
    x, true = zip(*means.values(), strict=True)
    y = [sorted(true).index(each) for each in true]  # equal fractions share a rank
    return {"srcc": stats.spearmanr(x, y).statistic, "ktau": stats.kendalltau(x, y).statistic}


def shuffled(labels, seed):
    order = np.random.default_rng(seed).permutation(len(labels.ids))
    ids, systems = ([column[row] for row in order] for column in (labels.ids, labels.systems))
    return labels_of(ids, systems, labels.mi[order], labels.ta[order])


def test_the_order_of_the_lines_decides_nothing(golden):
    _, predictions, labels = golden
    shuffles = [shuffled(labels, seed) for seed in range(30)]
    assert {metrics.compute_metrics(predictions, each) for each in (labels, *shuffles)} == {
        metrics.compute_metrics(predictions, labels)
    }
    assert len({metrics.compute_metrics(predictions, each, as_original=True).sys_mi.srcc for each in shuffles}) > 1


def test_equal_means_tie_unless_as_original():
    # In floats 1.0 + 1.2 + 1.6 is more than 1.6 + 1.2 + 1.0, so the original ranks two systems of equal mean.
    rising, falling = array(1.0, 1.2, 1.6), array(1.6, 1.2, 1.0)
    assert sum(rising) > sum(falling)
    assert metrics.system_means("SSS", rising) == metrics.system_means("SSS", falling)
    values = [*rising, *falling, 3.0]
    predictions = Predictions.build("gfedcba", values, values)  # sorted: its order is the reverse
    labels = labels_of("gfedcba", "XXXYYYZ", values, values)
    truth = {"X": (2.0, 1.0), "Y": (1.0, 2.0), "Z": (3.0, 3.0)}
    scores = metrics.compute_metrics(predictions, labels, truth)
    # Ranks (1.5, 1.5, 3) and (2, 1, 3), or (1, 2, 3).
    assert (scores.sys_mi.srcc, scores.sys_ta.srcc) == pytest.approx((math.sqrt(0.75), math.sqrt(0.75)))
    scores = metrics.compute_metrics(predictions, labels, truth, as_original=True)
    assert (scores.sys_mi.srcc, scores.sys_ta.srcc) == pytest.approx((1.0, 0.5))


def test_evaluate_joins_by_id():
    scores = metrics.compute_metrics(PREDICTIONS, LABELS)
    assert scores.utt_mi.mse == pytest.approx((0 + 4 + 1) / 3)
    # Means: predicted A 1.5, B 5; true A 2.5, B 4.
    assert scores.sys_mi.mse == pytest.approx(1.0)
    assert scores.sys_mi.srcc == pytest.approx(1.0)
    assert (scores.n_clips, scores.n_systems) == (3, 2)


def test_what_is_not_defined_is_null_in_json():
    found = metrics.compute_metrics(PREDICTIONS, LABELS).to_json()
    assert found["utt_ta"] == {"mse": pytest.approx(5 / 3), "lcc": None, "srcc": None, "ktau": None}
    json.dumps(found, allow_nan=False)


def test_system_truth_replaces_the_means():
    truth = {"B": (3.0, 1.0), "A": (1.5, 2.0), "elsewhere": (1.0, 1.0)}
    scores = metrics.compute_metrics(PREDICTIONS, LABELS, truth)
    assert scores.sys_mi.mse == pytest.approx((0 + 4) / 2)
    assert scores.sys_ta.mse == pytest.approx((1 + 4) / 2)
    assert scores.utt_mi == metrics.compute_metrics(PREDICTIONS, LABELS).utt_mi


def test_a_system_without_truth_is_refused():
    with pytest.raises(DataError) as error:
        metrics.compute_metrics(PREDICTIONS, LABELS, {"A": (1.0, 1.0)})
    assert str(error.value) == "system-level truth: nothing for systems B, expected MI and TA"


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a1", "a2", "c"], "missing clips of the labels: c; clips that are not in the labels: b1"),
        (["a1", "b1", "b1"], "clips that are not in the labels: a2; clips more than once in the labels: b1"),
    ],
)
def test_other_clips_are_refused(ids, message):
    with pytest.raises(DataError) as error:
        metrics.compute_metrics(PREDICTIONS, labels_of(ids, "AAB", [1, 2, 3], [1, 2, 3]))
    assert str(error.value) == f"predictions: {message}; both must hold the same clips"
