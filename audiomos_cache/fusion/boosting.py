"""Gradient-boosted trees on the members' distributions: LightGBM grows them, and is not needed to apply them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.artifacts import hash_bytes
from audiomos_cache.errors import ConfigError, quoted
from audiomos_cache.files import parse_integer, parse_number
from audiomos_cache.fusion.stacking import Layout, Stacking
from audiomos_cache.registry import register
from audiomos_cache.targets import Floats

_HEADER = {"version": "v4", "num_class": "1", "num_tree_per_iteration": "1", "objective": "regression"}
# Bits of `decision_type`: 1 is a split by category, 2 where to go without a value, 4 that zero is none, 8 that NaN is.
_DECISIONS = {"0", "2", "8", "10"}
_END = "end of trees"


@dataclass(frozen=True)
class Tree:
    """A tree of L leaves and L - 1 inner nodes, of which the first is the root.

    Attributes:
        feature: (L - 1,) which one each inner node looks at.
        threshold: (L - 1,) up to which it goes left.
        left, right: (L - 1,) the inner node that follows, always a later one, or ~leaf.
        leaf_value: (L,).
    """

    feature: NDArray[np.intp]
    threshold: Floats
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    leaf_value: Floats

    @classmethod
    def read(cls, content: Mapping[str, str], features: int) -> Self:
        """Read a tree from its lines, by their keys.

        Raises:
            LookupError: a line is missing. ValueError: it is not a tree of numbers on this number of features.
        """
        leaves = parse_integer(content["num_leaves"])
        numeric = set(content["decision_type"].split()) <= _DECISIONS
        if content["num_cat"] != "0" or content["is_linear"] != "0" or not numeric:
            raise ValueError("splits by category, by a missing zero, or linear leaves, expected splits by numbers")
        feature, left, right = (
            [parse_integer(v) for v in content[n].split()] for n in ("split_feature", "left_child", "right_child")
        )
        threshold, leaf_value = (_finite(content[name]) for name in ("threshold", "leaf_value"))
        inner = len(feature)
        if leaves < 1 or len(leaf_value) != leaves or {inner, len(threshold), len(left), len(right)} != {leaves - 1}:
            raise ValueError(f"{len(leaf_value)} leaves and {inner} splits, expected {leaves} and one less")
        if not all(0 <= index < features for index in feature):
            raise ValueError(f"a split by a feature that is none of {features}")
        # Each leaf and each node but the root is the child of one split, an earlier one: every path leads to a leaf.
        hanging = [*range(-leaves, 0), *range(1, inner)] if inner else []
        if sorted(left + right) != hanging or any(
            0 < child <= parent for children in (left, right) for parent, child in enumerate(children)
        ):
            raise ValueError("splits that do not make a tree")
        return cls(np.array(feature, np.intp), threshold, np.array(left, np.intp), np.array(right, np.intp), leaf_value)

    def values(self, features: Floats) -> Floats:
        """Return the value of the leaf that each row of (N, D) features falls into: (N,)."""
        node = np.full(len(features), 0 if len(self.feature) else ~0)
        while (rows := np.flatnonzero(node >= 0)).size:
            at = node[rows]
            goes_left = features[rows, self.feature[at]] <= self.threshold[at]
            node[rows] = np.where(goes_left, self.left[at], self.right[at])
        return np.asarray(self.leaf_value[~node])


def read_trees(text: str, features: int) -> tuple[Tree, ...]:
    """Read the trees of a regression as LightGBM 4 writes them; what follows the trees is ignored.

    Args:
        text: the trees.
        features: D, the number of features that they use.
    Raises:
        LookupError, ValueError: the string does not hold trees of a regression on D features.
    """
    trees, end, _ = text.partition(f"\n{_END}\n")
    if not end:
        raise ValueError(f"no {quoted(_END)}, so it was cut short")
    header, *blocks = trees.split("\nTree=")
    first, *lines = header.split("\n")
    about = _pairs(lines)
    if first != "tree" or "average_output" in about or any(about[key] != value for key, value in _HEADER.items()):
        raise ValueError(f"not trees of {', '.join(f'{key}={value}' for key, value in _HEADER.items())}")
    if parse_integer(about["max_feature_idx"]) != features - 1:
        raise ValueError(f"trees on {int(about['max_feature_idx']) + 1} features, expected {features}")
    found = []
    for index, block in enumerate(blocks):
        number, *lines = block.split("\n")
        if number != str(index):
            raise ValueError(f"tree {number:.20}, expected {index}")
        found.append(Tree.read(_pairs(lines), features))
    return tuple(found)


def predict(trees: Sequence[Tree], features: Floats) -> Floats:
    """Return the sum of the trees' values for each row of (N, D) finite features: (N,), added up as LightGBM does."""
    total = np.zeros(len(features))
    for tree in trees:
        total += tree.values(features)
    return total


def _pairs(lines: Sequence[str]) -> dict[str, str]:
    """Read lines of `key=value`."""
    pairs = [line.partition("=")[::2] for line in lines if line]
    if len(by_key := dict(pairs)) != len(pairs):
        raise ValueError("a line that is there twice")
    return by_key


def _finite(numbers: str) -> Floats:
    array = np.array([parse_number(number) for number in numbers.split()])
    if not np.isfinite(array).all():
        raise ValueError("a number that is not finite")
    return array


ROUNDS = 100
# LightGBM's own defaults, as published; one thread and rows first, so that the same clips give the same trees.
PARAMETERS = {
    "objective": "regression",
    "seed": 42,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


@dataclass(frozen=True)
class Trees:
    """One target's trees over M members. LightGBM grows them, and is not needed to apply them.

    Attributes:
        layout: what each member contributes.
        text: the trees as LightGBM writes them.
        trees: the same, read from `text`.
    """

    layout: Layout
    text: str
    trees: tuple[Tree, ...] = field(repr=False, compare=False)

    @classmethod
    def of(cls, layout: Layout, text: str) -> Self:
        """Read the trees.

        Raises:
            LookupError, ValueError: the text does not hold trees on these features.
        """
        return cls(layout, text, read_trees(text, len(layout.kinds) * layout.bins))

    @classmethod
    def fit(cls, layout: Layout, features: Floats, truth: Floats) -> Self:
        """Fit it on (N, M * bins) features and (N,) scores.

        Raises:
            ConfigError: LightGBM is not installed, or writes other trees than it did.
        """
        text = grow_trees(features, truth)
        try:
            return cls.of(layout, text)
        except (LookupError, ValueError) as error:
            version = load_lightgbm().__version__
            raise ConfigError(
                f"--method lightgbm: the trees of LightGBM {version} cannot be read ({error}); install LightGBM 4.6"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Return plain values, and the hash of the text."""
        return self.layout.to_json() | {"trees": self.text.splitlines(), "trees_xxh3_128": _hash(self.text)}

    @classmethod
    def from_json(cls, members: int, content: dict[str, Any]) -> Self:
        """Make the model of M members that `to_json` described."""
        text = "\n".join(content["trees"]) + "\n"
        if (found := _hash(text)) != content["trees_xxh3_128"]:
            raise ValueError(f"trees of hash {found}, expected {content['trees_xxh3_128']}")
        return cls.of(Layout.from_json(content, members), text)

    def predict(self, features: Floats) -> Floats:
        """Return the trees' score of each row of (N, M * bins) features: (N,)."""
        return predict(self.trees, features)


@register("fusion", "lightgbm")
class LightGBMFusion(Stacking):
    """Trees from the members' distributions to the listeners' scores, a target at a time.

    Fitting needs the extra `lightgbm`; applying does not.

    Source: Ritter-Gutierrez et al. 2025 (stacking), published code (its second method, with LightGBM's defaults).
    """

    model = Trees


def grow_trees(features: Floats, truth: Floats) -> str:
    """Fit boosted trees; the same features give the same text.

    Args:
        features: (N, D).
        truth: (N,).
    Returns:
        The trees as LightGBM writes them.
    Raises:
        ConfigError: LightGBM is not installed.
    """
    lightgbm = load_lightgbm()
    text: str = lightgbm.train(PARAMETERS, lightgbm.Dataset(features, truth), ROUNDS).model_to_string()
    return text


def _hash(text: str) -> str:
    return hash_bytes(text.encode())


def load_lightgbm() -> ModuleType:
    """Import LightGBM, which is an extra.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import lightgbm
    except (ImportError, OSError) as error:  # OSError: its OpenMP library is missing
        raise ConfigError(
            f"--method lightgbm: LightGBM cannot be loaded ({error}); pip install 'audiomos-cache[lightgbm]'"
        ) from error
    module: ModuleType = lightgbm
    return module
