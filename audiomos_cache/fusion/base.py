"""What every way to blend the predictions of several members has in common."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from audiomos_cache.dataset.labels import Labels
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.fusion.folds import Folds
from audiomos_cache.targets import Floats


class Fusion(Protocol):
    """A way to blend M members, ready to be applied."""

    method: ClassVar[str]
    names: tuple[str, ...]
    """The members', in the order in which their predictions are given."""

    def apply(self, members: Sequence[Predictions]) -> Predictions:
        """Blend the members' predictions of any N clips, in the order of `names`.

        Raises:
            DataError: they do not hold the same clips, or are not what the fusion was made for.
        """

    def to_json(self) -> dict[str, Any]:
        """Describe all that decides what `apply` gives, but `names`, in plain values."""

    @classmethod
    def from_json(cls, names: Sequence[str], content: dict[str, Any]) -> Self:
        """Make it of what `to_json` returned.

        Raises:
            LookupError, TypeError, ValueError: it is not such.
        """


class LearnedFusion(Fusion, Protocol):
    """A way to blend members that is learned from labelled clips."""

    @classmethod
    def fit(cls, names: Sequence[str], members: Sequence[Predictions], labels: Labels, folds: Folds) -> Self:
        """Learn from the members' predictions of the clips that `labels` holds, in any order.

        Args:
            names: M.
            members: M predictions of N clips.
            labels: of the same N clips.
            folds: for what is chosen by cross-validation within these clips.
        Raises:
            DataError: members and labels do not hold the same clips, or a label is not from 1 to 5.
        """


def stacked_scores(members: Sequence[Predictions], target: str) -> Floats:
    """Stack the members' scores of a target: (M, N)."""
    return np.stack([getattr(member, target) for member in members])


def finite_array(values: object, shape: tuple[int | None, ...]) -> Floats:
    """Read numbers from plain values; None in `shape` stands for any length.

    Raises:
        ValueError, TypeError: another shape, or not finite numbers.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        raise ValueError(f"numbers of shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise ValueError("a number that is not finite")
    return array
