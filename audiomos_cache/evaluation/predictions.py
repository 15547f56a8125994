"""Predictions for a list of clips: the JSON Lines file, the original's `.pt`, the challenge's answer."""

import json
import logging
import math
import reprlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audiomos_cache.artifacts import atomic_write
from audiomos_cache.dataset.clip import check_id
from audiomos_cache.dataset.tables import collect, read_lines
from audiomos_cache.errors import DataError, first_five, quoted, shown
from audiomos_cache.files import opened, parse_json, parse_number, require_file
from audiomos_cache.runs import refuse_damaged_predictions
from audiomos_cache.targets import HIGHEST, LOWEST
from audiomos_cache.upstream.pt_predictions import original_rows

log = logging.getLogger(__name__)


ANSWER_NAME = "answer.txt"
MAX_SCORE = 1e6  # beyond it squares lose their digits, then overflow; no head on a scale of 1 to 5 comes near
SUM_TOLERANCE = 1e-3  # of a distribution: what 20 bins that were rounded to half precision may miss

_LONGEST_LINE = 1 << 22  # bytes: a hundred thousand bins
_DISTS = ("mi_dist", "ta_dist")
_KEYS = ("id", "mi", "ta", *_DISTS)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a head, or a fusion of heads, predicts of N clips. Made by `build`, which checks it.

    Attributes:
        ids: N clip ids, sorted and unique.
        mi: (N,) float64, mean opinion scores.
        ta: likewise.
        mi_dist: (N, K) float64 on `bin_centres(K)`, or None where the head has no distribution.
        ta_dist: likewise.
    """

    ids: tuple[str, ...]
    mi: NDArray[np.float64]
    ta: NDArray[np.float64]
    mi_dist: NDArray[np.float64] | None = None
    ta_dist: NDArray[np.float64] | None = None

    @classmethod
    def build(
        cls,
        ids: Iterable[str],
        mi: ArrayLike,
        ta: ArrayLike,
        mi_dist: ArrayLike | None = None,
        ta_dist: ArrayLike | None = None,
    ) -> Self:
        """Sort the clips by id, and check that each has one prediction that can be one.

        Args:
            ids: N clip ids in any order; row i of every array belongs to the i-th.
            mi, ta: (N,), of at most `MAX_SCORE`; a head may leave 1..5.
            mi_dist, ta_dist: (N, K) or None; K >= 2, none below 0, rows of sum 1 within `SUM_TOLERANCE`.
        Raises:
            DataError: no clip, an id twice or that an answer cannot hold, an array of another shape, a number that is
            not finite, or out of these ranges; the first five clips are named.
        """
        ids = tuple(ids)
        for clip in ids:
            check_id(clip)
        if not ids:
            raise DataError("no clip has a prediction, expected at least one")
        if repeated := _repeated(ids):
            raise DataError(f"clips with more than one prediction: {first_five(sorted(repeated))}")
        order = sorted(range(len(ids)), key=ids.__getitem__)

        def column(name: str, values: ArrayLike, ndim: int) -> NDArray[np.float64]:
            array = np.asarray(values, dtype=np.float64)
            if array.ndim != ndim or len(array) != len(ids) or not array.size:
                expected = f"({len(ids)},)" if ndim == 1 else f"({len(ids)}, bins)"
                raise DataError(f"{name} of clips {first_five(list(ids))}: shape {array.shape}, expected {expected}")
            finite = np.asarray(np.isfinite(array.reshape(len(ids), -1)).all(axis=1))
            if bad := [ids[row] for row in order if not finite[row]]:
                raise DataError(f"{name} is not a finite number for clips {first_five(bad)}")
            for found, wrong, expected in _limits(array):
                if bad := [f"{ids[row]} ({found[row]:g})" for row in order if wrong[row]]:
                    raise DataError(f"{name} of clips {first_five(bad)}: expected {expected}")
            return array[order]

        return cls(
            ids=tuple(ids[row] for row in order),
            mi=column("mi", mi, 1),
            ta=column("ta", ta, 1),
            mi_dist=None if mi_dist is None else column("mi_dist", mi_dist, 2),
            ta_dist=None if ta_dist is None else column("ta_dist", ta_dist, 2),
        )

    def take(self, ids: Sequence[str]) -> Self:
        """Return the predictions of some of the clips, which are all here, each once. `ids` may be in any order."""
        row_of = {clip: row for row, clip in enumerate(self.ids)}
        chosen = sorted(ids)
        rows = np.array([row_of[clip] for clip in chosen], dtype=np.intp)
        dists = (None if dist is None else dist[rows] for dist in (self.mi_dist, self.ta_dist))
        return type(self)(tuple(chosen), self.mi[rows], self.ta[rows], *dists)


def valid_rows(array: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (N,): which scores (N,) or distributions (N, K) `Predictions.build` takes."""
    with np.errstate(over="ignore", invalid="ignore"):
        valid = np.asarray(np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        for _, wrong, _ in _limits(array):
            valid &= ~wrong
    return valid


def _limits(array: NDArray[np.float64]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.bool_], str]]:
    """Give for each rule on scores (N,) or distributions (N, K): what it checks, where that breaks it, the rule.

    What it checks and where that breaks it are (N,).
    """
    if array.ndim == 1:
        yield array, abs(array) > MAX_SCORE, f"a score on the scale of 1 to 5 or near it, at most {MAX_SCORE:.0f}"
        return
    bins = np.full(len(array), array.shape[1], np.float64)
    yield bins, bins < 2, "a distribution on 2 bins or more"
    lowest = array.min(axis=1)
    yield lowest, lowest < 0, "a distribution, so nothing below 0"
    with np.errstate(over="ignore"):
        total = array.sum(axis=1)
    yield total, abs(total - 1) > SUM_TOLERANCE, "a distribution, so a sum of 1"


def join_ids(ids: Sequence[str], others: Sequence[str], name: str, others_name: str) -> list[int]:
    """Find the row of each id in `others`. The names are those of the two lists, for the message.

    Raises:
        DataError: an id occurs twice in `others`, or in one of the lists only.
    """
    problems = {
        f"missing clips of {others_name}": set(others) - set(ids),
        f"clips that are not in {others_name}": set(ids) - set(others),
        f"clips more than once in {others_name}": _repeated(others),
    }
    if found := [f"{problem}: {first_five(sorted(clips))}" for problem, clips in problems.items() if clips]:
        raise DataError(f"{name}: {'; '.join(found)}; both must hold the same clips")
    row_of = {clip: row for row, clip in enumerate(others)}
    return [row_of[clip] for clip in ids]


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write JSON Lines, a clip a line, sorted by id; `path` is replaced whole, floats keep all digits."""
    atomic_write(path, predictions_bytes(predictions))


def predictions_bytes(predictions: Predictions) -> bytes:
    """Return what `write_predictions` writes."""
    columns = {name: getattr(predictions, name) for name in _KEYS[1:]}
    rows = {name: values.tolist() for name, values in columns.items() if values is not None}
    lines = (
        json.dumps({"id": clip, **{name: values[row] for name, values in rows.items()}}, allow_nan=False)
        for row, clip in enumerate(predictions.ids)
    )
    return "".join(f"{line}\n" for line in lines).encode()


def read_predictions(path: Path) -> Predictions:
    """Read a predictions file: our `.jsonl`, the original system's `.pt`, or an answer (`.txt`, scores alone).

    Raises:
        DataError: no file that can be read, another kind of one, a line or clip that is not a prediction (named), a
        clip twice, or a run's file that was changed or damaged.
    """
    readers = {".jsonl": _jsonl_rows, ".pt": original_rows, ".txt": _answer_rows}
    if not path.exists():
        raise DataError(
            f"{path}: file not found, expected predictions, .jsonl, .pt or .txt; predict and fuse make them"
        )
    require_file(path, "predictions, .jsonl, .pt or .txt")
    if path.suffix not in readers:
        raise DataError(f"{path}: unknown kind of predictions file, expected .jsonl, .pt or .txt")
    refuse_damaged_predictions(path)
    rows: list[dict[str, Any]] = []
    for origin, content in readers[path.suffix](path):
        try:
            row = _checked(content)
            if rows and _bins(row) != _bins(rows[0]):
                raise ValueError(f"bins are {_bins(row)}, expected {_bins(rows[0])} as for the first clip")
        except (DataError, ValueError) as error:
            raise DataError(f"{origin}: {error}") from error
        rows.append(row)

    def column(name: str) -> list[Any]:
        return [row[name] for row in rows]

    def dists(name: str) -> list[Any] | None:
        return column(name) if rows and rows[0][name] else None

    try:
        return Predictions.build(column("id"), column("mi"), column("ta"), dists("mi_dist"), dists("ta_dist"))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def write_answer(path: Path, predictions: Predictions) -> None:
    """Write the challenge's answer: a line `id,MI,TA` a clip, sorted by id, 8 decimals, clipped to 1..5."""
    atomic_write(path, answer_bytes(predictions))


def answer_bytes(predictions: Predictions) -> bytes:
    """Return what `write_answer` writes. Scores outside 1..5 are clipped, and counted in a warning."""
    scores = np.stack([predictions.mi, predictions.ta], axis=1)
    clipped = scores.clip(LOWEST, HIGHEST)
    if outside := np.count_nonzero(clipped != scores):
        log.warning("%d of %d scores were outside 1..5 and were clipped", outside, scores.size)
    lines = (f"{clip},{mi:.8f},{ta:.8f}\n" for clip, (mi, ta) in zip(predictions.ids, clipped, strict=True))
    return "".join(lines).encode()


def _repeated(ids: Iterable[str]) -> set[str]:
    return {clip for clip, count in Counter(ids).items() if count > 1}


def _checked(row: object) -> dict[str, Any]:
    """Return a clip's five values, an absent distribution as None. Raises ValueError with what is wrong."""
    if not isinstance(row, dict):
        raise ValueError(f"{reprlib.repr(row)}, expected an object with id, mi and ta")
    if unknown := sorted(set(row) - set(_KEYS)):
        raise ValueError(f"unknown key {quoted(unknown[0])}, expected only {', '.join(_KEYS)}")
    found = {name: row.get(name) for name in _KEYS}
    if not isinstance(found["id"], str):
        raise ValueError(f"id is {reprlib.repr(found['id'])}, expected a clip id")
    found["id"] = check_id(found["id"])
    for name in ("mi", "ta"):
        if not _is_number(found[name]):
            raise ValueError(f"{name} is {reprlib.repr(found[name])}, expected a finite number")
    for name in _DISTS:
        dist = found[name]
        if dist is not None and not (isinstance(dist, list) and dist and _are_numbers(dist)):
            raise ValueError(f"{name} is {reprlib.repr(dist)}, expected a list of finite numbers")
    return found


def _bins(row: dict[str, Any]) -> dict[str, int | None]:
    return {name: len(row[name]) if row[name] else None for name in _DISTS}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _are_numbers(values: list[Any]) -> bool:
    if set(map(type, values)) == {float} and math.isfinite(sum(values)):  # nearly always, and far faster
        return True
    return all(map(_is_number, values))


def _answer_rows(path: Path) -> Iterator[tuple[str, object]]:
    rows = collect(path, read_lines(path), _answer_row)
    yield from ((f"{path}, clip {clip}", {"id": clip, "mi": mi, "ta": ta}) for clip, (mi, ta) in rows.items())


def _answer_row(line: str) -> tuple[str, tuple[float, float]]:
    """Read a line `id,MI,TA`. Predictions may be outside 1..5; listeners' scores may not."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 3:
        raise DataError(f"found {len(fields)} fields, expected 3: id,MI,TA")
    scores = {}
    for kind, written in zip(("MI", "TA"), fields[1:], strict=True):
        try:
            scores[kind] = parse_number(written)
        except ValueError:
            raise DataError(f"{kind} is {quoted(written)}, expected a finite number") from None
    return check_id(fields[0]), (scores["MI"], scores["TA"])


def _jsonl_rows(path: Path) -> Iterator[tuple[str, object]]:
    with opened(path, "predictions") as file:
        for number, line in enumerate(iter(partial(file.readline, _LONGEST_LINE), b""), start=1):
            if not line.strip():
                continue
            if len(line) == _LONGEST_LINE:
                raise DataError(f"{path}:{number}: not a line of JSON: {_LONGEST_LINE} bytes or more")
            try:
                row = parse_json(line, whole_characters=True)
            except ValueError as error:
                raise DataError(f"{path}:{number}: not a line of JSON: {shown(str(error))}") from error
            yield f"{path}:{number}", row
