"""That a fusion is not judged by the clips it was fitted on."""

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from audiomos_cache.errors import DataError, first_five
from audiomos_cache.evaluation.predictions import ANSWER_NAME

_FUSED = (ANSWER_NAME, "fused.jsonl", "fused.*.jsonl")


def refuse_in_fold(path: Path, ids: Sequence[str]) -> None:
    """Refuse what a fusion says of the clips that it was fitted on: numbers on them look better than it is.

    Args:
        path: a file of predictions. It is a fusion's if it has such a name and the fusion's record stands beside it.
        ids: its clips.
    Raises:
        DataError: the fusion was fitted on some of them, or its record is damaged.
    """
    from audiomos_cache.fusion.record import RECORD_NAME, read_record

    for place in dict.fromkeys((path, path.resolve())):  # a link stands elsewhere than its fusion
        if not any(fnmatch(place.name, pattern) for pattern in _FUSED) or not (place.parent / RECORD_NAME).is_file():
            continue
        if both := sorted(read_record(place.parent).fit_clips.intersection(ids)):
            raise DataError(
                f"{path}: the fusion was fitted on {len(both)} of its {len(ids)} clips, so numbers on them would look "
                f"better than it is: {first_five(both)}; {_instead(place.parent)}"
            )


def _instead(folder: Path) -> str:
    held_out = sorted(str(each) for each in folder.glob("out-of-fold*.jsonl"))
    if held_out:
        return f"evaluate {held_out[0]}, the same clips out-of-fold, or clips that were held out"
    return "evaluate clips that were held out, or the out-of-fold predictions that fuse writes with --folds"
