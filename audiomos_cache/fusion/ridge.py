"""Ways to blend the predictions of several members into one: fit on labelled clips, apply to others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.dataset import Labels
from audiomos_cache.errors import DataError
from audiomos_cache.predictions import Predictions, join_ids
from audiomos_cache.targets import HIGHEST, LOWEST, gaussian_distribution

Floats = NDArray[np.float64]

SCORE_SIGMA = 0.35  # of the gaussian that stands for a member without distributions
DEFAULT_BINS = 20
TARGETS = ("mi", "ta")


class Fusion(Protocol):
    """A way to blend members. `names` are the members' names, for messages and for the record."""

    learns: ClassVar[bool]

    def __init__(self, names: Sequence[str]) -> None: ...

    def fit(self, members: Sequence[Predictions], labels: Labels | None) -> Self:
        """Learn from the members' predictions of the clips that `labels` holds."""

    def apply(self, members: Sequence[Predictions]) -> Predictions:
        """Blend the members' predictions, given in the order they were fitted in."""

    def to_json(self) -> dict[str, Any]:
        """Describe the fitted method completely, in plain values."""


def align(members: Sequence[Predictions], names: Sequence[str]) -> tuple[str, ...]:
    """Return the ids that all members hold, in the order of their rows.

    Raises:
        DataError: no member, not one name for each, or members that do not hold the same clips.
    """
    if not members or len(members) != len(names):
        raise DataError(f"{len(members)} predictions to fuse, expected {len(names) or 'at least 1'}")
    for member, name in zip(members[1:], names[1:], strict=True):
        join_ids(member.ids, members[0].ids, name, names[0])
    return members[0].ids


class MeanFusion:
    """The mean of the members' scores, and of their distributions where all have one on the same bins."""

    learns: ClassVar[bool] = False

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)

    def fit(self, members: Sequence[Predictions], labels: Labels | None) -> Self:
        """Learn nothing: a mean has no weights."""
        del members, labels
        return self

    def apply(self, members: Sequence[Predictions]) -> Predictions:
        """Average N clips' predictions over the members."""
        ids = align(members, self.names)
        return Predictions.build(
            ids,
            np.mean([member.mi for member in members], axis=0),
            np.mean([member.ta for member in members], axis=0),
            _mean_dist([member.mi_dist for member in members]),
            _mean_dist([member.ta_dist for member in members]),
        )

    def to_json(self) -> dict[str, Any]:
        """Describe the mean: equal weights."""
        return {"method": "mean", "members": self.names, "weights": [1 / len(self.names)] * len(self.names)}


def _mean_dist(dists: Sequence[Floats | None]) -> Floats | None:
    known = [dist for dist in dists if dist is not None]
    alike = len(known) == len(dists) and len({dist.shape for dist in known}) == 1
    return np.asarray(np.mean(known, axis=0)) if alike else None


@dataclass(frozen=True)
class RidgeWeights:
    """One target's fitted ridge over M members.

    Attributes:
        features: (M,) what each member contributes: its `distribution`, or a gaussian at its `score`.
        coefficients: M arrays (bins of the member,).
        intercept: added to their sum.
    """

    features: tuple[str, ...]
    coefficients: tuple[Floats, ...]
    intercept: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values, coefficients member by member."""
        return {
            "features": list(self.features),
            "bins": [len(block) for block in self.coefficients],
            "coefficients": [block.tolist() for block in self.coefficients],
            "intercept": self.intercept,
        }


class RidgeFusion:
    """Ridge regression from the members' distributions to the listeners' scores, a target at a time.

    Source: Ritter-Gutierrez et al. 2025 (stacking), published code.
    """

    learns: ClassVar[bool] = True
    alpha = 1.0

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.weights: dict[str, RidgeWeights] = {}

    def fit(self, members: Sequence[Predictions], labels: Labels | None) -> Self:
        """Fit both targets on all clips of `labels`.

        Raises:
            DataError: no labels, or labels and members do not hold the same clips.
        """
        from sklearn.linear_model import Ridge

        if labels is None:
            raise DataError("ridge: no labels to fit on; give the fit split's list with --labels")
        rows = join_ids(align(members, self.names), labels.ids, self.names[0], "the labels")
        for target in TARGETS:
            features, blocks = _features(members, target)
            model = Ridge(alpha=self.alpha).fit(np.concatenate(blocks, axis=1), getattr(labels, target)[rows])
            ends = np.cumsum([block.shape[1] for block in blocks])
            self.weights[target] = RidgeWeights(
                features, tuple(np.split(model.coef_, ends[:-1])), float(model.intercept_)
            )
        return self

    def apply(self, members: Sequence[Predictions]) -> Predictions:
        """Predict N clips' scores, clipped to 1..5; a ridge gives no distributions.

        Raises:
            DataError: a member has other bins than it was fitted with.
        """
        ids = align(members, self.names)
        return Predictions.build(ids, self._scores(members, "mi"), self._scores(members, "ta"))

    def _scores(self, members: Sequence[Predictions], target: str) -> Floats:
        weights = self.weights[target]
        features, blocks = _features(members, target)
        scores = np.full(len(members[0].ids), weights.intercept)
        for name, feature, block, fitted_feature, coefficients in zip(
            self.names, features, blocks, weights.features, weights.coefficients, strict=True
        ):
            if (feature, block.shape[1]) != (fitted_feature, len(coefficients)):
                raise DataError(
                    f"{name}: {target} is a {feature} on {block.shape[1]} bins, expected a {fitted_feature} "
                    f"on {len(coefficients)} as in the fit split; give both splits' files in the same order"
                )
            scores += block @ coefficients
        return scores.clip(LOWEST, HIGHEST)

    def to_json(self) -> dict[str, Any]:
        """Describe the fit: intercept + the sum of features @ coefficients, clipped to 1..5, is the score."""
        return {
            "method": "ridge",
            "members": self.names,
            "alpha": self.alpha,
            "score_sigma": SCORE_SIGMA,
            **{target: weights.to_json() for target, weights in self.weights.items()},
        }


def _features(members: Sequence[Predictions], target: str) -> tuple[tuple[str, ...], list[Floats]]:
    """Return each member's kind of features, and the features: (N, bins)."""
    dists: list[Floats | None] = [getattr(member, f"{target}_dist") for member in members]
    known = {dist.shape[1] for dist in dists if dist is not None}
    bins = known.pop() if len(known) == 1 else DEFAULT_BINS
    return tuple("score" if dist is None else "distribution" for dist in dists), [
        gaussian_distribution(getattr(member, target), bins, SCORE_SIGMA) if dist is None else dist
        for member, dist in zip(members, dists, strict=True)
    ]


METHODS: dict[str, type[Fusion]] = {"mean": MeanFusion, "ridge": RidgeFusion}
