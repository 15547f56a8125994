"""Which predictions files belong together: those of runs, or a user's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiomos_cache.cache.fingerprint import Fingerprint
from audiomos_cache.errors import DataError
from audiomos_cache.runs import predictions_path, read_run_config


@dataclass(frozen=True)
class Inputs:
    """The files to fuse, one of each split for every name; `fit` is empty where nothing is fitted."""

    names: tuple[str, ...]
    fit: tuple[Path, ...]
    apply: tuple[Path, ...]
    fingerprint: str | None = None


def inputs_of_runs(runs: Sequence[Path], fit_split: str | None, apply_split: str, best: str) -> Inputs:
    """Find the predictions in run folders.

    Raises:
        DataError: not a run, or a run without these predictions. CacheError: runs on features of different
        fingerprints.
    """
    fingerprints = {run: fingerprint for run in runs if (fingerprint := _fingerprint_of(run))}
    first = next(iter(fingerprints), None)
    for run, fingerprint in fingerprints.items():
        fingerprint.require(fingerprints[first or run], str(run), f"fuse runs of one cache only, as {first}")
    return Inputs(
        names=tuple(map(str, runs)),
        fit=tuple(_predictions_of(run, fit_split, best) for run in runs if fit_split is not None),
        apply=tuple(_predictions_of(run, apply_split, best) for run in runs),
        fingerprint=fingerprints[first].digest if first else None,
    )


def inputs_of_files(files: Sequence[Path], apply: Sequence[Path], learns: bool) -> Inputs:
    """Pair the fit split's files with the apply split's. Where nothing is fitted, `files` alone will do.

    Raises:
        DataError: not as many of the one as of the other.
    """
    if not learns:
        return Inputs(tuple(map(str, files)), fit=(), apply=tuple(apply or files))
    if len(apply) != len(files):
        raise DataError(
            f"{len(apply)} files of the apply split, expected {len(files)}: give --apply FILE once for each "
            "file of the fit split, in the same order"
        )
    return Inputs(tuple(map(str, files)), fit=tuple(files), apply=tuple(apply))


def _fingerprint_of(run: Path) -> Fingerprint | None:
    """Return what decided the features that a run was trained on; None for an imported run, which cannot say."""
    fields = read_run_config(run).get("fingerprint_fields")
    return Fingerprint.of(fields) if fields else None


def _predictions_of(run: Path, split: str, best: str) -> Path:
    path = predictions_path(run, split, best)
    if not path.is_file():
        raise DataError(f"{path}: does not exist; make it with audiomos-cache predict --run {run} --split {split}")
    return path
