"""Fuse the predictions of several runs, and write the answer with a record of how it was made."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

import xxhash

from audiomos_cache.dataset import read_labels
from audiomos_cache.errors import ConfigError, DataError, OutputExistsError, first_five
from audiomos_cache.fusion.inputs import inputs_of_files, inputs_of_runs
from audiomos_cache.fusion.methods import METHODS, align
from audiomos_cache.predictions import (
    ANSWER_NAME,
    Predictions,
    read_predictions,
    write_answer,
    write_predictions,
    write_whole,
)

RECORD_NAME = "fusion.json"


def fuse(
    sources: Sequence[Path],
    out: Path,
    *,
    method: str = "ridge",
    labels: Path | None = None,
    fit_split: str = "dev",
    apply_split: str = "eval",
    apply: Sequence[Path] = (),
    best: str = "combined",
    overwrite: bool = False,
) -> Predictions:
    """Fit a fusion on one split, apply it to another, and write the result, the answer and a record to `out`.

    Args:
        sources: run folders, or the fit split's predictions files.
        out: a folder to make; it appears complete or not at all.
        method: a key of `METHODS`.
        labels: the fit split's list, for a method that learns; the others do not read it.
        apply: with files, the apply split's, in the order of `sources`.
        best: with runs, which of their best checkpoints: loss, srcc or combined.
    Returns:
        The fused predictions of the apply split.
    Raises:
        ConfigError: unknown method.
        DataError: inputs that do not belong together, or are not predictions of the same clips.
        OutputExistsError: `out` holds something, and `overwrite` is False or it is not a fusion's.
    """
    if method not in METHODS:
        raise ConfigError(f"fusion method {method!r} is not one of {', '.join(sorted(METHODS))}")
    _refuse_occupied(out, overwrite)
    learns = METHODS[method].learns
    folders = [source for source in sources if source.is_dir()]
    if folders and (apply or len(folders) < len(sources)):
        raise DataError(f"{folders[0]}: run folders and predictions files do not mix; give only the one kind")
    if folders:
        inputs = inputs_of_runs(sources, fit_split if learns else None, apply_split, best)
    else:
        inputs = inputs_of_files(sources, apply, learns)

    fusion = METHODS[method](inputs.names)
    if learns:
        fusion.fit(_read_all(inputs.fit), read_labels(labels) if labels else None)
    fused = fusion.apply(_read_all(inputs.apply))

    record = {
        **fusion.to_json(),
        "fit_split": fit_split if learns else None,
        "apply_split": apply_split,
        "fingerprint": inputs.fingerprint,
        "fit": [_identity(path) for path in inputs.fit],
        "apply": [_identity(path) for path in inputs.apply],
        "labels": _identity(labels) if learns and labels else None,
        "versions": {name: version(name) for name in ("audiomos-cache", "numpy", "scikit-learn")},
    }
    with _replacing(out) as folder:
        write_predictions(folder / f"fused.{apply_split}.jsonl", fused)
        write_answer(folder / ANSWER_NAME, fused)
        write_whole(folder / RECORD_NAME, f"{json.dumps(record, indent=1)}\n".encode())
    return fused


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
    own = (ANSWER_NAME, RECORD_NAME, "fused.*.jsonl")
    if foreign := [name for name in names if not any(fnmatch(name, pattern) for pattern in own)]:
        raise OutputExistsError(
            f"{out}: holds {first_five(foreign)}, which no fusion wrote and --overwrite would lose; give another --out"
        )


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` to write in, which takes the place of `out` when the block is done."""
    out = out.resolve()
    new, old = (out.with_name(f".{out.name}.{os.getpid()}.{age}") for age in ("new", "old"))
    new.mkdir(parents=True)
    try:
        yield new
        if out.exists():
            out.rename(old)
        new.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
