"""Reading what the original system (Ritter-Gutierrez et al. 2025) wrote: its predictions, pickled in `.pt` files.

Nothing that such a file says is executed, and nothing is allocated that it does not hold.
"""

import pickle
import reprlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from audiomos_cache.dataset import clip_id_of
from audiomos_cache.errors import DataError
from audiomos_cache.torch_files import refuse_old_format, require_checksums

_FIELDS = {
    "mi": "overall_score",
    "ta": "textual_score",
    "mi_dist": "overall_dist",
    "ta_dist": "textual_dist",
}
_MAX_PT_BYTES = 64 * 2**20  # of its contents: a clip takes about 500


def original_rows(path: Path) -> Iterator[tuple[str, object]]:
    """Turn `{wav name: {overall_score, textual_score, overall_dist, textual_dist}}` into our rows."""
    clips = _load_pt(path)
    if not isinstance(clips, dict):
        raise DataError(f"{path}: {reprlib.repr(clips)}, expected a dict of clips")
    for name, clip in clips.items():
        place = f"{path}, clip {reprlib.repr(name)}"
        if not isinstance(name, str) or not isinstance(clip, dict):
            raise DataError(f"{place}: {reprlib.repr(clip)}, expected a name and a dict of scores")
        row = {field: clip.get(original) for field, original in _FIELDS.items()}
        values = {key: value.numbers if isinstance(value, _Array) else value for key, value in row.items()}
        yield place, {"id": clip_id_of(name), **values}


class _Dtype:
    """Stands in for `numpy.dtype` while a `.pt` is read: floats only."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in ("f2", "f4", "f8"):
            raise pickle.UnpicklingError(f"dtype {code!r}")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.code = state[1] + self.code  # byte order


class _Array:
    """Stands in for `numpy.ndarray` while a `.pt` is read: one-dimensional, never larger than its bytes."""

    def __init__(self, *_: object) -> None:
        self.numbers: list[float] = []

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, _, content = state
        self.numbers = np.frombuffer(content, dtype.code).astype(np.float64).tolist()
        if shape != (len(self.numbers),):
            raise pickle.UnpicklingError(f"array of shape {shape}")


def _scalar(dtype: _Dtype, content: bytes) -> float:
    return float(np.frombuffer(content, dtype.code)[0])


def _load_pt(path: Path) -> object:
    """Load a `.pt` with torch's safe loader, and stand-ins for the few numpy names that such a file uses.

    Stand-ins, because numpy's own allocate whatever size the file asks for.
    """
    import torch

    allowed: list[Any] = [(_Array, "numpy.ndarray"), (_Dtype, "numpy.dtype")]
    for module in ("numpy._core.multiarray", "numpy.core.multiarray"):  # numpy 2, numpy 1
        allowed += [(_Array, f"{module}._reconstruct"), (_scalar, f"{module}.scalar")]
    try:
        refuse_old_format(path)
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > _MAX_PT_BYTES:
                raise DataError(
                    f"{path}: its contents take {size} bytes; a predictions file has at most {_MAX_PT_BYTES}"
                )
            require_checksums(archive)
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (DataError, OSError):
        raise
    except Exception as error:  # a hostile or damaged file may raise anything
        raise DataError(
            f"{path}: damaged, or not predictions of the original system; "
            "expected numbers, texts and float arrays only; nothing in it was run"
        ) from error
