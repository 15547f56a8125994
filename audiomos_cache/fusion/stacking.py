"""Stacking: a model (ridge regression) from the members' distributions to the listeners' scores, per target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from audiomos_cache.dataset.labels import Labels
from audiomos_cache.errors import DataError
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.fusion.align import align, align_labels
from audiomos_cache.fusion.base import finite_array
from audiomos_cache.fusion.folds import Folds
from audiomos_cache.targets import HIGHEST, LOWEST, TARGETS, Floats, gaussian_distribution

SCORE_SIGMA = 0.35  # of the gaussian that stands for a member without distributions
DEFAULT_BINS = 20
MOST_BINS = 2**16  # a record says how many there are, and each takes memory


@dataclass(frozen=True)
class Layout:
    """What the features of a target are made of, member by member.

    Attributes:
        kinds: M times `distribution`, or `score` for a gaussian around it.
        bins: of each member's features.
    """

    kinds: tuple[str, ...]
    bins: int

    @classmethod
    def of(cls, members: Sequence[Predictions], target: str) -> Self:
        """Take each member's distributions where it has them; scores become gaussians on the same bins."""
        dists = [getattr(member, f"{target}_dist") for member in members]
        known = [dist.shape[1] for dist in dists if dist is not None]
        kinds = tuple("score" if dist is None else "distribution" for dist in dists)
        return cls(kinds, known[0] if known else DEFAULT_BINS)

    @classmethod
    def from_json(cls, content: dict[str, Any], members: int) -> Self:
        """Make it of what `to_json` returned, for so many members."""
        kinds, bins = tuple(content["features"]), content["bins"]
        if len(kinds) != members:
            raise ValueError(f"{len(kinds)} features, expected {members}")
        if not set(kinds) <= {"score", "distribution"} or type(bins) is not int or not 1 <= bins <= MOST_BINS:
            raise ValueError(f"features {kinds} on {bins!r} bins")
        return cls(kinds, bins)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"features": list(self.kinds), "bins": self.bins}

    def features(self, members: Sequence[Predictions], target: str, names: Sequence[str]) -> Floats:
        """Return the members' features side by side: (N, M * bins).

        Raises:
            DataError: a member has others than those it was fitted with.
        Source: Ritter-Gutierrez et al. 2025, published code (sigma 0.35).
        """
        blocks = []
        for name, member, kind in zip(names, members, self.kinds, strict=True):
            dist = getattr(member, f"{target}_dist")
            found = "score" if dist is None else f"distribution on {dist.shape[1]} bins"
            expected = "score" if kind == "score" else f"distribution on {self.bins} bins"
            if found != expected:
                raise DataError(
                    f"{name}: {target} is a {found}, expected a {expected} as in the fit split; give the same "
                    "members in the same order"
                )
            blocks.append(
                gaussian_distribution(getattr(member, target), self.bins, SCORE_SIGMA) if dist is None else dist
            )
        return np.concatenate(blocks, axis=1)


class StackedModel(Protocol):
    """One target's model over M members."""

    @property
    def layout(self) -> Layout:
        """What each member contributes."""

    @classmethod
    def fit(cls, layout: Layout, features: Floats, truth: Floats) -> Self:
        """Fit it on (N, M * bins) features and (N,) scores."""

    def predict(self, features: Floats) -> Floats:
        """Return the score of each row of (N, M * bins) features: (N,)."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""

    @classmethod
    def from_json(cls, members: int, content: dict[str, Any]) -> Self:
        """Make it of what `to_json` returned.

        Raises:
            LookupError, TypeError, ValueError: it is not such, or not for so many members.
        """


class Stacking:
    """A fusion by models of both targets; subclasses say which.

    Source: Ritter-Gutierrez et al. 2025 (stacking), published code.

    Attributes:
        names: M.
        models: by target.
    """

    method: ClassVar[str]
    model: ClassVar[type[StackedModel]]
    settings: ClassVar[dict[str, Any]] = {}
    """What `to_json` tells beside the models."""

    def __init__(self, names: Sequence[str], models: Mapping[str, StackedModel]) -> None:
        self.names, self.models = tuple(names), models

    @classmethod
    def fit(cls, names: Sequence[str], members: Sequence[Predictions], labels: Labels, folds: Folds) -> Self:
        """Fit both targets on all clips of `labels`.

        Raises:
            ConfigError: what the model needs is not installed.
        """
        del folds
        truth = align_labels(labels, align(members, names), names[0])
        layouts = {target: Layout.of(members, target) for target in TARGETS}
        return cls(
            names,
            {
                target: cls.model.fit(layout, layout.features(members, target, names), getattr(truth, target))
                for target, layout in layouts.items()
            },
        )

    def apply(self, members: Sequence[Predictions]) -> Predictions:
        """Predict N clips' scores, clipped to 1..5; there are no distributions."""
        ids = align(members, self.names)
        scores = {
            target: model.predict(model.layout.features(members, target, self.names)).clip(LOWEST, HIGHEST)
            for target, model in self.models.items()
        }
        return Predictions.build(ids, scores["mi"], scores["ta"])

    def to_json(self) -> dict[str, Any]:
        """Return the models by target; their score, clipped to 1..5, is the prediction."""
        models = {target: model.to_json() for target, model in self.models.items()}
        return {**self.settings, "score_sigma": SCORE_SIGMA, **models}

    @classmethod
    def from_json(cls, names: Sequence[str], content: dict[str, Any]) -> Self:
        """Make it of what `to_json` returned."""
        return cls(names, {target: cls.model.from_json(len(names), content[target]) for target in TARGETS})


ALPHA = 1.0


@dataclass(frozen=True)
class RidgeWeights:
    """One target's fitted ridge over M members.

    Attributes:
        layout: what each member contributes.
        coefficients: (M, bins).
        intercept: added to their sum.
    """

    layout: Layout
    coefficients: Floats
    intercept: float

    @classmethod
    def fit(cls, layout: Layout, features: Floats, truth: Floats) -> Self:
        """Fit it on (N, M * bins) features and (N,) scores."""
        coefficients, intercept = ridge_coefficients(features, truth, ALPHA)
        return cls(layout, coefficients.reshape(len(layout.kinds), layout.bins), intercept)

    def predict(self, features: Floats) -> Floats:
        """Return the score of each row of (N, M * bins) features: (N,)."""
        return np.asarray(features @ self.coefficients.ravel() + self.intercept)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, coefficients member by member."""
        described = self.layout.to_json()
        return described | {"coefficients": self.coefficients.tolist(), "intercept": self.intercept}

    @classmethod
    def from_json(cls, members: int, content: dict[str, Any]) -> Self:
        """Make it of what `to_json` returned."""
        layout = Layout.from_json(content, members)
        coefficients = finite_array(content["coefficients"], (members, layout.bins))
        return cls(layout, coefficients, float(finite_array(content["intercept"], ())))


class RidgeFusion(Stacking):
    """Ridge regression from the members' distributions to the listeners' scores, a target at a time.

    Source: Ritter-Gutierrez et al. 2025 (stacking), published code.
    """

    method: ClassVar[str] = "ridge"
    model = RidgeWeights
    settings: ClassVar[dict[str, Any]] = {"alpha": ALPHA}


def ridge_coefficients(features: Floats, truth: Floats, alpha: float) -> tuple[Floats, float]:
    """Fit a linear model whose coefficients, but not its intercept, are kept small.

    Args:
        features: (N, D).
        truth: (N,).
        alpha: what the sum of the squared coefficients counts, beside that of the squared errors.
    Returns:
        (D,) coefficients, and the intercept.
    """
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=alpha).fit(features, truth)
    return model.coef_, float(model.intercept_)
