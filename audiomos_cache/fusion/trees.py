"""Boosted regression trees as LightGBM writes them, read strictly and evaluated without it.

LightGBM's own reader trusts what it reads: a text that was damaged, or made to do so, ends or hangs the process. And
whoever applies trees need not have LightGBM installed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.evaluation.metrics import Floats

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
    def read(cls, told: Mapping[str, str], features: int) -> Self:
        """Read one of what its lines say.

        Raises:
            LookupError: a line is missing. ValueError: it is no tree of numbers on so many features.
        """
        leaves = int(told["num_leaves"])
        if told["num_cat"] != "0" or told["is_linear"] != "0" or not set(told["decision_type"].split()) <= _DECISIONS:
            raise ValueError("splits by category, by a missing zero, or linear leaves, expected plain numbers")
        feature, left, right = (
            [int(v) for v in told[n].split()] for n in ("split_feature", "left_child", "right_child")
        )
        threshold, leaf_value = (_finite(told[name]) for name in ("threshold", "leaf_value"))
        inner = len(feature)
        if leaves < 1 or len(leaf_value) != leaves or {inner, len(threshold), len(left), len(right)} != {leaves - 1}:
            raise ValueError(f"{len(leaf_value)} leaves and {inner} splits, expected {leaves} and one less")
        if not all(0 <= place < features for place in feature):
            raise ValueError(f"a split by a feature that is none of {features}")
        # Each leaf and each node but the root hangs from one split, and from an earlier one: so no path ends nowhere.
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
    """Read the trees of a regression as LightGBM 4 writes them; what follows the trees is left alone.

    Args:
        text: the trees.
        features: D, that they look at.
    Raises:
        LookupError, ValueError: it is no such text, or not of so many features.
    """
    trees, end, _ = text.partition(f"\n{_END}\n")
    if not end:
        raise ValueError(f"no {_END!r}, so it was cut short")
    header, *blocks = trees.split("\nTree=")
    first, *lines = header.split("\n")
    about = _told(lines)
    if first != "tree" or "average_output" in about or any(about[key] != value for key, value in _HEADER.items()):
        raise ValueError(f"not trees of {', '.join(f'{key}={value}' for key, value in _HEADER.items())}")
    if int(about["max_feature_idx"]) != features - 1:
        raise ValueError(f"trees on {int(about['max_feature_idx']) + 1} features, expected {features}")
    found = []
    for place, block in enumerate(blocks):
        number, *lines = block.split("\n")
        if number != str(place):
            raise ValueError(f"tree {number:.20}, expected {place}")
        found.append(Tree.read(_told(lines), features))
    return tuple(found)


def predict(trees: Sequence[Tree], features: Floats) -> Floats:
    """Return the sum of the trees' values for each row of (N, D) finite features: (N,), added up as LightGBM does."""
    total = np.zeros(len(features))
    for tree in trees:
        total += tree.values(features)
    return total


def _told(lines: Sequence[str]) -> dict[str, str]:
    pairs = [line.partition("=")[::2] for line in lines if line]
    told = dict(pairs)
    if len(told) != len(pairs):
        raise ValueError("a line that is there twice")
    return told


def _finite(numbers: str) -> Floats:
    array = np.array([float(number) for number in numbers.split()])
    if not np.isfinite(array).all():
        raise ValueError("a number that is not finite")
    return array
