"""Learning a fusion from labelled clips, and testing it on clips that it has not seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiomos_cache.dataset import Labels, read_labels
from audiomos_cache.dataset.musiceval import read_prompts_of
from audiomos_cache.errors import ConfigError, DataError
from audiomos_cache.fusion.align import align_labels, take_labels
from audiomos_cache.fusion.base import Fusion
from audiomos_cache.fusion.folds import DEFAULT_FOLDS, Folds
from audiomos_cache.fusion.inputs import SplitPredictions, read_split
from audiomos_cache.fusion.members import Member
from audiomos_cache.fusion.methods import LEARNED
from audiomos_cache.fusion.out_of_fold import out_of_fold
from audiomos_cache.metrics import Scores, evaluate
from audiomos_cache.predictions import Predictions


@dataclass(frozen=True)
class OutOfFold:
    """What a learned fusion says of each labelled clip when it was fitted without it.

    Attributes:
        predictions: of the fit split's clips.
        scores: of these predictions.
        folds: which clips were held out together.
    """

    predictions: Predictions
    scores: Scores
    folds: Folds


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


def read_lesson(
    method: str, members: Sequence[Member], labels: Path | None, split: str | None, *, allow_missing: bool
) -> Lesson:
    """Read the members' predictions of the fit split, and its labels.

    Args:
        method: for messages.
        members: of the fusion.
        labels: a list or a manifest.
        split: of a manifest, the one to read.
        allow_missing: leave out the clips that not all members have, and their labels.
    Raises:
        DataError: no labels, labels or predictions that are not valid, or not of the same clips.
    """
    if labels is None:
        raise DataError(f"{method}: no labels to fit on; give the fit split's list with --labels")
    listed = read_labels(labels, split)
    predictions = read_split(members, "fit", allow_missing=allow_missing, wanted=listed.ids)
    dropped = set(predictions.dropped)
    kept = take_labels(listed, [clip for clip in listed.ids if clip not in dropped])
    align_labels(kept, predictions.ids, predictions.names[0])
    return Lesson(predictions, kept, read_prompts_of(labels, kept.ids))


def learn(
    method: str, names: Sequence[str], lesson: Lesson, *, folds: int, cv_group: str, seed: int
) -> tuple[Fusion, OutOfFold | None]:
    """Fit a fusion on all clips, and test it on those of each fold when fitted on the others.

    Args:
        method: a key of `LEARNED`.
        names: the members'.
        lesson: what to learn from.
        folds, cv_group, seed: see `fuse`.
    Raises:
        ConfigError: folds that cannot be, or none for a method that needs them. DataError: all clips are of one group.
    """
    if method == "greedy" and folds == 0:
        raise ConfigError("greedy chooses its number of steps by cross-validation; give 2 folds or more")
    shares = Folds.by(cv_group, lesson.labels, prompts=lesson.prompts, count=folds or DEFAULT_FOLDS, seed=seed)

    def fit(members: Sequence[Predictions], labels: Labels) -> Fusion:
        return LEARNED[method].fit(names, members, labels, shares)

    members = lesson.predictions.members
    tested = None
    if folds:
        held_out = out_of_fold(fit, members, lesson.labels, shares)
        tested = OutOfFold(held_out, evaluate(held_out, lesson.labels), shares)
    return fit(members, lesson.labels), tested
