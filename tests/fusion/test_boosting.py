"""Boosted trees without LightGBM: by hand, as LightGBM has them, and refused where they are none."""

import numpy as np
import pytest

from audiomos_cache.fusion.boosting import grow_trees, predict, read_trees
from tests.support.trees import forest, tree

THREE = {"leaves": 3, "feature": "0 2", "threshold": "0.5 -1", "decision": "2 2", "left": "1 -1", "right": "-3 -2"}


def test_by_hand():
    """The first: x0 <= 0.5 and x2 <= -1 is 10, x0 <= 0.5 otherwise 20, else 30. The second: 1 up to x1 = 7, else 2."""
    text = forest(
        tree(values="10 20 30", **THREE),
        tree(1, feature="1", threshold="7"),
        tree(2, leaves=1, feature="", threshold="", decision="", left="", right="", values="0.25"),
    )
    rows = np.array([[0.5, 0.0, -1.0], [0.5, 7.0, -0.9], [0.6, 7.1, -1.0], [-9.0, 8.0, -9.0]])
    assert predict(read_trees(text, 3), rows).tolist() == [11.25, 21.25, 32.25, 12.25]


def test_no_trees_are_zero():
    assert predict(read_trees(forest(), 3), np.ones((2, 3))).tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["smooth", "sparse", "of few values", "of one value", "with gaps"])
def test_it_is_what_lightgbm_says(kind):
    lightgbm = pytest.importorskip("lightgbm")
    random = np.random.default_rng(0)
    features = random.random((400, 12))
    truth = np.clip(1 + 4 * features[:, 0] * features[:, 1] + random.normal(0, 0.3, 400), 1, 5)
    if kind == "sparse":
        features = np.where(random.random(features.shape) < 0.8, 0.0, features - 0.5) * 10.0 ** -random.integers(
            0, 40, 12
        )
    elif kind == "of few values":
        features = np.round(features, 1)
    elif kind == "of one value":
        truth[:] = 3.25
    elif kind == "with gaps":  # so that its trees say where to go without a value
        features = np.where(random.random(features.shape) < 0.1, np.nan, features)
    text = grow_trees(features, truth)
    new = np.vstack([np.nan_to_num(features, nan=0.5), random.normal(0, 1, (400, 12)), np.zeros((1, 12))])
    expected = lightgbm.Booster(model_str=text).predict(new)
    assert len(np.unique(expected)) > (0 if kind == "of one value" else 20)
    assert np.array_equal(predict(read_trees(text, 12), new), expected)


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"leaves": 3}, "expected 3 and one less"),
        ({"leaves": 0}, "expected 0 and one less"),
        ({"leaves": "many"}, "'many' is not a whole number"),
        ({"values": "1"}, "1 leaves and 1 splits, expected 2"),
        ({"values": "1 nan"}, "'nan' is not a number"),
        ({"values": "1 1e999"}, "'1e999' is not a number"),
        ({"values": "1 x"}, "'x' is not a number"),
        ({"threshold": "inf"}, "'inf' is not a number"),
        ({"threshold": ""}, "2 leaves and 1 splits"),
        ({"feature": "3"}, "a split by a feature that is none of 3"),
        ({"feature": "-1"}, "a split by a feature that is none of 3"),
        ({"feature": "0.5"}, "'0.5' is not a whole number"),
        ({"feature": "9" * 30}, "a number of more than 20 digits"),
        ({"feature": "1_0"}, "'1_0' is not a whole number"),
        ({"values": "1 \u0661"}, "'\u0661' is not a number"),
        ({"decision": "1"}, "splits by category, by a missing zero, or linear leaves"),
        ({"decision": "6"}, "splits by category, by a missing zero, or linear leaves"),
        ({"left": "0"}, "splits that do not make a tree"),
        ({"left": "5000000"}, "splits that do not make a tree"),
        ({"left": "-2"}, "splits that do not make a tree"),
        ({"right": "-3"}, "splits that do not make a tree"),
        ({**THREE, "values": "1 2 3", "left": "1 1", "right": "-1 -2"}, "splits that do not make a tree"),
        ({**THREE, "values": "1 2 3", "left": "-1 1", "right": "-3 -2"}, "splits that do not make a tree"),
        ({**THREE, "values": "1 2 3", "left": "0 -1"}, "splits that do not make a tree"),
    ],
)  # fmt: skip
def test_what_is_no_tree_is_refused(changed, found):
    with pytest.raises(ValueError, match=found):
        read_trees(forest(tree(**changed)), 3)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("tree\nversion", "tee\nversion", "not trees of version=v4"),
        ("version=v4", "version=v5", "not trees of version=v4"),
        ("objective=regression", "objective=regression sqrt", "not trees of"),
        ("objective=regression", "objective=binary sigmoid:1", "not trees of"),
        ("num_class=1", "num_class=2", "not trees of"),
        ("label_index=0", "average_output", "not trees of"),
        ("max_feature_idx=2", "max_feature_idx=99999999", "trees on 100000000 features, expected 3"),
        ("num_cat=0", "num_cat=1", "splits by category"),
        ("is_linear=0", "is_linear=1", "linear leaves"),
        ("num_leaves=2\n", "", "num_leaves"),
        ("num_leaves=2\n", "num_leaves=2\nnum_leaves=2\n", "a line that is there twice"),
        ("Tree=0", "Tree=1", "tree 1, expected 0"),
        ("end of trees", "", "so it was cut short"),
    ],
)
def test_what_is_no_regression_is_refused(old, new, found):
    text = forest(tree())
    assert text.count(old) == 1
    with pytest.raises((LookupError, ValueError), match=found):
        read_trees(text.replace(old, new), 3)


def test_damage_is_refused_or_harmless():
    """Any character, anywhere: never anything but the documented errors, and always a finite answer otherwise."""
    random = np.random.default_rng(0)
    text, rows = forest(tree(values="10 20 30", **THREE), tree(1)), random.random((5, 3))
    refused = 0
    for _ in range(2000):
        index = random.integers(len(text))
        damaged = text[:index] + random.choice(list("0123456789 =-\nxT.")) + text[index + random.integers(2) :]
        try:
            found = predict(read_trees(damaged, 3), rows)
        except (LookupError, ValueError):
            refused += 1
        else:
            assert np.isfinite(found).all()
    assert 500 < refused < 2000
