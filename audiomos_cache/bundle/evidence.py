"""How well a fusion does on labelled clips: the table in a bundle's card, and the calibration of its intervals."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiomos_cache.bundle.calibration import Calibration, calibrate, spreads
from audiomos_cache.bundle.sources import Source, Sources
from audiomos_cache.dataset.labels import Labels, read_labels
from audiomos_cache.dataset.loading import read_prompts_of
from audiomos_cache.errors import BundleError, quoted
from audiomos_cache.evaluation.bootstrap import bootstrap_intervals
from audiomos_cache.evaluation.metrics import points_of, scores_of
from audiomos_cache.evaluation.predictions import Predictions, read_predictions
from audiomos_cache.evaluation.summaries import scores_json
from audiomos_cache.fusion.align import align_labels, blend_of, join_members, predictions_of, take_labels
from audiomos_cache.fusion.base import FittedFusion, Members
from audiomos_cache.fusion.folds import Folds
from audiomos_cache.fusion.leakage import clips_of_runs, early_stopping, refuse_trained_on
from audiomos_cache.fusion.members import Member, members_of_runs
from audiomos_cache.fusion.record import RECORD_NAME, FusionRecord, out_of_fold_file
from audiomos_cache.fusion.recorded_members import identity
from audiomos_cache.runs import predictions_path
from audiomos_cache.targets import TARGETS

log = logging.getLogger(__name__)

SEED = 0  # of folds and resamples where no fusion has chosen them

_OUT_OF_FOLD = ("folds", "group", "seed", "scores")


@dataclass(frozen=True)
class Calibrated:
    """Intervals of both targets, and what they were calibrated on.

    Attributes:
        targets: by `mi` and `ta`.
        labels: name and hash of their list.
        split: its split, where that has a name.
        folds: which clips were held out together.
    """

    targets: Mapping[str, Calibration]
    labels: Mapping[str, str]
    split: str | None
    folds: Folds


@dataclass(frozen=True)
class Evidence:
    """What is known of a fusion's scores.

    Attributes:
        scores: the sixteen numbers with their intervals, as `scores_json` has them; None where there are none.
        out_of_fold: how the clips were held out, where the fusion was fitted on others of the same list.
        chosen_on: how many members chose their checkpoints on these clips.
        calibrated: None where there are no intervals.
        labels: the name of the clips' list, without its folder.
        split: the list's, where that has a name.
    """

    scores: Mapping[str, Any] | None = None
    out_of_fold: str | None = None
    chosen_on: int = 0
    calibrated: Calibrated | None = None
    labels: str | None = None
    split: str | None = None


def find_evidence(sources: Sources, labels: Path | None, split: str | None, n_boot: int) -> Evidence:
    """Calibrate a fusion's intervals, where there is something to calibrate them on; a warning says where there is not.

    Args:
        sources: the members and their fusion.
        labels: the list that the fusion was fitted on, if it was moved since; of a fusion that is not fitted,
            a list of clips that no member was trained on.
        split: of the list, for a fusion that is not fitted; None: dev.
        n_boot: resamples of the scores' intervals, where the scores are not known yet.
    Raises:
        BundleError: a list that is gone or was changed, or is another than that of the fusion. DataError: labels or
        predictions that are missing or not valid, or clips that a member was trained on.
    """
    record = sources.record
    if record and sources.folder and isinstance(sources.fusion, FittedFusion):
        return _of_fitted(sources, record, sources.folder, labels, split)
    if labels is None:
        log.warning("no intervals and no table of scores: nothing was fitted on labels; give some with --labels")
        return Evidence()
    return _of_fixed(sources, labels, split or "dev", n_boot)


@dataclass(frozen=True)
class _FitRecord:
    """The part of a fusion's record about what it was fitted on; see `Evidence`."""

    split: str | None
    labels: Mapping[str, str]
    folds: Mapping[str, Any] | None
    files: tuple[Mapping[str, str], ...]
    chosen_on: int

    @classmethod
    def of(cls, record: FusionRecord, folder: Path) -> "_FitRecord":
        """Read it.

        Raises:
            BundleError: the record is damaged.
        """
        content = record.content
        try:
            return cls(
                split=content["fit_split"],
                labels={key: str(content["labels"][key]) for key in ("path", "xxh3_128")},
                folds=content["out_of_fold"] and {key: content["out_of_fold"][key] for key in _OUT_OF_FOLD},
                files=tuple(member.files["fit"] for member in record.members),
                chosen_on=len(content["early_stopping"].get("fit", {"clips": ()})["clips"]),
            )
        except (LookupError, TypeError, AttributeError) as error:
            raise BundleError(
                f"{folder / RECORD_NAME}: not of a fusion that was fitted ({quoted(error)}); fuse again"
            ) from error


def _of_fitted(
    sources: Sources, record: FusionRecord, folder: Path, labels: Path | None, split: str | None
) -> Evidence:
    fit = _FitRecord.of(record, folder)
    if split not in (None, fit.split):
        raise BundleError(f"--fit-split {split}: {folder} was fitted on {fit.split or 'files'}; leave it out")
    if fit.folds is None:
        log.warning("no intervals: %s was made without folds; fuse again with --folds 5 to have some", folder)
        return Evidence()
    count, group = fit.folds["folds"], fit.folds["group"]
    held_out, name = str(Folds(group, {}, count)), Path(fit.labels["path"]).name
    known = Evidence(fit.folds["scores"], held_out, fit.chosen_on, labels=name, split=fit.split)
    file = out_of_fold_file(folder)
    if file is None:
        log.warning("no intervals: %s has no out-of-fold predictions; bundle the folder in which it was fitted", folder)
        return known
    fused = read_predictions(file)
    if set(fused.ids) != record.fit_clips:
        raise BundleError(f"{file}: is not of the clips that the fusion was fitted on; fuse again")
    listed = _fitted_labels(fit.labels, folder, labels)
    truth = _labels_of(listed, fit.split, fused, str(file))
    predictions = [_fitted_on(*pair, fused) for pair in zip(sources.members, fit.files, strict=True)]
    _, members = join_members(predictions, sources.fusion.names)
    prompts = read_prompts_of(listed, fused.ids)
    folds = Folds.by(group, truth, prompts=prompts, count=count, seed=fit.folds["seed"])
    return replace(known, calibrated=_calibrate(members, fused, truth, folds, listed, fit.split))


def _of_fixed(sources: Sources, labels: Path, split: str, n_boot: int) -> Evidence:
    """Judge a fusion that is not fitted by its predictions of the labelled clips."""
    found = [
        member
        for source in sources.members
        for member in members_of_runs([source.run.folder], None, split, source.best)
    ]
    ids, members = join_members(
        [read_predictions(member.apply) for member in found], [str(member.apply) for member in found]
    )
    fused = predictions_of(ids, sources.fusion.apply(members))
    truth = align_labels(read_labels(labels, split), fused.ids, str(found[0].apply))
    chosen_on = _count_chosen_on(found, fused, split)
    points = points_of(fused, truth)
    scores = scores_json(scores_of(points), bootstrap_intervals(points, n_boot, SEED) if n_boot else None)
    folds = Folds.by("prompt", truth, prompts=read_prompts_of(labels, fused.ids), seed=SEED)
    calibrated = _calibrate(members, fused, truth, folds, labels, split)
    return Evidence(scores, None, chosen_on, calibrated, labels.name, split)


def _count_chosen_on(members: list[Member], fused: Predictions, split: str) -> int:
    run_clips = clips_of_runs(members)
    refuse_trained_on(run_clips, fused.ids, split)
    stopping = early_stopping(members, run_clips, fused.ids, split)
    return len(stopping.clips) if stopping else 0


def _fitted_labels(recorded: Mapping[str, str], folder: Path, given: Path | None) -> Path:
    """Return the list that a fusion was fitted on, where it is now."""
    path = given or Path(recorded["path"])
    advice = "give the list that the fusion was fitted on with --labels, or fuse again"
    if not path.is_file():
        raise BundleError(f"{path}: does not exist, expected the labels of {folder}; {advice}")
    if (found := identity(path)["xxh3_128"]) != recorded["xxh3_128"]:
        raise BundleError(f"{path}: hash {found}, expected {recorded['xxh3_128']} as of {folder}; {advice}")
    return path


def _labels_of(path: Path, split: str | None, fused: Predictions, name: str) -> Labels:
    """Read the labels of the clips that a fusion was fitted on, which may be some of the list's."""
    listed = read_labels(path, split)
    kept = set(fused.ids)
    return align_labels(take_labels(listed, [clip for clip in listed.ids if clip in kept]), fused.ids, name)


def _fitted_on(source: Source, recorded: Mapping[str, str], fused: Predictions) -> Predictions:
    """Read a member's predictions of the clips that the fusion was fitted on."""
    pattern = predictions_path(source.run.folder, "*", source.best)
    for path in sorted(pattern.parent.glob(pattern.name)):
        if identity(path)["xxh3_128"] == recorded["xxh3_128"]:
            return read_predictions(path).take(fused.ids)
    raise BundleError(
        f"{pattern}: none has the hash {recorded['xxh3_128']} of {Path(recorded['path']).name} that the fusion was "
        "fitted on, so it was changed since; fuse again"
    )


def _calibrate(
    members: Members, fused: Predictions, truth: Labels, folds: Folds, labels: Path, split: str | None
) -> Calibrated | None:
    if len(set(folds.group_of.values())) < 2:
        log.warning("no intervals: the labelled clips are all of one %s, so none can be held out", folds.group)
        return None
    fold, groups = folds.assign(fused.ids), [folds.group_of[clip] for clip in fused.ids]
    targets = {}
    for target in TARGETS:
        spread = spreads(members, blend_of(fused), target)
        found = calibrate(getattr(fused, target), spread, np.asarray(getattr(truth, target)), fold, groups)
        if found is None:
            log.warning("no intervals: %d labelled clips are too few, or predicted too badly, for any", len(fused.ids))
            return None
        targets[target] = found
    known = identity(labels)["xxh3_128"]
    return Calibrated(targets, {"name": labels.name, "xxh3_128": known}, split, folds)
