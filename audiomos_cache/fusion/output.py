"""The folder that a fusion writes."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from audiomos_cache.errors import OutputExistsError, first_five
from audiomos_cache.files import whole_folder
from audiomos_cache.fusion.base import Fusion
from audiomos_cache.fusion.record import RECORD_NAME, RecordedMember, write_record
from audiomos_cache.predictions import ANSWER_NAME, Predictions, write_answer, write_predictions

_OWN = (ANSWER_NAME, RECORD_NAME, "fused.jsonl", "fused.*.jsonl", "out-of-fold.jsonl", "out-of-fold.*.jsonl")


def predictions_name(kind: str, split: str | None) -> str:
    """Return the name of a file of predictions: `fused.eval.jsonl`, or `fused.jsonl` of a split without a name."""
    return f"{kind}.{split}.jsonl" if split else f"{kind}.jsonl"


def refuse_occupied(out: Path, *, overwrite: bool) -> None:
    """Let a fusion replace nothing but a fusion, and that only when asked to.

    Raises:
        OutputExistsError: `out` is a file, or holds something else, or `overwrite` is False.
    """
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
