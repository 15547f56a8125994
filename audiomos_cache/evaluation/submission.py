"""The zip that is handed in to the challenge; what is wrong with it is found before it is uploaded."""

import zipfile
from dataclasses import asdict, dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

from audiomos_cache.artifacts import atomic_write, refuse_occupied, refuse_suffix
from audiomos_cache.dataset.labels import read_id_list
from audiomos_cache.errors import DataError, first_five
from audiomos_cache.evaluation.predictions import ANSWER_NAME, Predictions, answer_bytes, read_predictions
from audiomos_cache.progress import counted

AnyPath = str | PathLike[str]


@dataclass(frozen=True, repr=False)
class Submission:
    """A zip that was written.

    Attributes:
        path: the zip.
        clips: how many clips its answer has.
    """

    path: Path
    clips: int

    def __repr__(self) -> str:
        return f"{self.path}: {ANSWER_NAME} with {counted(self.clips, 'clip')}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self) | {"path": str(self.path)}


def submit(file: AnyPath, list: AnyPath, out: AnyPath, *, overwrite: bool = False) -> Submission:  # noqa: A002
    """Check predictions against the challenge's list, and pack them.

    Args:
        file: the predictions, which `read_predictions` checks: each clip once, every score a finite number. Scores
            outside 1..5 are clipped, with a warning that counts them.
        list: the clips that the challenge asks for, an id a line.
        out: the zip. It holds `answer.txt` alone, and the same answer gives the same bytes.
        overwrite: whether a zip of that name is replaced.
    Raises:
        ArgumentError: `out` is not called .zip. OutputExistsError: `out` exists and `overwrite` is False.
        DataError: the predictions or the list are not valid, or are not for the same clips.

    >>> from pathlib import Path
    >>> size = Path("predicted.txt").write_text("S1_P1,3.0,2.0\\nS2_P1,2.0,4.0\\n")
    >>> size = Path("eval_list.txt").write_text("S1_P1\\nS2_P1\\n")
    >>> submit("predicted.txt", "eval_list.txt", "answer.zip")
    answer.zip: answer.txt with 2 clips
    """
    path, list_path, zip_path = Path(file), Path(list), Path(out)
    refuse_suffix(zip_path, (".zip",))
    refuse_occupied(zip_path, what="zip", overwrite=overwrite)
    predictions, expected = read_predictions(path), read_id_list(list_path)
    problems = {
        "nothing for": set(expected) - set(predictions.ids),
        "not asked for": set(predictions.ids) - set(expected),
    }
    if found := [f"{problem} {first_five(sorted(clips))}" for problem, clips in problems.items() if clips]:
        raise DataError(
            f"{path}: {len(predictions.ids)} clips, expected the {len(expected)} of {list_path}: {'; '.join(found)}; "
            "predict the split that the list names"
        )
    atomic_write(zip_path, _packed(predictions))
    return Submission(zip_path, len(expected))


def _packed(predictions: Predictions) -> bytes:
    entry = zipfile.ZipInfo(ANSWER_NAME, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3  # Unix, whatever this machine is
    entry.external_attr = 0o644 << 16
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(entry, answer_bytes(predictions))  # stored: compressed bytes depend on zlib's version
    return packed.getvalue()
