"""Learning a fusion from labelled clips, and testing it on clips that it has not seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audiomos_cache.dataset.labels import Labels, read_labels
from audiomos_cache.dataset.musiceval import read_prompts_of
from audiomos_cache.errors import ConfigError, DataError
from audiomos_cache.evaluation.bootstrap import Uncertainty, bootstrap_intervals
from audiomos_cache.evaluation.metrics import Scores, points_of, scores_of
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.evaluation.summaries import scores_json
from audiomos_cache.fusion.align import align_labels, take_labels
from audiomos_cache.fusion.base import Fusion
from audiomos_cache.fusion.folds import DEFAULT_FOLDS, Folds
from audiomos_cache.fusion.inputs import SplitPredictions, read_split
from audiomos_cache.fusion.members import Member
from audiomos_cache.fusion.methods import LEARNED
from audiomos_cache.fusion.out_of_fold import out_of_fold
from audiomos_cache.fusion.recipe import Recipe


@dataclass(frozen=True)
class OutOfFold:
    """What a learned fusion says of each labelled clip when it was fitted without it.

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

    def to_json(self) -> dict[str, Any]:
        """Return plain values, but the predictions."""
        folds = self.folds
        scores = scores_json(self.scores, self.uncertainty)
        return {"folds": folds.count, "group": folds.group, "seed": folds.seed, "scores": scores}


@dataclass(frozen=True)
class Lesson:
    """What a fusion is learned from.

    Attributes:
        predictions: the members', of N clips.
        labels: of the same clips, in their list's order.
        prompts: of each clip, by id: the text, or what tells it from others'.
    """

    predictions: SplitPredictions
    labels: Labels
    prompts: Mapping[str, str]


def read_lesson(recipe: Recipe, members: Sequence[Member]) -> Lesson:
    """Read the members' predictions of the fit split, and its labels.

    Raises:
        DataError: no labels, labels or predictions that are not valid, or not of the same clips.
    """
    labels = recipe.labels
    if labels is None:
        raise DataError(f"{recipe.method}: no labels to fit on; give the fit split's list with --labels")
    listed = read_labels(labels, recipe.fit_split)
    predictions = read_split(members, "fit", allow_missing=recipe.allow_missing, wanted=listed.ids)
    dropped = set(predictions.dropped)
    kept = take_labels(listed, [clip for clip in listed.ids if clip not in dropped])
    align_labels(kept, predictions.ids, predictions.names[0])
    return Lesson(predictions, kept, read_prompts_of(labels, kept.ids))


def learn(recipe: Recipe, names: Sequence[str], lesson: Lesson) -> tuple[Fusion, OutOfFold | None]:
    """Fit a fusion on all clips, and test it on those of each fold when fitted on the others.

    Args:
        recipe: of a method that learns.
        names: the members'.
        lesson: what to learn from.
    Raises:
        ConfigError: folds that cannot be, or none for a method that needs them. DataError: all clips are of one group.
    """
    if recipe.method == "greedy" and recipe.folds == 0:
        raise ConfigError("greedy chooses its number of steps by cross-validation; give 2 folds or more")
    count = recipe.folds or DEFAULT_FOLDS
    shares = Folds.by(recipe.cv_group, lesson.labels, prompts=lesson.prompts, count=count, seed=recipe.seed)

    def fit(members: Sequence[Predictions], labels: Labels) -> Fusion:
        return LEARNED[recipe.method].fit(names, members, labels, shares)

    members = lesson.predictions.members
    tested = None
    if recipe.folds:
        held_out = out_of_fold(fit, members, lesson.labels, shares)
        tested = OutOfFold.of(held_out, lesson.labels, shares, recipe.n_boot)
    return fit(members, lesson.labels), tested
