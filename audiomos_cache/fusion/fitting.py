"""How a fusion is made: what is asked for, fitting it to labelled clips, and testing it on held-out ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.dataset.clip import check_split
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
from audiomos_cache.fusion.members import Member, SplitPredictions, read_split
from audiomos_cache.fusion.methods import LEARNED, METHODS


@dataclass(frozen=True)
class Recipe:
    """How a fusion is made.

    Attributes:
        method: a key of `METHODS`.
        labels: the fit split's list or manifest, for a method that learns; the others do not read it.
        fit_split: the split to learn on; None: dev of runs, for files not known (a manifest's rows are all read).
        apply_split: the split to blend; None: eval of runs, for files not known (the output names none).
        apply: with files, the apply split's, in the order of the fit split's.
        best: with runs, which of their best checkpoints: loss (its distributions fit best), srcc or combined.
        folds: of the cross-validation that tells how well a method that learns does; 0: none.
        cv_group: what is held out together: prompt, system or none.
        seed: of the folds, and of the resamples.
        n_boot: resamples of the intervals of the out-of-fold scores; 0: no intervals.
        allow_missing: leave out the clips that not all members have, instead of refusing them.
    Raises:
        ConfigError: an unknown method. DataError: a split that cannot name a file.
    """

    method: str = "ridge"
    labels: Path | None = None
    fit_split: str | None = None
    apply_split: str | None = None
    apply: Sequence[Path] = ()
    best: str = "loss"
    folds: int = DEFAULT_FOLDS
    cv_group: str = "prompt"
    seed: int = 0
    n_boot: int = 10_000
    allow_missing: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"fusion method {self.method!r} is not one of {', '.join(sorted(METHODS))}")
        for split in (self.fit_split, self.apply_split):
            if split is not None:
                check_split(split)  # it becomes part of a file's name

    @property
    def learns(self) -> bool:
        """Whether the method is fitted on labelled clips."""
        return self.method in LEARNED


RIDGE = Recipe()


def out_of_fold(
    fit: Callable[[Sequence[Predictions], Labels], Fusion],
    members: Sequence[Predictions],
    labels: Labels,
    folds: Folds,
) -> Predictions:
    """Predict each fold's clips with a fusion that was fitted on the others.

    Args:
        fit: makes a fusion of members' predictions and labels of the same clips.
        members: M predictions of the same N clips.
        labels: of these clips.
        folds: how they are shared out.
    Returns:
        Of all N clips.
    Raises:
        DataError: what `fit` raises, or the clips are of one group.
    """
    ids = np.array(members[0].ids)
    fold = folds.assign(members[0].ids)
    parts = []
    for number in range(fold.max() + 1):
        held, rest = ids[fold == number].tolist(), ids[fold != number].tolist()
        fusion = fit([member.take(rest) for member in members], take_labels(labels, rest))
        parts.append(fusion.apply([member.take(held) for member in members]))
    return _concatenated(parts)


def _concatenated(parts: Sequence[Predictions]) -> Predictions:
    def dists(name: str) -> NDArray[np.float64] | None:
        known = [getattr(part, name) for part in parts if getattr(part, name) is not None]
        return np.concatenate(known) if len(known) == len(parts) else None

    return Predictions.build(
        [clip for part in parts for clip in part.ids],
        np.concatenate([part.mi for part in parts]),
        np.concatenate([part.ta for part in parts]),
        dists("mi_dist"),
        dists("ta_dist"),
    )


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
