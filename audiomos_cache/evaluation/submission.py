"""The zip that is handed in to the challenge, and what is wrong with it, before it is uploaded."""

import json
import logging
import zipfile
from io import BytesIO
from pathlib import Path

from audiomos_cache.artifacts import atomic_write, refuse_occupied
from audiomos_cache.dataset.labels import read_id_list
from audiomos_cache.errors import DataError, first_five
from audiomos_cache.evaluation.predictions import ANSWER_NAME, Predictions, answer_bytes, read_predictions
from audiomos_cache.fusion.rank import RankFusion
from audiomos_cache.fusion.record import RECORD_NAME

log = logging.getLogger(__name__)


def submit(file: Path, list_path: Path, out: Path, *, overwrite: bool = False) -> int:
    """Check predictions against the challenge's list, and pack them.

    Args:
        file: the predictions, which `read_predictions` checks: each clip once, every score a finite number. Scores
            outside 1..5 are clipped, with a warning that counts them; ranks, with a warning that says so.
        list_path: the clips that the challenge asks for, an id a line.
        out: the zip. It holds `answer.txt` alone, and the same answer gives the same bytes.
        overwrite: whether a zip of that name is replaced.
    Returns:
        How many clips the answer has.
    Raises:
        OutputExistsError: `out` exists and `overwrite` is False.
        DataError: the predictions or the list are not valid, or are not for the same clips.
    """
    refuse_occupied(out, what="zip", overwrite=overwrite)
    predictions, wanted = read_predictions(file), read_id_list(list_path)
    problems = {
        "nothing for": set(wanted) - set(predictions.ids),
        "not asked for": set(predictions.ids) - set(wanted),
    }
    if found := [f"{problem} {first_five(sorted(clips))}" for problem, clips in problems.items() if clips]:
        raise DataError(
            f"{file}: {len(predictions.ids)} clips, expected the {len(wanted)} of {list_path}: {'; '.join(found)}; "
            "predict the split that the list names"
        )
    if _is_rank(file):
        log.warning(
            "%s: ranks spread over 1..5, not opinion scores, says the %s beside it: MSE says nothing of them, LCC "
            "little; fuse by another method where these count",
            file,
            RECORD_NAME,
        )
    atomic_write(out, _packed(predictions))
    return len(wanted)


def _is_rank(file: Path) -> bool:
    """Tell whether predictions are a rank fusion's, by the record beside them; one that cannot be read says nothing."""
    try:
        record = json.loads((file.resolve().parent / RECORD_NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and record.get("method") == RankFusion.method


def _packed(predictions: Predictions) -> bytes:
    entry = zipfile.ZipInfo(ANSWER_NAME, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3  # Unix, whatever this machine is
    entry.external_attr = 0o644 << 16
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(entry, answer_bytes(predictions))  # stored: compressed bytes depend on zlib's version
    return packed.getvalue()
