"""Stacking: a model from the members' distributions to the listeners' scores, a target at a time."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

from audiomos_cache.dataset.labels import Labels
from audiomos_cache.evaluation.metrics import TARGETS, Floats
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.fusion.align import align, align_labels
from audiomos_cache.fusion.features import SCORE_SIGMA, Layout
from audiomos_cache.fusion.folds import Folds
from audiomos_cache.targets import HIGHEST, LOWEST


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
