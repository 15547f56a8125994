"""Predictions of the original system (Ritter-Gutierrez et al. 2025), read from its pickled `.pt` files.

Nothing in such a file is executed, and no memory is allocated beyond the file's own size.
"""

import pickle
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from audiomos_cache.errors import DataError, quoted
from audiomos_cache.files import require_file
from audiomos_cache.upstream.torch_files import load_torch_file

_NAMES = {
    "mi": "overall_score",
    "ta": "textual_score",
    "mi_dist": "overall_dist",
    "ta_dist": "textual_dist",
}
# A pickle's values may share their bytes, so a small file can ask for far more memory than it takes itself.
MAX_BYTES = 16 * 2**20  # a clip takes about 500
MAX_CLIPS = 20_000
MAX_BINS = 200


def original_rows(path: Path) -> Iterator[tuple[str, object]]:
    """Turn `{wav name: {overall_score, textual_score, overall_dist, textual_dist}}` into our rows.

    Args:
        path: of at most `MAX_BYTES`, `MAX_CLIPS` clips and `MAX_BINS` bins.
    Raises:
        DataError: anything else.
    """
    clips = _load_pt(path)
    if not isinstance(clips, dict):
        raise DataError(f"{path}: {reprlib.repr(clips)}, expected a dict of clips")
    if len(clips) > MAX_CLIPS:
        raise DataError(f"{path}: {len(clips)} clips, expected at most {MAX_CLIPS}; it is no predictions file")
    for name, clip in clips.items():
        where = f"{path}, clip {reprlib.repr(name)}"
        if not isinstance(name, str) or not isinstance(clip, dict):
            raise DataError(f"{where}: {reprlib.repr(clip)}, expected a name and a dict of scores")
        row = {key: clip.get(original) for key, original in _NAMES.items()}
        yield where, {"id": name, **{key: _as_list(where, key, value) for key, value in row.items()}}


def _as_list(where: str, key: str, value: object) -> object:
    """Return an array as a list, after checking that this will not fill the memory."""
    numbers = value.numbers if isinstance(value, _Array) else value
    if isinstance(numbers, np.ndarray | list) and len(numbers) > MAX_BINS:
        raise DataError(f"{where}: {key} has {len(numbers)} bins, expected at most {MAX_BINS}")
    return numbers.tolist() if isinstance(numbers, np.ndarray) else numbers


class _Dtype:
    """Stands in for `numpy.dtype` while a `.pt` is read: floats only."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in ("f2", "f4", "f8"):
            raise pickle.UnpicklingError(f"dtype {quoted(code)}")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.code = state[1] + self.code  # byte order


class _Array:
    """Stands in for `numpy.ndarray` while a `.pt` is read: one-dimensional, a view of its bytes."""

    def __init__(self, *_: object) -> None:
        self.numbers = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, _, content = state
        self.numbers = np.frombuffer(content, dtype.code)  # a view of bytes that other arrays may share
        if shape != (len(self.numbers),):
            raise pickle.UnpicklingError(f"array of shape {shape}")


def _scalar(dtype: _Dtype, content: bytes) -> float:
    return float(np.frombuffer(content, dtype.code)[0])


def _load_pt(path: Path) -> object:
    """Load a `.pt` with torch's safe loader, and stand-ins for the few numpy names that such a file uses.

    Stand-ins, because numpy's own allocate whatever size the file asks for.
    """
    stand_ins: list[Any] = [(_Array, "numpy.ndarray"), (_Dtype, "numpy.dtype")]
    for module in ("numpy._core.multiarray", "numpy.core.multiarray"):  # numpy 2, numpy 1
        stand_ins += [(_Array, f"{module}._reconstruct"), (_scalar, f"{module}.scalar")]
    require_file(path, "predictions")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise DataError(f"{path}: takes {size} bytes, expected at most {MAX_BYTES}; it is no predictions file")
    try:
        return load_torch_file(path, {"_codecs.encode", *(name for _, name in stand_ins)}, stand_ins)
    except DataError:
        raise
    except Exception as error:  # a hostile or damaged file may raise anything
        raise DataError(
            f"{path}: damaged, or not predictions of the original system; "
            "expected numbers, strings and float arrays only; nothing in it was run"
        ) from error
