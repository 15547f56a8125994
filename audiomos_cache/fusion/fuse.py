"""`fuse`: blend the predictions of several members, and write the answer with a record of how it was made."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from audiomos_cache.errors import ArgumentError, DataError, first_five, paths_of
from audiomos_cache.evaluation.predictions import ANSWER_NAME, Predictions
from audiomos_cache.evaluation.summaries import scores_table
from audiomos_cache.fusion.align import predictions_of
from audiomos_cache.fusion.base import Fusion, fusion_class
from audiomos_cache.fusion.fitting import OutOfFold, Recipe, fit_and_test, read_fit_data
from audiomos_cache.fusion.folds import DEFAULT_FOLDS
from audiomos_cache.fusion.leakage import EarlyStopping, clips_of_runs, early_stopping, refuse_trained_on
from audiomos_cache.fusion.members import (
    Member,
    SplitPredictions,
    expand_runs,
    members_of_files,
    members_of_runs,
    read_split,
    require_one_fingerprint,
)
from audiomos_cache.fusion.record import (
    FUSED,
    OUT_OF_FOLD,
    out_of_fold_file,
    predictions_name,
    read_record,
    refuse_other_content,
    write_fusion,
)
from audiomos_cache.fusion.recorded_members import RecordedMember, identity, match_files, match_runs
from audiomos_cache.progress import counted

log = logging.getLogger(__name__)


AnyPath = str | PathLike[str]


@dataclass(frozen=True, repr=False)
class FuseResult:
    """A fusion that was made or applied; its `repr` is a summary of a few lines.

    Attributes:
        folder: what was written, with `answer.txt`, the predictions and `fusion.json`.
        fusion: ready to be applied to other predictions of its members.
        predictions: of the apply split.
        out_of_fold: of the fit split; None where nothing was fitted, or without cross-validation.
        early_stopping: of members that chose their checkpoints on the clips that are fused.
        dropped: by split (`fit`, `apply`), how many clips were left out because not all members have them.
    """

    folder: Path
    fusion: Fusion
    predictions: Predictions
    out_of_fold: OutOfFold | None
    early_stopping: tuple[EarlyStopping, ...]
    dropped: Mapping[str, int]

    @property
    def answer(self) -> Path:
        """The challenge's answer file."""
        return self.folder / ANSWER_NAME

    @property
    def headline(self) -> str:
        """One line: the answer, the method, how many members and clips."""
        return (
            f"{self.answer}: {self.fusion.method} of {counted(len(self.fusion.names), 'member')}, "
            f"{counted(len(self.predictions.ids), 'clip')}"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on members whose scores may be optimistic."""
        return tuple(each.note(len(self.fusion.names)) for each in self.early_stopping)

    def __repr__(self) -> str:
        tested = self.out_of_fold
        lines = [tested.headline, scores_table(tested.scores, tested.uncertainty)] if tested else []
        return "\n".join([self.headline, *lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without the predictions."""
        return {
            "folder": str(self.folder),
            "method": self.fusion.method,
            "members": list(self.fusion.names),
            "clips": len(self.predictions.ids),
            "out_of_fold": self.out_of_fold.to_json() if self.out_of_fold else None,
            "early_stopping": {each.split: each.to_json() for each in self.early_stopping},
            "dropped": dict(self.dropped),
        }


def fuse(
    sources: AnyPath | Sequence[AnyPath],
    *,
    out: AnyPath,
    labels: AnyPath | None = None,
    method: str = "ridge",
    fit_split: str | None = None,
    apply_split: str | None = None,
    apply: Sequence[AnyPath] = (),
    best: str = "loss",
    folds: int = DEFAULT_FOLDS,
    cv_group: str = "prompt",
    seed: int = 0,
    n_boot: int = 10_000,
    allow_missing: bool = False,
    from_fusion: AnyPath | None = None,
    overwrite: bool = False,
) -> FuseResult:
    """Blend the predictions of several members: fit on one split, apply to another, write the result to `out`.

    Args:
        sources: run folders or folders of runs; or the fit split's predictions files (.jsonl, .pt, answer.txt).
        out: the folder to make; it appears complete or not at all.
        labels: the fit split's list or manifest, for a method that is fitted; the others do not read it.
        method: a registered fusion: mean, weighted, ridge, lightgbm, greedy, or a user's own.
        fit_split: the split to fit on; None: dev of runs, not known of files (all rows of a manifest are read).
        apply_split: the split to blend; None: eval of runs, not known of files (the output names no split).
        apply: with files, those of the apply split, in the same order as the fit split's.
        best: with runs, which of their best checkpoints: loss (its distributions fit best), srcc or combined.
        folds: of the cross-validation that measures how well a fitted method does; 0: none.
        cv_group: what is held out together: prompt, system or none.
        seed: of the folds, and of the bootstrap's resamples.
        n_boot: resamples of the intervals of the out-of-fold scores; 0: no intervals.
        allow_missing: leave out the clips that not all members have, instead of refusing them.
        from_fusion: the folder of an earlier fusion, which is applied as it is, and not fitted again. `sources` are the
            members' runs in any order and folder, or a predictions file for each, in the members' order.
        overwrite: replace the fusion that `out` holds.
    Raises:
        ArgumentError: `from_fusion`, and an argument that decides how a fusion is made; or an unknown `best` or
        `cv_group`. ConfigError: an unknown method, or folds that it cannot have. DataError: inputs that do not belong
        together, are not predictions of the same clips, or of clips that a member was trained on; bad labels; no
        fusion. CacheError: runs of several fingerprints. OutputExistsError: `out` holds something, and `overwrite` is
        False or it is not a fusion's.
    Source: Ritter-Gutierrez et al. 2025 (stacking by ridge); see each method's class for the others.

    >>> runs = ["runs/pooling-dist-seed1", "runs/pooling-dist-seed2"]
    >>> result = fuse(runs, out="fused-ridge", labels="data/sets/dev_mos_list.txt", folds=2, n_boot=0)
    >>> print(result.headline)
    fused-ridge/answer.txt: ridge of 2 members, 8 clips
    >>> result.out_of_fold.scores.n_clips
    8
    """
    paths = paths_of("sources", sources)
    folder = Path(out)
    recipe = Recipe(
        method=method,
        labels=None if labels is None else Path(labels),
        fit_split=fit_split,
        apply_split=apply_split,
        apply=tuple(paths_of("apply", apply)),
        best=best,
        folds=folds,
        cv_group=cv_group,
        seed=seed,
        n_boot=n_boot,
        allow_missing=allow_missing,
    )
    if from_fusion is None:
        return _make(paths, folder, recipe, overwrite=overwrite)
    if given := recipe.given():
        raise ArgumentError(f"{', '.join(given)}: the fusion to apply is made already; leave these out")
    return _apply(Path(from_fusion), paths, folder, recipe, overwrite=overwrite)


def _make(sources: Sequence[Path], out: Path, recipe: Recipe, *, overwrite: bool) -> FuseResult:
    """Fit a fusion where its method is fitted, and apply it."""
    refuse_other_content(out, overwrite=overwrite)
    recipe, members = _members_for(recipe, expand_runs(sources))
    fingerprint = require_one_fingerprint(members)
    method = recipe.fitted_class
    data = read_fit_data(recipe, members) if method else None
    applied = read_split(members, "apply", allow_missing=recipe.allow_missing)
    splits = [data.predictions, applied] if data else [applied]
    stopping = _check_leaks(members, splits)
    if method and data:
        fusion, tested = fit_and_test(recipe, method, data)
    else:
        fusion, tested = fusion_class(recipe.method)([member.name for member in members]), None
    fit_clips = list(data.labels.ids) if data else []
    fit_split = recipe.fit_split if data else None
    held_out = predictions_name(OUT_OF_FOLD, fit_split)
    _warn_of_fitted(applied.ids, frozenset(fit_clips), out / held_out if tested else None)
    dropped = {each.split: len(each.dropped) for each in splits}
    predictions = predictions_of(applied.ids, fusion.apply(applied.members))
    about = {
        "fingerprint": fingerprint.digest if fingerprint else None,
        "fit_split": fit_split,
        "apply_split": recipe.apply_split,
        "labels": identity(recipe.labels) if data and recipe.labels else None,
        "out_of_fold": tested.to_json() if tested else None,
        "early_stopping": {each.split: each.to_json() for each in stopping},
        "dropped": dropped,
        "fit_clips": fit_clips,
    }
    files = {predictions_name(FUSED, recipe.apply_split): predictions}
    if tested:
        files[held_out] = tested.predictions
    write_fusion(out, files, predictions, fusion, [RecordedMember.of(member) for member in members], about)
    return FuseResult(out, fusion, predictions, tested, stopping, dropped)


def _members_for(recipe: Recipe, sources: Sequence[Path]) -> tuple[Recipe, list[Member]]:
    """Find the members; of runs, the splits are known."""
    fitted = recipe.fitted_class is not None
    if not _are_runs(sources, recipe.apply):
        return recipe, members_of_files(sources, recipe.apply, fitted=fitted)
    fit_split, apply_split = recipe.fit_split or "dev", recipe.apply_split or "eval"
    members = members_of_runs(sources, fit_split if fitted else None, apply_split, recipe.best)
    return replace(recipe, fit_split=fit_split, apply_split=apply_split), members


def _apply(folder: Path, sources: Sequence[Path], out: Path, recipe: Recipe, *, overwrite: bool) -> FuseResult:
    """Apply a fusion that was made before to other predictions of its members."""
    refuse_other_content(out, overwrite=overwrite, source=folder)
    record = read_record(folder)
    sources = expand_runs(sources)
    apply_split = recipe.apply_split
    if _are_runs(sources, ()):
        apply_split = apply_split or "eval"
        members = match_runs(record.members, sources, apply_split)
    else:
        members = match_files(record.members, sources)
    applied = read_split(members, "apply", allow_missing=recipe.allow_missing)
    stopping = _check_leaks(members, [applied])
    _warn_of_fitted(applied.ids, record.fit_clips, out_of_fold_file(folder))
    dropped = {"apply": len(applied.dropped)}
    predictions = predictions_of(applied.ids, record.fusion.apply(applied.members))
    now = [RecordedMember.of(member) for member in members]
    kept = [old.with_apply(new) for old, new in zip(record.members, now, strict=True)]
    before = record.about()
    of_fit = {split: found for split, found in before["early_stopping"].items() if split == "fit"}
    about = before | {
        "apply_split": apply_split,
        "early_stopping": of_fit | {each.split: each.to_json() for each in stopping},
        "dropped": before["dropped"] | dropped,
    }
    files = {predictions_name(FUSED, apply_split): predictions}
    write_fusion(out, files, predictions, record.fusion, kept, about)
    return FuseResult(out, record.fusion, predictions, None, stopping, dropped)


def _are_runs(sources: Sequence[Path], apply: Sequence[Path]) -> bool:
    """Return whether the sources are run folders, after checking that they are all of one kind."""
    folders = [source for source in sources if source.is_dir()]
    if folders and (apply or len(folders) < len(sources)):
        raise DataError(f"{folders[0]}: run folders and predictions files do not mix; give only the one kind")
    return bool(folders)


def _check_leaks(members: Sequence[Member], splits: Sequence[SplitPredictions]) -> tuple[EarlyStopping, ...]:
    """Refuse members that were trained on the clips, and find those that chose their checkpoints on them."""
    run_clips = clips_of_runs(members)
    for each in splits:
        refuse_trained_on(run_clips, each.ids, each.split)
    found = (early_stopping(members, run_clips, each.ids, each.split) for each in splits)
    return tuple(stopping for stopping in found if stopping)


def _warn_of_fitted(ids: Sequence[str], fit_clips: frozenset[str], held_out: Path | None) -> None:
    """Warn of clips that the fusion was fitted on; `held_out` is its file of out-of-fold predictions, if any."""
    if both := sorted(fit_clips.intersection(ids)):
        advice = (
            f"evaluate {held_out}" if held_out else "fuse again with --folds 5 and evaluate its out-of-fold predictions"
        )
        log.warning(
            "the fusion was fitted on %d of the %d clips that it is applied to, so numbers on them would look better "
            "than it is: %s; %s instead",
            len(both),
            len(ids),
            first_five(both),
            advice,
        )
