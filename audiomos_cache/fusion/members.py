"""The members of a fusion: the files of their predictions, in runs or in a user's own files, and reading them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from audiomos_cache.artifacts import Fingerprint, hash_bytes
from audiomos_cache.errors import DataError, first_five, quoted
from audiomos_cache.evaluation.predictions import Predictions, read_predictions
from audiomos_cache.files import MOST_WEIGHTS, read_file, real_path
from audiomos_cache.fusion.align import common_clips, join_members
from audiomos_cache.fusion.base import Members
from audiomos_cache.runs import (
    BESTS,
    CONFIG,
    HISTORY,
    checkpoint_path,
    deciding_config,
    fingerprint_in,
    predictions_path,
    read_run_config,
)
from audiomos_cache.targets import HIGHEST, LOWEST

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """One member of a fusion.

    Attributes:
        name: the run or the file, as it was given.
        apply: its predictions of the apply split.
        fit: those of the fit split, where something is fitted.
        run: the run that they come from, where that is known.
        best: which of the run's best checkpoints.
    """

    name: str
    apply: Path
    fit: Path | None = None
    run: Path | None = None
    best: str | None = None


def expand_runs(sources: Sequence[Path]) -> list[Path]:
    """Replace a folder of runs by the runs inside it, sorted; a warning names what is no run in it.

    Raises:
        DataError: a folder that is neither a run nor holds one, or a source that comes twice.
    """
    expanded: list[Path] = []
    for source in sources:
        if not source.is_dir() or (source / CONFIG).is_file():
            expanded.append(source)
            continue
        inside = sorted(source.iterdir())
        runs = [path for path in inside if not path.name.startswith(".") and (path / CONFIG).is_file()]
        if not runs:
            raise DataError(f"{source}: no {CONFIG} in it, nor in a folder in it, so no run; train-head makes runs")
        if others := [path.name for path in inside if path not in runs]:
            log.warning("%s: left out, not finished runs: %s", source, first_five(others))
        expanded += runs
    resolved = [real_path(path) for path in expanded]
    if twice := [str(path) for index, path in enumerate(expanded) if resolved.index(real_path(path)) < index]:
        raise DataError(f"given more than once: {first_five(twice)}; give each member once")
    return expanded


def members_of_runs(runs: Sequence[Path], fit_split: str | None, apply_split: str, best: str) -> list[Member]:
    """Find the predictions in run folders.

    Args:
        runs: their folders.
        fit_split: the split that is fitted on; None where nothing is fitted.
        apply_split: the split that is blended.
        best: which of the best checkpoints.
    Raises:
        DataError: a run without these predictions.
    """
    return [
        Member(
            name=str(run),
            apply=_predictions_of(run, apply_split, best),
            fit=None if fit_split is None else _predictions_of(run, fit_split, best),
            run=run,
            best=best,
        )
        for run in runs
    ]


def members_of_files(files: Sequence[Path], apply: Sequence[Path], *, fitted: bool) -> list[Member]:
    """Pair the fit split's files with the apply split's. Where nothing is fitted, `files` alone is enough.

    A warning lists the pairs that follow neither from a run nor from a name.

    Raises:
        DataError: not as many of the one as of the other, or a pair that is not one member's. Of the wrong number, a
        file that is missing or not predictions is named first.
    """
    if not fitted:
        return [_member_of_file(path) for path in apply or files]
    if len(apply) != len(files):
        refuse_unreadable([*files, *apply])
        raise DataError(
            f"{len(apply)} files of the apply split, expected {len(files)}: give --apply FILE once for each "
            "file of the fit split, in the same order"
        )
    members = []
    unsure = []
    names = [path.name for path in files]
    for index, (fit, path) in enumerate(zip(files, apply, strict=True)):
        of_fit, of_apply = _member_of_file(fit), _member_of_file(path)
        of_other_run = of_fit.run and of_apply.run and (of_fit.run, of_fit.best) != (of_apply.run, of_apply.best)
        of_other_name = path.name in names and names.count(path.name) == 1 and names.index(path.name) != index
        if of_other_run or of_other_name:
            raise DataError(f"{path}: is not of the same member as {fit}; give both splits' files in the same order")
        if not (of_fit.run and of_apply.run) and fit.name != path.name:
            unsure.append(f"{fit} and {path}")
        members.append(replace(of_fit if of_fit.run else of_apply, name=str(fit), fit=fit, apply=path))
    if unsure:
        log.warning("files without a run, so these pairs are taken as one member's each: %s", "; ".join(unsure))
    return members


def refuse_unreadable(files: Sequence[Path]) -> None:
    """Refuse the first file that is missing, or that is not predictions: what is wrong with their number comes later.

    Raises:
        DataError: names it.
    """
    for path in files:
        read_predictions(path)


def require_one_fingerprint(members: Sequence[Member]) -> Fingerprint | None:
    """Return the fingerprint of the features that the members' runs were trained on; None where no run records it.

    Raises:
        CacheError: there are several. DataError: a run whose config cannot be read.
    """
    fingerprints = {member.name: fingerprint for member in members if (fingerprint := _fingerprint_of(member))}
    first = next(iter(fingerprints), None)
    for name, fingerprint in fingerprints.items():
        fingerprint.require(fingerprints[first or name], name, f"fuse runs of one cache only, as {first}")
    return fingerprints[first] if first else None


def run_hash(run: Path, best: str) -> str:
    """Return a hash that identifies a run in whatever folder it is: 32 hex digits of xxh3_128.

    It is the hash of its config and history, whose numbers another training would not have to the last digit; an
    imported run has no history, so there it is the hash of the config and the weights.
    """
    history = run / HISTORY
    weights = checkpoint_path(run, best)
    trained = history if history.is_file() else weights
    return hash_bytes(
        deciding_config(run)
        + (read_file(trained, "a run's history or weights", most=MOST_WEIGHTS) if trained.is_file() else b"")
    )


def _member_of_file(path: Path) -> Member:
    """Take a file for a run's if it is in a run folder, with the name of its predictions.

    A symlink counts for its target, or else for its own folder: predictions may be kept on another disk.
    """
    for candidate in (real_path(path), real_path(path.parent) / path.name):
        run, (*_, best) = candidate.parent.parent, candidate.stem.split(".")
        if candidate.parent.name == "predictions" and best in BESTS and (run / CONFIG).is_file():
            return Member(str(path), path, run=run, best=best)
    return Member(str(path), path)


def _fingerprint_of(member: Member) -> Fingerprint | None:
    """Return the fingerprint of the features that a run was trained on; None for an imported run, which has none."""
    if member.run is None:
        return None
    try:
        return fingerprint_in(read_run_config(member.run))
    except (TypeError, ValueError) as error:
        raise DataError(f"{member.run / CONFIG}: {error}; train the run again") from error


def _predictions_of(run: Path, split: str, best: str) -> Path:
    path = predictions_path(run, split, best)
    if not path.is_file():
        found = sorted(each.name.split(".")[0] for each in path.parent.glob(f"*.{best}.jsonl"))
        raise DataError(
            f"{path}: file not found, expected predictions of split {quoted(split)} (found of "
            f"{', '.join(found) or 'none'}); "
            f"audiomos-cache predict {run} --cache CACHE --split {split} makes them, or choose another split"
        )
    return path


@dataclass(frozen=True)
class SplitPredictions:
    """The predictions of all members for one split.

    Attributes:
        split: `fit` or `apply`.
        files: the M members' files.
        ids: the N clips, sorted.
        members: what the members predict of them.
        dropped: ids of clips that were left out, because not all members have them.
    """

    split: str
    files: tuple[str, ...]
    ids: tuple[str, ...]
    members: Members
    dropped: tuple[str, ...]


def read_split(
    members: Sequence[Member], split: str, *, allow_missing: bool, expected: Sequence[str] = ()
) -> SplitPredictions:
    """Read all members' predictions of a split.

    Args:
        members: M.
        split: `fit` or `apply`.
        allow_missing: leave out, with a warning, the clips that not all members have.
        expected: the clips that they should have, where that is known.
    Raises:
        DataError: a file that is not predictions, members that do not hold the same clips or have other bins.
    """
    paths = [path for member in members if (path := member.fit if split == "fit" else member.apply)]
    files = tuple(map(str, paths))
    read = [read_predictions(path) for path in paths]
    dropped: list[str] = []
    if allow_missing:
        read, dropped = common_clips(read, expected)
    if dropped:
        clips = first_five(dropped)
        log.warning("%s split: %d clips left out, because not all members have them: %s", split, len(dropped), clips)
    ids, joined = join_members(read, files)
    _count_outside(read, files)
    named = replace(joined, names=tuple(member.name for member in members))
    return SplitPredictions(split, files, ids, named, tuple(dropped))


def _count_outside(members: Sequence[Predictions], files: Sequence[str]) -> None:
    """Warn of scores outside the scale, and count them."""
    for member, file in zip(members, files, strict=True):
        scores = np.concatenate([member.mi, member.ta])
        if outside := np.count_nonzero((scores < LOWEST) | (scores > HIGHEST)):
            log.warning("%s: %d of %d scores are outside 1..5", file, outside, scores.size)
