"""The folder that a fusion writes."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from audiomos_cache.errors import OutputExistsError, first_five
from audiomos_cache.evaluation.predictions import ANSWER_NAME, Predictions, write_answer, write_predictions
from audiomos_cache.files import whole_folder
from audiomos_cache.fusion.base import Fusion
from audiomos_cache.fusion.record import RECORD_NAME, RecordedMember, write_record

FUSED, OUT_OF_FOLD = "fused", "out-of-fold"

_OWN = (ANSWER_NAME, RECORD_NAME, *(f"{kind}{split}.jsonl" for kind in (FUSED, OUT_OF_FOLD) for split in ("", ".*")))


def predictions_name(kind: str, split: str | None) -> str:
    """Return the name of a file of predictions: `fused.eval.jsonl`, or `fused.jsonl` of a split without a name."""
    return f"{kind}.{split}.jsonl" if split else f"{kind}.jsonl"


def out_of_fold_file(folder: Path) -> Path | None:
    """Return the out-of-fold predictions that a fusion wrote; None where it wrote none."""
    return next(iter(sorted(folder.glob(f"{OUT_OF_FOLD}*.jsonl"))), None)


def refuse_occupied(out: Path, *, overwrite: bool, source: Path | None = None) -> None:
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
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out}: is a file, expected a folder to make; give another --out")
    names = sorted(path.name for path in out.iterdir()) if out.exists() else []
    if names and not overwrite:
        raise OutputExistsError(f"{out}: holds {first_five(names)}; give another --out, or --overwrite")
    if foreign := [name for name in names if not any(fnmatch(name, pattern) for pattern in _OWN)]:
        raise OutputExistsError(
            f"{out}: holds {first_five(foreign)}, which no fusion wrote and --overwrite would lose; give another --out"
        )


def write_fusion(
    out: Path,
    files: Mapping[str, Predictions],
    answer: Predictions,
    fusion: Fusion,
    members: Sequence[RecordedMember],
    about: Mapping[str, Any],
) -> None:
    """Write predictions by their files' names, the answer and the record; `out` appears complete or not at all."""
    with whole_folder(out, replace=True) as folder:
        for name, predictions in files.items():
            write_predictions(folder / name, predictions)
        write_answer(folder / ANSWER_NAME, answer)
        write_record(folder, fusion, members, about)
