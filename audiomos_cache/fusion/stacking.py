"""Stacking: a model (ridge regression) from the members' distributions to the listeners' scores, per target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from audiomos_cache.errors import DataError, quoted
from audiomos_cache.fusion.base import AssignFolds, Blend, FittedFusion, Members, Truth, finite_array
from audiomos_cache.registry import register
from audiomos_cache.targets import HIGHEST, LOWEST, TARGETS, Floats, gaussian_distribution

SCORE_SIGMA = 0.35  # of the gaussian that replaces the distribution of a member without one
DEFAULT_BINS = 20
MOST_BINS = 2**16  # a record may contain any number of bins, and each takes memory


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
    def of(cls, members: Members, target: str) -> Self:
        """Take each member's distributions where it has them; scores become gaussians on the same bins."""
        kinds = tuple("score" if dist is None else "distribution" for dist in members.dists[target])
        return cls(kinds, members.bins(target) or DEFAULT_BINS)

    @classmethod
    def from_json(cls, content: dict[str, Any], members: int) -> Self:
        """Make the layout of M members that `to_json` described."""
        kinds, bins = tuple(content["features"]), content["bins"]
        if len(kinds) != members:
            raise ValueError(f"{len(kinds)} features, expected {members}")
        if not set(kinds) <= {"score", "distribution"} or type(bins) is not int or not 1 <= bins <= MOST_BINS:
            raise ValueError(f"features {kinds} on {quoted(bins)} bins")
        return cls(kinds, bins)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"features": list(self.kinds), "bins": self.bins}

    def features(self, members: Members, target: str) -> Floats:
        """Return the members' features side by side: (N, M * bins).

        Raises:
            DataError: a member has others than those it was fitted with.
        Source: Ritter-Gutierrez et al. 2025, published code (sigma 0.35).
        """
        blocks = []
        for name, kind, scores, dist in zip(
            members.names, self.kinds, members.scores[target], members.dists[target], strict=True
        ):
            found = "score" if dist is None else f"distribution on {dist.shape[1]} bins"
            expected = "score" if kind == "score" else f"distribution on {self.bins} bins"
            if found != expected:
                raise DataError(
                    f"{name}: {target} is a {found}, expected a {expected} as in the fit split; give the same "
                    "members in the same order"
                )
            blocks.append(gaussian_distribution(scores, self.bins, SCORE_SIGMA) if dist is None else dist)
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
        """Make the model of M members that `to_json` described.

        Raises:
            LookupError, TypeError, ValueError: `content` describes none, or one of another number of members.
        """


class Stacking(FittedFusion):
    """A fusion by models of both targets; subclasses choose the model.

    Source: Ritter-Gutierrez et al. 2025 (stacking), published code.

    Attributes:
        names: M.
        models: by target.
    """

    model: ClassVar[type[StackedModel]]
    settings: ClassVar[dict[str, Any]] = {}
    """What `to_json` contains besides the models."""

    def __init__(self, names: Sequence[str], models: Mapping[str, StackedModel]) -> None:
        super().__init__(names)
        self.models = models

    @classmethod
    def fit(cls, members: Members, truth: Truth, folds: AssignFolds) -> Self:
        """Fit both targets on labelled clips.

        Raises:
            ConfigError: a package that the model takes is not installed.
        """
        del folds
        layouts = {target: Layout.of(members, target) for target in TARGETS}
        return cls(
            members.names,
            {
                target: cls.model.fit(layout, layout.features(members, target), truth[target])
                for target, layout in layouts.items()
            },
        )

    def blend(self, members: Members) -> Blend:
        """Predict N clips' scores, clipped to 1..5; there are no distributions."""
        return Blend(
            {
                target: model.predict(model.layout.features(members, target)).clip(LOWEST, HIGHEST)
                for target, model in self.models.items()
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Return the models by target; their score, clipped to 1..5, is the prediction."""
        models = {target: model.to_json() for target, model in self.models.items()}
        return {**self.settings, "score_sigma": SCORE_SIGMA, **models}

    @classmethod
    def from_json(cls, names: Sequence[str], content: dict[str, Any]) -> Self:
        """Make the fusion that `to_json` described."""
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
        """Make the model of M members that `to_json` described."""
        layout = Layout.from_json(content, members)
        coefficients = finite_array(content["coefficients"], (members, layout.bins))
        return cls(layout, coefficients, float(finite_array(content["intercept"], ())))


@register("fusion", "ridge")
class RidgeFusion(Stacking):
    """Ridge regression from the members' distributions to the listeners' scores, a target at a time.

    Source: Ritter-Gutierrez et al. 2025 (stacking), published code.
    """

    model = RidgeWeights
    settings: ClassVar[dict[str, Any]] = {"alpha": ALPHA}


def ridge_coefficients(features: Floats, truth: Floats, alpha: float) -> tuple[Floats, float]:
    """Fit a linear model whose coefficients, but not its intercept, are kept small.

    Args:
        features: (N, D).
        truth: (N,).
        alpha: the weight of the sum of the squared coefficients, where that of the squared errors has weight 1.
    Returns:
        (D,) coefficients, and the intercept.
    """
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=alpha).fit(features, truth)
    return model.coef_, float(model.intercept_)
