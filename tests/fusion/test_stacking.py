"""Ridge and LightGBM on the members' distributions."""

import builtins
import json

import numpy as np
import pytest
from xxhash import xxh3_128_hexdigest

from audiomos_cache.errors import ConfigError, DataError
from audiomos_cache.evaluation.predictions import Predictions, read_predictions
from audiomos_cache.fusion import boosting
from audiomos_cache.fusion.align import fuse_predictions
from audiomos_cache.fusion.boosting import LightGBMFusion
from audiomos_cache.fusion.stacking import RidgeFusion
from audiomos_cache.targets import gaussian_distribution
from tests.support.fusion import EVAL, MODELS, distribution, fit, labels_of, scalar
from tests.support.trees import forest, tree

# ridge


def test_ridge_can_be_applied_from_its_json(dev):
    fusion = fit("ridge", MODELS, *dev)
    described = json.loads(json.dumps(fusion.to_json()))
    assert (described["alpha"], described["score_sigma"]) == (1.0, 0.35)
    new = [read_predictions(path) for path in EVAL]
    for target in ("mi", "ta"):
        weights = described[target]
        assert weights["features"] == ["distribution", "distribution", "score"]
        assert weights["bins"] == 20
        features = [
            getattr(new[0], f"{target}_dist"),
            getattr(new[1], f"{target}_dist"),
            gaussian_distribution(getattr(new[2], target), 20, described["score_sigma"]),
        ]
        scores = np.concatenate(features, axis=1) @ np.concatenate(weights["coefficients"]) + weights["intercept"]
        assert np.allclose(getattr(fuse_predictions(fusion, new), target), scores.clip(1, 5), atol=1e-12)


def test_ridge_by_hand_is_clipped_to_the_scale():
    layout = {"features": ["distribution"], "bins": 3}
    fusion = RidgeFusion.from_json(
        ["x"],
        {
            "mi": layout | {"coefficients": [[0.0, 1.0, 2.0]], "intercept": 1.5},
            "ta": layout | {"coefficients": [[-9.0, 0.0, 9.0]], "intercept": 3.0},
        },
    )
    dist = [[0.0, 0.5, 0.5], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    fused = fuse_predictions(fusion, [Predictions.build("abc", [3.0] * 3, [3.0] * 3, dist, dist)])
    assert fused.mi.tolist() == [3.0, 3.5, 1.5]
    assert fused.ta.tolist() == [5.0, 5.0, 1.0]
    assert fused.mi_dist is None and fused.ta_dist is None


@pytest.mark.parametrize(("bins", "expected"), [((10,), 10), ((), 20)])
def test_a_scalar_member_takes_the_others_bins_or_20(bins, expected):
    members = [*(distribution(bins=k) for k in bins), scalar()]
    fusion = fit("ridge", [f"m{n}" for n in range(len(members))], members, labels_of("ab", [1.0, 2.0], [3.0, 4.0]))
    assert fusion.to_json()["mi"]["bins"] == expected


@pytest.mark.parametrize("method", ["ridge", "lightgbm"])
def test_stacking_refuses_members_in_another_order(method):
    if method == "lightgbm":
        pytest.importorskip("lightgbm")
    fusion = fit(method, ["x", "y"], [scalar(), distribution()], labels_of("ab", [1.0, 2.0], [3.0, 4.0]))
    with pytest.raises(DataError) as error:
        fuse_predictions(fusion, [distribution(), scalar()])
    assert str(error.value) == (
        "x: mi is a distribution on 4 bins, expected a score as in the fit split; "
        "give the same members in the same order"
    )


# lightgbm


def test_lightgbm_is_the_originals(dev):
    """The published code's second method: LightGBM's regressor of scikit-learn's kind, as it comes."""
    lightgbm = pytest.importorskip("lightgbm")
    members, labels = dev
    fusion = fit("lightgbm", MODELS, members, labels)
    new = [read_predictions(path) for path in EVAL]
    fused = fuse_predictions(fusion, new)
    order = [labels.ids.index(clip) for clip in members[0].ids]
    for target in ("mi", "ta"):

        def features(predictions, target=target):
            dists = [getattr(each, f"{target}_dist") for each in predictions[:2]]
            return np.hstack([*dists, gaussian_distribution(getattr(predictions[2], target), 20, 0.35)])

        model = lightgbm.LGBMRegressor(random_state=42, verbosity=-1, n_jobs=1)
        model.fit(features(members), getattr(labels, target)[order])
        expected = model.booster_.predict(features(new)).clip(1, 5)
        assert np.allclose(getattr(fused, target), expected, atol=1e-9)


def test_lightgbm_is_deterministic_and_can_be_applied_from_its_json(dev):
    pytest.importorskip("lightgbm")
    one, other = (fit("lightgbm", MODELS, *dev).to_json() for _ in range(2))
    assert one == other
    new = [read_predictions(path) for path in EVAL]
    again = fuse_predictions(LightGBMFusion.from_json(MODELS, json.loads(json.dumps(one))), new)
    assert np.array_equal(again.mi, fuse_predictions(fit("lightgbm", MODELS, *dev), new).mi)


def test_trees_that_lightgbm_writes_otherwise_are_refused(monkeypatch):
    pytest.importorskip("lightgbm")
    monkeypatch.setattr(boosting, "grow_trees", lambda *_: "tree\nversion=v9\n\nend of trees\n")
    with pytest.raises(ConfigError, match=r"--method lightgbm: the trees of LightGBM [\d.]+ cannot be read"):
        fit("lightgbm", ["x"], [scalar()], labels_of("ab", [1.0, 2.0]))


def cut_in_half(trees):
    line = next(number for number, text in enumerate(trees) if text.startswith("leaf_value="))
    trees[line] = trees[line][: len(trees[line]) // 2]


@pytest.mark.parametrize(
    "damage",
    [
        cut_in_half,  # which would end the process inside LightGBM
        lambda trees: trees.__setitem__(0, "nonsense"),
        lambda trees: trees.pop(),
        lambda trees: trees.clear(),
    ],
)
def test_damaged_trees_are_told_by_their_hash(dev, damage):
    pytest.importorskip("lightgbm")
    described = fit("lightgbm", MODELS, *dev).to_json()
    damage(described["ta"]["trees"])
    with pytest.raises(ValueError, match=r"trees of hash \w{32}, expected \w{32}$"):
        LightGBMFusion.from_json(MODELS, described)


def without_lightgbm(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "lightgbm":
            raise ImportError("No module named 'lightgbm'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)


def stored(text, bins):
    """A target's trees on a member without distributions, as a record keeps them."""
    known = xxh3_128_hexdigest(text.encode())
    return {"features": ["score"], "bins": bins, "trees": text.splitlines(), "trees_xxh3_128": known}


def test_lightgbm_is_not_needed_to_apply(monkeypatch):
    """A score of 2 has most of its gaussian in the second of five bins: 0.97 of it, and of a score of 4 nearly none."""
    without_lightgbm(monkeypatch)
    text = forest(tree(feature="1", threshold="0.5", left="-1", right="-2", values="2.75 1.25"), features=5)
    target = stored(text, bins=5)
    fusion = LightGBMFusion.from_json(["x"], {"mi": target, "ta": target})
    fused = fuse_predictions(fusion, [Predictions.build("ab", [2.0, 4.0], [4.0, 2.0])])
    assert (fused.mi.tolist(), fused.ta.tolist()) == ([1.25, 2.75], [2.75, 1.25])


@pytest.mark.parametrize("bins", [0, -1, 2**16 + 1, 10**9, True, 2.0, "5"])
def test_bins_that_no_fusion_has_are_refused(bins):
    target = stored(forest(tree(), features=5), bins)
    with pytest.raises(ValueError, match=rf"on {bins!r} bins"):
        LightGBMFusion.from_json(["x"], {"mi": target, "ta": target})


def test_lightgbm_that_is_missing_says_what_to_install(dev, monkeypatch):
    without_lightgbm(monkeypatch)
    with pytest.raises(ConfigError) as error:
        fit("lightgbm", MODELS, *dev)
    assert str(error.value) == (
        "--method lightgbm: LightGBM cannot be loaded (No module named 'lightgbm'); "
        "pip install 'audiomos-cache[lightgbm]'"
    )
