"""Fuse the predictions of several members, and write the answer with a record of how it was made."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audiomos_cache.artifacts import atomic_folder, refuse_occupied
from audiomos_cache.dataset.clip import check_split
from audiomos_cache.errors import DataError, OutputExistsError, first_five
from audiomos_cache.evaluation.predictions import ANSWER_NAME, Predictions, write_answer, write_predictions
from audiomos_cache.fusion.base import Fusion
from audiomos_cache.fusion.fitting import RIDGE, OutOfFold, Recipe, learn, read_lesson
from audiomos_cache.fusion.leakage import EarlyStopping, clips_seen, early_stopping, refuse_trained_on
from audiomos_cache.fusion.members import (
    Member,
    SplitPredictions,
    expand_runs,
    members_of_files,
    members_of_runs,
    read_split,
    require_one_fingerprint,
)
from audiomos_cache.fusion.methods import FIXED
from audiomos_cache.fusion.record import (
    RECORD_NAME,
    RecordedMember,
    identity,
    match_files,
    match_runs,
    read_record,
    write_record,
)

log = logging.getLogger(__name__)


FUSED, OUT_OF_FOLD = "fused", "out-of-fold"

_OWN = (ANSWER_NAME, RECORD_NAME, *(f"{kind}{split}.jsonl" for kind in (FUSED, OUT_OF_FOLD) for split in ("", ".*")))


def predictions_name(kind: str, split: str | None) -> str:
    """Return the name of a file of predictions: `fused.eval.jsonl`, or `fused.jsonl` of a split without a name."""
    return f"{kind}.{split}.jsonl" if split else f"{kind}.jsonl"


def out_of_fold_file(folder: Path) -> Path | None:
    """Return the out-of-fold predictions that a fusion wrote; None where it wrote none."""
    return next(iter(sorted(folder.glob(f"{OUT_OF_FOLD}*.jsonl"))), None)


def refuse_other_content(out: Path, *, overwrite: bool, source: Path | None = None) -> None:
    """Let a fusion replace nothing but a fusion, and that only when asked to; never the one that is applied.

    Args:
        out: the folder to make.
        overwrite: replace the fusion that it holds.
        source: the folder of the fusion that is applied.
    Raises:
        OutputExistsError: `out` is a file, or holds something else, or `overwrite` is False, or is `source`.
    """
    if source and out.resolve() == source.resolve():
        raise OutputExistsError(
            f"{out}: holds the fusion that is applied, whose out-of-fold predictions would be lost; give another --out"
        )
    refuse_occupied(out, what="fusion", own=_OWN, overwrite=overwrite)


def write_fusion(
    out: Path,
    files: Mapping[str, Predictions],
    answer: Predictions,
    fusion: Fusion,
    members: Sequence[RecordedMember],
    about: Mapping[str, Any],
) -> None:
    """Write predictions by their files' names, the answer and the record; `out` appears complete or not at all."""
    with atomic_folder(out, replace=True) as folder:
        for name, predictions in files.items():
            write_predictions(folder / name, predictions)
        write_answer(folder / ANSWER_NAME, answer)
        write_record(folder, fusion, members, about)


@dataclass(frozen=True)
class Fused:
    """A fusion that was made or applied.

    Attributes:
        fusion: ready to be applied to other predictions of its members.
        predictions: of the apply split.
        out_of_fold: of the fit split; None where nothing was learned, or without cross-validation.
        early_stopping: what is to be known of members that chose their checkpoints on the same clips.
        dropped: by split (`fit`, `apply`), how many clips were left out because not all members have them.
    """

    fusion: Fusion
    predictions: Predictions
    out_of_fold: OutOfFold | None
    early_stopping: tuple[EarlyStopping, ...]
    dropped: Mapping[str, int]


def fuse(sources: Sequence[Path], out: Path, recipe: Recipe = RIDGE, *, overwrite: bool = False) -> Fused:
    """Fit a fusion on one split, apply it to another, and write the result, the answer and a record to `out`.

    Args:
        sources: run folders or folders of runs, or the fit split's predictions files.
        out: a folder to make; it appears complete or not at all.
        recipe: how.
        overwrite: replace the fusion that `out` holds.
    Raises:
        ConfigError: folds that the method cannot have. DataError: inputs that do not belong together, are not
        predictions of the same clips, or of clips that a member was trained on; bad labels. CacheError: runs of
        several fingerprints. OutputExistsError: `out` holds something, and `overwrite` is False or it is not a
        fusion's.
    """
    refuse_other_content(out, overwrite=overwrite)
    recipe, members = _members_for(recipe, expand_runs(sources))
    fingerprint = require_one_fingerprint(members)
    lesson = read_lesson(recipe, members) if recipe.learns else None
    applied = read_split(members, "apply", allow_missing=recipe.allow_missing)
    splits = [lesson.predictions, applied] if lesson else [applied]
    stopping = _check_seen(members, splits)
    names = [member.name for member in members]
    fusion, tested = learn(recipe, names, lesson) if lesson else (FIXED[recipe.method](names), None)
    fit_clips = sorted(lesson.labels.ids) if lesson else []
    fit_split = recipe.fit_split if lesson else None
    held_out = predictions_name(OUT_OF_FOLD, fit_split)
    _warn_of_fitted(applied.ids, frozenset(fit_clips), out / held_out if tested else None)
    dropped = {each.split: len(each.dropped) for each in splits}
    fused = Fused(fusion, fusion.apply(applied.members), tested, stopping, dropped)
    about = {
        "fingerprint": fingerprint.digest if fingerprint else None,
        "fit_split": fit_split,
        "apply_split": recipe.apply_split,
        "labels": identity(recipe.labels) if lesson and recipe.labels else None,
        "out_of_fold": tested.to_json() if tested else None,
        "early_stopping": {each.split: each.to_json() for each in stopping},
        "dropped": dropped,
        "fit_clips": fit_clips,
    }
    files = {predictions_name(FUSED, recipe.apply_split): fused.predictions}
    if tested:
        files[held_out] = tested.predictions
    write_fusion(out, files, fused.predictions, fusion, [RecordedMember.of(member) for member in members], about)
    return fused


def _members_for(recipe: Recipe, sources: Sequence[Path]) -> tuple[Recipe, list[Member]]:
    """Find the members; of runs, the splits are known."""
    if not _are_runs(sources, recipe.apply):
        return recipe, members_of_files(sources, recipe.apply, learns=recipe.learns)
    fit_split, apply_split = recipe.fit_split or "dev", recipe.apply_split or "eval"
    members = members_of_runs(sources, fit_split if recipe.learns else None, apply_split, recipe.best)
    return replace(recipe, fit_split=fit_split, apply_split=apply_split), members


def apply_fusion(
    folder: Path,
    sources: Sequence[Path],
    out: Path,
    *,
    apply_split: str | None = None,
    allow_missing: bool = False,
    overwrite: bool = False,
) -> Fused:
    """Apply a fusion that was made before to other predictions of its members, and write the result to `out`.

    Args:
        folder: what `fuse` wrote.
        sources: the members' runs, in any order and under any name; or a predictions file for each, in the members'
            order.
        out, allow_missing, overwrite: see `fuse`.
        apply_split: the split to blend; None: eval of runs, for files not known (the output names none).
    Raises:
        DataError: no fusion, or not its members or their predictions. OutputExistsError: see `fuse`; or `out` is
        `folder`.
    """
    if apply_split is not None:
        check_split(apply_split)
    refuse_other_content(out, overwrite=overwrite, source=folder)
    record = read_record(folder)
    sources = expand_runs(sources)
    if _are_runs(sources, ()):
        apply_split = apply_split or "eval"
        members = match_runs(record.members, sources, apply_split)
    else:
        members = match_files(record.members, sources)
    applied = read_split(members, "apply", allow_missing=allow_missing)
    stopping = _check_seen(members, [applied])
    _warn_of_fitted(applied.ids, record.fit_clips, out_of_fold_file(folder))
    dropped = {"apply": len(applied.dropped)}
    fused = Fused(record.fusion, record.fusion.apply(applied.members), None, stopping, dropped)
    now = [RecordedMember.of(member) for member in members]
    kept = [old.with_apply(new) for old, new in zip(record.members, now, strict=True)]
    before = record.about()
    told = {split: told for split, told in before["early_stopping"].items() if split == "fit"}
    about = before | {
        "apply_split": apply_split,
        "early_stopping": told | {each.split: each.to_json() for each in stopping},
        "dropped": before["dropped"] | dropped,
    }
    files = {predictions_name(FUSED, apply_split): fused.predictions}
    write_fusion(out, files, fused.predictions, record.fusion, kept, about)
    return fused


def _are_runs(sources: Sequence[Path], apply: Sequence[Path]) -> bool:
    """Tell whether the sources are run folders, after checking that they are all of one kind."""
    folders = [source for source in sources if source.is_dir()]
    if folders and (apply or len(folders) < len(sources)):
        raise DataError(f"{folders[0]}: run folders and predictions files do not mix; give only the one kind")
    return bool(folders)


def _check_seen(members: Sequence[Member], splits: Sequence[SplitPredictions]) -> tuple[EarlyStopping, ...]:
    """Refuse members that were trained on the clips, and tell of those that chose their checkpoints on them."""
    seen = clips_seen(members)
    for each in splits:
        refuse_trained_on(seen, each.ids, each.split)
    found = (early_stopping(members, seen, each.ids, each.split) for each in splits)
    return tuple(stopping for stopping in found if stopping)


def _warn_of_fitted(ids: Sequence[str], fit_clips: frozenset[str], honest: Path | None) -> None:
    """Warn of clips that the fusion was fitted on; `honest` is the file of out-of-fold predictions, if there is one."""
    if both := sorted(fit_clips.intersection(ids)):
        advice = (
            f"evaluate {honest}" if honest else "fuse again with --folds 5 and evaluate its out-of-fold predictions"
        )
        log.warning(
            "the fusion was fitted on %d of the %d clips that it is applied to, so numbers on them would look better "
            "than it is: %s; %s instead",
            len(both),
            len(ids),
            first_five(both),
            advice,
        )
