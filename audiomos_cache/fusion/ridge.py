"""Ridge regression on the members' distributions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from audiomos_cache.dataset import Labels
from audiomos_cache.fusion.align import align, align_labels
from audiomos_cache.fusion.base import TARGETS, Floats, finite_array
from audiomos_cache.fusion.features import SCORE_SIGMA, Layout
from audiomos_cache.fusion.folds import Folds
from audiomos_cache.predictions import Predictions
from audiomos_cache.targets import HIGHEST, LOWEST

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


class RidgeFusion:
    """Ridge regression from the members' distributions to the listeners' scores, a target at a time.

    Source: Ritter-Gutierrez et al. 2025 (stacking), published code.
    """

    method: ClassVar[str] = "ridge"

    def __init__(self, names: Sequence[str], weights: dict[str, RidgeWeights]) -> None:
        self.names, self.weights = tuple(names), weights

    @classmethod
    def fit(cls, names: Sequence[str], members: Sequence[Predictions], labels: Labels, folds: Folds) -> Self:
        """Fit both targets on all clips of `labels`."""
        del folds
        truth = align_labels(labels, align(members, names), names[0])
        weights = {}
        for target in TARGETS:
            layout = Layout.of(members, target)
            features = layout.features(members, target, names)
            coefficients, intercept = ridge_coefficients(features, getattr(truth, target), ALPHA)
            weights[target] = RidgeWeights(layout, coefficients.reshape(len(names), layout.bins), intercept)
        return cls(names, weights)

    def apply(self, members: Sequence[Predictions]) -> Predictions:
        """Predict N clips' scores, clipped to 1..5; a ridge gives no distributions."""
        ids = align(members, self.names)
        return Predictions.build(ids, self._scores(members, "mi"), self._scores(members, "ta"))

    def _scores(self, members: Sequence[Predictions], target: str) -> Floats:
        fitted = self.weights[target]
        features = fitted.layout.features(members, target, self.names)
        return (features @ fitted.coefficients.ravel() + fitted.intercept).clip(LOWEST, HIGHEST)

    def to_json(self) -> dict[str, Any]:
        """Describe the fit: intercept + the sum of features * coefficients, clipped to 1..5, is the score."""
        described = {target: weights.to_json() for target, weights in self.weights.items()}
        return {"alpha": ALPHA, "score_sigma": SCORE_SIGMA, **described}

    @classmethod
    def from_json(cls, names: Sequence[str], content: dict[str, Any]) -> Self:
        """Make it of what `to_json` returned."""
        return cls(names, {target: RidgeWeights.from_json(len(names), content[target]) for target in TARGETS})


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
