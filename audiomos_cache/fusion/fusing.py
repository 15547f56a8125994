"""Fuse the predictions of several runs, and write the answer with a record of how it was made."""

import json
from collections.abc import Sequence
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

import xxhash

from audiomos_cache.dataset import Labels, check_split, read_labels
from audiomos_cache.errors import ConfigError, DataError, OutputExistsError, first_five
from audiomos_cache.files import whole_folder, write_whole
from audiomos_cache.fusion.inputs import Inputs, inputs_of_files, inputs_of_runs
from audiomos_cache.fusion.methods import METHODS, Fusion, align
from audiomos_cache.predictions import (
    ANSWER_NAME,
    Predictions,
    read_predictions,
    write_answer,
    write_predictions,
)

RECORD_NAME = "fusion.json"


def fuse(
    sources: Sequence[Path],
    out: Path,
    *,
    method: str = "ridge",
    labels: Path | None = None,
    fit_split: str | None = None,
    apply_split: str | None = None,
    apply: Sequence[Path] = (),
    best: str = "loss",
    overwrite: bool = False,
) -> Predictions:
    """Fit a fusion on one split, apply it to another, and write the result, the answer and a record to `out`.

    Args:
        sources: run folders, or the fit split's predictions files.
        out: a folder to make; it appears complete or not at all.
        method: a key of `METHODS`.
        labels: the fit split's list or manifest, for a method that learns; the others do not read it.
        fit_split: the split to learn on; None: dev of runs, for files not known (a manifest's rows are all read).
        apply_split: the split to blend; None: eval of runs, for files not known (the output names none).
        apply: with files, the apply split's, in the order of `sources`.
        best: with runs, which of their best checkpoints: loss (its distributions fit best), srcc or combined.
        overwrite: replace the fusion that `out` holds.
    Returns:
        The fused predictions of the apply split.
    Raises:
        ConfigError: unknown method.
        DataError: inputs that do not belong together, or are not predictions of the same clips; bad labels.
        OutputExistsError: `out` holds something, and `overwrite` is False or it is not a fusion's.
    """
    if method not in METHODS:
        raise ConfigError(f"fusion method {method!r} is not one of {', '.join(sorted(METHODS))}")
    if apply_split is not None:
        check_split(apply_split)  # it becomes part of a file's name
    _refuse_occupied(out, overwrite)
    learns = METHODS[method].learns
    if _are_runs(sources, apply):
        fit_split, apply_split = fit_split or "dev", apply_split or "eval"
        inputs = inputs_of_runs(sources, fit_split if learns else None, apply_split, best)
    else:
        inputs = inputs_of_files(sources, apply, learns)
    if not learns:
        fit_split = labels = None

    fusion = METHODS[method](inputs.names)
    fused = _blend(fusion, inputs, read_labels(labels, fit_split) if labels else None)
    record = _record(fusion, inputs, labels) | {"fit_split": fit_split, "apply_split": apply_split}
    _write(out, f"fused.{apply_split}.jsonl" if apply_split else "fused.jsonl", fused, record)
    return fused


def _are_runs(sources: Sequence[Path], apply: Sequence[Path]) -> bool:
    """Tell whether the sources are run folders, after checking that they are all of one kind."""
    folders = [source for source in sources if source.is_dir()]
    if folders and (apply or len(folders) < len(sources)):
        raise DataError(f"{folders[0]}: run folders and predictions files do not mix; give only the one kind")
    return bool(folders)


def _blend(fusion: Fusion, inputs: Inputs, labels: Labels | None) -> Predictions:
    """Fit the fusion if it learns, and return the fused predictions of the apply split."""
    if fusion.learns:
        fusion.fit(_read_all(inputs.fit), labels)
    return fusion.apply(_read_all(inputs.apply))


def _record(fusion: Fusion, inputs: Inputs, labels: Path | None) -> dict[str, object]:
    """Describe what was fused, how, from which files and by which versions."""
    return {
        **fusion.to_json(),
        "fingerprint": inputs.fingerprint,
        "fit": [_identity(path) for path in inputs.fit],
        "apply": [_identity(path) for path in inputs.apply],
        "labels": _identity(labels) if labels else None,
        "versions": {name: version(name) for name in ("audiomos-cache", "numpy", "scikit-learn")},
    }


def _write(out: Path, name: str, fused: Predictions, record: dict[str, object]) -> None:
    """Write the fused predictions under that name, the answer and the record."""
    with whole_folder(out, replace=True) as folder:
        write_predictions(folder / name, fused)
        write_answer(folder / ANSWER_NAME, fused)
        write_whole(folder / RECORD_NAME, f"{json.dumps(record, indent=1)}\n".encode())


def _read_all(paths: Sequence[Path]) -> list[Predictions]:
    members = [read_predictions(path) for path in paths]
    align(members, list(map(str, paths)))  # here, where the names are those of the files
    return members


def _identity(path: Path) -> dict[str, str]:
    return {"path": str(path), "xxh3_128": xxhash.xxh3_128_hexdigest(path.read_bytes())}


def _refuse_occupied(out: Path, overwrite: bool) -> None:
    """Let a fusion replace nothing but a fusion, and that only when asked to."""
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out}: is a file, expected a folder to make; give another --out")
    names = sorted(path.name for path in out.iterdir()) if out.exists() else []
    if names and not overwrite:
        raise OutputExistsError(f"{out}: holds {first_five(names)}; give another --out, or --overwrite")
    own = (ANSWER_NAME, RECORD_NAME, "fused.jsonl", "fused.*.jsonl")
    if foreign := [name for name in names if not any(fnmatch(name, pattern) for pattern in own)]:
        raise OutputExistsError(
            f"{out}: holds {first_five(foreign)}, which no fusion wrote and --overwrite would lose; give another --out"
        )
