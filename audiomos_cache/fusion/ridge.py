"""Ridge regression on the members' distributions."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from audiomos_cache.evaluation.metrics import Floats
from audiomos_cache.fusion.base import finite_array
from audiomos_cache.fusion.features import Layout
from audiomos_cache.fusion.stacking import Stacking

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
