"""The methods on predictions in memory, against values worked out by hand, other solvers and brute force."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize

from audiomos_cache.dataset.labels import Labels
from audiomos_cache.errors import DataError
from audiomos_cache.evaluation.metrics import compute_metrics
from audiomos_cache.evaluation.predictions import Predictions, read_predictions
from audiomos_cache.fusion.align import align_labels, fuse_predictions, join_members, predictions_of
from audiomos_cache.fusion.averages import MeanFusion, simplex_weights
from audiomos_cache.fusion.base import FittedFusion, fusion_class
from audiomos_cache.fusion.fitting import out_of_fold
from audiomos_cache.registry import known
from tests.support.fusion import (
    EVAL,
    MODELS,
    clip_ids,
    distribution,
    fit,
    good_and_random,
    labels_of,
    no_groups,
    scalar,
)

METHODS = ("mean", "weighted", "ridge", "lightgbm", "greedy")
LEARNED = METHODS[1:]


def test_the_built_in_methods():
    assert known("fusion")[: len(METHODS)] == list(METHODS)
    assert [method for method in METHODS if issubclass(fusion_class(method), FittedFusion)] == list(LEARNED)


# mean


def test_mean_by_hand():
    fused = fuse_predictions(MeanFusion(["x", "y"]), [scalar(), distribution()])
    assert fused.ids == ("a", "b")
    assert fused.mi.tolist() == [2.0, 3.0]
    assert fused.ta.tolist() == [2.0, 3.0]
    assert fused.mi_dist is None and fused.ta_dist is None


def test_mean_averages_distributions():
    one, other = distribution(), distribution(mi=(1.0, 5.0))
    fused = fuse_predictions(MeanFusion(["x", "y"]), [one, other])
    assert np.allclose(fused.mi_dist, (one.mi_dist + other.mi_dist) / 2, atol=1e-15)
    assert np.allclose(fused.ta_dist, (one.ta_dist + other.ta_dist) / 2, atol=1e-15)


# weighted


def brute_simplex(scores, truth):
    """The best weights by another solver, from the best of many points."""

    def loss(weights):
        return float(np.mean((weights @ scores - truth) ** 2))

    points = np.random.default_rng(0).dirichlet(np.ones(len(scores)), 2000)
    found = minimize(
        loss,
        min(points, key=loss),
        method="SLSQP",
        bounds=[(0, 1)] * len(scores),
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return found.x, loss(found.x)


@pytest.mark.parametrize("seed", range(8))
def test_weights_are_optimal(seed):
    """The optimality conditions of the constrained problem, which is convex: they prove the weights, no solver does."""
    random = np.random.default_rng(seed)
    truth = random.uniform(1, 5, 90)
    members = int(random.integers(2, 12))
    scores = truth * random.uniform(0, 1, (members, 1)) + random.normal(0, 0.7, (members, 90)) + 1
    weights = simplex_weights(scores, truth)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    gradient = (scores - truth) @ (weights @ scores - truth)
    taken = weights > 1e-12
    assert np.ptp(gradient[taken]) < 1e-9 * abs(gradient).max()
    assert (gradient[~taken] >= gradient[taken].max() - 1e-9 * abs(gradient).max()).all()
    assert np.mean((weights @ scores - truth) ** 2) <= brute_simplex(scores, truth)[1] + 1e-9


def test_weights_of_two_members_by_hand():
    """Errors (1, 0) and (0, 2): the nearest point to zero of the line between them is at 4/5 and 1/5."""
    truth = np.array([3.0, 3.0])
    assert np.allclose(simplex_weights(truth + np.diag([1.0, 2.0]), truth), [0.8, 0.2], atol=1e-12)


def test_weights_at_a_corner_and_of_a_perfect_member():
    truth = np.array([1.0, 2.0, 4.0])
    assert np.allclose(simplex_weights(np.stack([truth + 1, truth + 2]), truth), [1, 0])
    assert np.allclose(simplex_weights(np.stack([truth + 1, truth]), truth), [0, 1])
    assert np.allclose(simplex_weights(np.stack([truth, truth]), truth).sum(), 1)


def test_weights_are_those_of_each_target_and_blend_the_distributions():
    members = [distribution(mi=(3.0, 4.0), ta=(1.0, 2.0)), distribution(mi=(4.0, 4.5), ta=(2.0, 3.0))]
    labels = labels_of("ab", [3.0, 4.0], [2.0, 3.0])
    fusion = fit("weighted", ["x", "y"], members, labels)
    assert np.allclose(fusion.weights["mi"], [1, 0], atol=1e-9)
    assert np.allclose(fusion.weights["ta"], [0, 1], atol=1e-9)
    fused = fuse_predictions(fusion, members)
    assert np.allclose(fused.mi, [3, 4], atol=1e-9) and np.allclose(fused.ta, [2, 3], atol=1e-9)
    assert np.allclose(fused.mi_dist, members[0].mi_dist, atol=1e-9)
    assert np.allclose(fused.ta_dist, members[1].ta_dist, atol=1e-9)
    mixed = [members[0], scalar()]
    assert fuse_predictions(fit("weighted", ["x", "y"], mixed, labels), mixed).mi_dist is None


# What all have in common


@pytest.mark.parametrize("method", METHODS)
def test_any_fusion_goes_through_its_json(method, dev):
    if method == "lightgbm":
        pytest.importorskip("lightgbm")
    members, labels = dev
    fusion = fit(method, MODELS, members, labels) if method in LEARNED else fusion_class(method)(MODELS)
    again = fusion_class(method).from_json(MODELS, json.loads(json.dumps(fusion.to_json(), allow_nan=False)))
    new = [read_predictions(path) for path in EVAL]
    one, other = fuse_predictions(fusion, new), fuse_predictions(again, new)
    assert fusion.method == again.method == method
    assert again.names == MODELS
    for name in ("mi", "ta", "mi_dist", "ta_dist"):
        assert np.array_equal(getattr(one, name), getattr(other, name)) or getattr(one, name) is None, name


@pytest.mark.parametrize("method", LEARNED)
def test_labels_are_joined_by_id(method, dev):
    if method == "lightgbm":
        pytest.importorskip("lightgbm")
    members, labels = dev
    turned = Labels(labels.ids[::-1], labels.systems[::-1], labels.mi[::-1], labels.ta[::-1])
    one, other = (fuse_predictions(fit(method, MODELS, members, given), members) for given in (labels, turned))
    assert np.array_equal(one.mi, other.mi) and np.array_equal(one.ta, other.ta)


@pytest.mark.parametrize("method", LEARNED)
def test_labels_of_other_clips_are_refused(method):
    labels = labels_of("abc", [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match=r"x: missing clips of the labels: c; both must hold the same clips"):
        fit(method, ["x"], [scalar()], labels)
    nan = labels_of("ab", [1.0, np.nan])
    with pytest.raises(DataError, match=r"labels of MI that are not from 1 to 5: b; correct the list"):
        fit(method, ["x"], [scalar()], nan)


@pytest.mark.parametrize("method", METHODS)
def test_distributions_on_other_bins_are_refused(method):
    members = [distribution(bins=4), distribution(bins=5)]
    with pytest.raises(DataError) as error:
        if method in LEARNED:
            fit(method, ["x", "y"], members, labels_of("ab", [1.0, 2.0]))
        fuse_predictions(fusion_class(method)(["x", "y"]), members)
    assert str(error.value) == (
        "distributions of mi on different bins: x has 4, y has 5; fuse heads of one number of bins, or answers"
    )


@pytest.mark.parametrize(
    ("method", "content"),
    [
        ("mean", {"weights": [0.5]}),
        ("weighted", {"weights": {"mi": [0.5, 0.6], "ta": [0.5, 0.5]}}),
        ("weighted", {"weights": {"mi": [1.5, -0.5], "ta": [0.5, 0.5]}}),
        ("greedy", {"weights": {"mi": [0.5, 0.5], "ta": [0.5, 0.5]}}),
        ("weighted", {"weights": {"mi": [float("nan"), 1.0], "ta": [0.5, 0.5]}}),
        ("ridge", {}),
        ("ridge", {"mi": {"features": ["pickle"], "bins": 1, "coefficients": [[1.0]], "intercept": 0}}),
        ("ridge", {"mi": {"features": ["score"], "bins": 2, "coefficients": [[1.0]], "intercept": 0}}),
    ],
)
def test_a_damaged_description_is_refused(method, content):
    with pytest.raises((LookupError, TypeError, ValueError)):
        fusion_class(method).from_json(["x", "y"], content)


@pytest.mark.parametrize("method", ["weighted", "ridge", "greedy"])
def test_random_members_raise_the_in_fold_score_and_not_the_out_of_fold_one(method):
    """Forty random members and three good ones, on the scores that `fuse` shows and on those that it never does."""
    scores, truth, is_good = good_and_random(1, clips=160)
    ids = clip_ids(160)
    labels = labels_of(ids, truth, systems=[clip[20:24] for clip in ids])
    good = [Predictions.build(ids, each, each) for each in scores[is_good]]
    all_of_them = [Predictions.build(ids, each, each) for each in scores]

    def correlations(members):
        names = [str(number) for number in range(len(members))]
        in_fold = fuse_predictions(fit(method, names, members, labels), members)
        ids, joined = join_members(members, names)
        aligned = align_labels(labels, ids, "x")
        held_out = predictions_of(ids, out_of_fold(fusion_class(method), joined, aligned, no_groups(labels)))
        return compute_metrics(in_fold, labels).utt_mi, compute_metrics(held_out, labels).utt_mi

    few_in, few_out = correlations(good)
    many_in, many_out = correlations(all_of_them)
    if method == "greedy":  # which takes none of them, so both stay what they are
        assert (many_in.mse, many_out.mse) == pytest.approx((few_in.mse, few_out.mse), abs=1e-12)
    else:
        assert many_in.mse < few_in.mse and many_in.lcc > few_in.lcc
        assert many_out.mse > few_out.mse and many_out.lcc < few_out.lcc
