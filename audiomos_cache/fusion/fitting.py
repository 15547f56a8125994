"""Fitting a fusion to labelled clips, and testing it on held-out ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from audiomos_cache.dataset.clip import check_split
from audiomos_cache.dataset.labels import Labels, read_labels
from audiomos_cache.dataset.loading import read_prompts_of
from audiomos_cache.errors import ConfigError, DataError, one_of
from audiomos_cache.evaluation.bootstrap import Uncertainty, bootstrap_intervals
from audiomos_cache.evaluation.metrics import Scores, points_of, scores_of
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.evaluation.summaries import scores_json
from audiomos_cache.fusion.align import align_labels, predictions_of, take_labels, truth_of
from audiomos_cache.fusion.base import Blend, FittedFusion, Fusion, Members, fusion_class
from audiomos_cache.fusion.folds import DEFAULT_FOLDS, GROUPS, Folds
from audiomos_cache.fusion.members import Member, SplitPredictions, read_split
from audiomos_cache.runs import BESTS
from audiomos_cache.targets import TARGETS


@dataclass(frozen=True)
class Recipe:
    """How a fusion is made: the options of `fuse`, checked.

    Raises:
        ConfigError: an unknown method. ArgumentError: another value that is not known. DataError: a split that cannot
        be part of a file's name.
    """

    method: str = "ridge"
    labels: Path | None = None
    fit_split: str | None = None
    apply_split: str | None = None
    apply: tuple[Path, ...] = ()
    best: str = "loss"
    folds: int = DEFAULT_FOLDS
    cv_group: str = "prompt"
    seed: int = 0
    n_boot: int = 10_000
    allow_missing: bool = False

    def __post_init__(self) -> None:
        fusion_class(self.method)
        one_of("best", self.best, BESTS)
        one_of("cv_group", self.cv_group, GROUPS)
        for split in (self.fit_split, self.apply_split):
            if split is not None:
                check_split(split)  # it becomes part of a file's name

    def given(self) -> list[str]:
        """Name the options that decide how a fusion is made and differ from their defaults."""
        default = Recipe()
        return [
            f"--{field.name.replace('_', '-')}"
            for field in fields(self)
            if field.name not in ("apply_split", "allow_missing")
            and getattr(self, field.name) != getattr(default, field.name)
        ]

    @property
    def fitted_class(self) -> type[FittedFusion] | None:
        """The method's class, where it is fitted to labelled clips; None where it is not."""
        method = fusion_class(self.method)
        return method if issubclass(method, FittedFusion) else None


@dataclass(frozen=True)
class FitData:
    """What a fusion is fitted to.

    Attributes:
        predictions: of the members, for N clips.
        labels: of the same clips, in the order of the predictions.
        prompts: the prompt of each clip, by id: its words, or another string that only clips of this prompt have.
    """

    predictions: SplitPredictions
    labels: Labels
    prompts: Mapping[str, str]


def read_fit_data(recipe: Recipe, members: Sequence[Member]) -> FitData:
    """Read the members' predictions of the fit split, and its labels.

    Raises:
        DataError: no labels, labels or predictions that are not valid, or not of the same clips.
    """
    labels = recipe.labels
    if labels is None:
        raise DataError(f"{recipe.method}: no labels to fit on; give the fit split's list with --labels")
    listed = read_labels(labels, recipe.fit_split)
    predictions = read_split(members, "fit", allow_missing=recipe.allow_missing, expected=listed.ids)
    dropped = set(predictions.dropped)
    kept = take_labels(listed, [clip for clip in listed.ids if clip not in dropped])
    aligned = align_labels(kept, predictions.ids, predictions.files[0])
    return FitData(predictions, aligned, read_prompts_of(labels, kept.ids))


@dataclass(frozen=True)
class OutOfFold:
    """What a fitted fusion predicts of each labelled clip when it was fitted without it.

    Attributes:
        predictions: of the fit split's clips.
        scores: of these predictions.
        uncertainty: their intervals; None where there are no resamples.
        folds: which clips were held out together.
    """

    predictions: Predictions
    scores: Scores
    uncertainty: Uncertainty | None
    folds: Folds

    @classmethod
    def of(cls, predictions: Predictions, labels: Labels, folds: Folds, n_boot: int) -> "OutOfFold":
        """Compare predictions with the labels of their clips; `n_boot` resamples of systems give the intervals."""
        points = points_of(predictions, labels)
        uncertainty = bootstrap_intervals(points, n_boot, folds.seed) if n_boot else None
        return cls(predictions, scores_of(points), uncertainty, folds)

    @property
    def headline(self) -> str:
        """One sentence: what these scores are of."""
        return f"Out-of-fold on the fit split: each clip by a fusion that was fitted without it, {self.folds}."

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without the predictions."""
        folds = self.folds
        scores = scores_json(self.scores, self.uncertainty)
        return {"folds": folds.count, "group": folds.group, "seed": folds.seed, "scores": scores}


def fit_and_test(recipe: Recipe, method: type[FittedFusion], data: FitData) -> tuple[Fusion, OutOfFold | None]:
    """Fit a fusion to all clips, and test it on those of each fold when fitted to the others.

    Args:
        recipe: its folds and seed.
        method: what is fitted.
        data: the labelled clips.
    Returns:
        The fusion, and its test; None for a recipe without folds.
    Raises:
        ConfigError: folds that cannot be, or none for a method that needs them. DataError: all clips are of one group.
    """
    if method.needs_folds and recipe.folds == 0:
        raise ConfigError(
            f"{recipe.method} is fitted by cross-validation, which 0 folds leave out; give --folds 2 or more"
        )
    count = recipe.folds or DEFAULT_FOLDS
    folds = Folds.by(recipe.cv_group, data.labels, prompts=data.prompts, count=count, seed=recipe.seed)
    members, labels = data.predictions.members, data.labels
    tested = None
    if recipe.folds:
        held_out = predictions_of(labels.ids, out_of_fold(method, members, labels, folds))
        tested = OutOfFold.of(held_out, labels, folds, recipe.n_boot)
    return fit(method, members, labels, folds), tested


def fit(method: type[FittedFusion], members: Members, labels: Labels, folds: Folds) -> FittedFusion:
    """Fit a method to labelled clips.

    Args:
        method: what is fitted.
        members: the predictions of M members for N clips.
        labels: of the same clips, in the same order.
        folds: how these and other clips are shared out over folds.
    """
    return method.fit(members, truth_of(labels), lambda: folds.assign(labels.ids))


def out_of_fold(method: type[FittedFusion], members: Members, labels: Labels, folds: Folds) -> Blend:
    """Predict each fold's clips with a fusion that was fitted to the others.

    Args:
        method, members, labels, folds: see `fit`.
    Returns:
        Of all N clips, in their order.
    Raises:
        DataError: the clips are of one group, or what `method` raises.
    """
    fold = folds.assign(labels.ids)
    blends, rows = [], []
    for number in range(fold.max() + 1):
        held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        fusion = fit(method, members.take(rest), take_labels(labels, [labels.ids[row] for row in rest]), folds)
        blends.append(fusion.apply(members.take(held)))
        rows.append(held)
    order = np.argsort(np.concatenate(rows))
    return Blend(
        {target: np.concatenate([blend.scores[target] for blend in blends])[order] for target in TARGETS},
        {
            target: np.concatenate([blend.dists[target] for blend in blends])[order]
            for target in TARGETS
            if all(target in blend.dists for blend in blends)
        },
    )
