"""A file of scores, a line of JSON each; a run that was interrupted can resume it."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from audiomos_cache.artifacts import atomic_write, sync_folder, writing
from audiomos_cache.errors import DataError, OutputError, OutputExistsError
from audiomos_cache.locks import locked
from audiomos_cache.scoring.results import LINE, Row

if TYPE_CHECKING:
    from audiomos_cache.scoring.inputs import Item

_START = b'{"id": '  # of every line of ours
_NOTHING = b" \t\r\n\0"  # a power cut may leave zeros after what was written
_LONGEST = 1 << 26  # bytes of a line


@contextmanager
def score_file(path: Path, *, overwrite: bool) -> Iterator["ScoreFile"]:
    """Hold the right to write scores to a file, which need not exist. What was written is on the disk at the end.

    Args:
        path: the file; of a link, where it leads.
        overwrite: whether the first line that is written replaces the scores that the file holds.
    Raises:
        BusyError: another process writes there; names it.
        OutputExistsError: the file begins with something else than a score, which overwriting would lose.
        OutputError: nothing can be written there.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: not a file, expected one for the scores; give another --out")
    lock = path.with_name(f".{path.name}.lock")
    with locked(lock, f"{path}: is being written"):
        try:
            with closing(ScoreFile(path, overwrite=overwrite)) as file:
                yield file
        finally:
            lock.unlink(missing_ok=True)


class ScoreFile:
    """A file of score lines that no other process writes at the same time. Made by `score_file`.

    Lines are in the order in which they were written: what is written after `resume` follows what was there.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._overwrite = overwrite
        if path.exists():
            with writing(path), path.open("ab"):  # before the work whose results go there
                pass
            _require_scores(path)

    def holds_lines(self) -> bool:
        """Return whether there is anything to resume."""
        return not self._overwrite and self._path.exists() and self._path.stat().st_size > 0

    def resume(self, items: "Sequence[Item]", digest: str) -> dict[str, Row]:
        """Read what the file holds, and drop from it what is to be done again.

        Dropped are a last line that was not finished, zeros at the end, as a power cut leaves them, and the lines of
        those of `items` that could not be scored. Nothing else is: lines of other items stay.

        Args:
            items: what is to be scored now, files.
            digest: of the bundle that is to score it.
        Returns:
            The lines of the items that are done, by id.
        Raises:
            DataError: a line is not of this bundle, or of its item's file and prompt, or no score; the first is
            named, and the file left as it is.
            OutputError: it cannot be written.
        """
        asked = {item.id: item for item in items}
        content = self._path.read_bytes()
        lines = content.split(b"\n")
        kept: list[bytes] = []
        rows: dict[str, Row] = {}
        for number, line in enumerate(lines, 1):
            if number == len(lines):
                line = line.rstrip(b"\0")  # of a power cut
            if not line.strip() or (number == len(lines) and _is_cut_off(line)):
                continue
            try:
                row = _read(line, digest)
                if row["id"] in rows:
                    raise DataError(f"found {row['id']!r} again")
                if item := asked.get(row["id"]):
                    if row["error"] is not None:
                        continue
                    _check_fits(row, item)
            except DataError as problem:
                advice = "give another --out, or --overwrite to start again"
                raise DataError(f"{self._path}:{number}: {problem}; {advice}") from None
            kept.append(line + b"\n")
            rows[row["id"]] = row
        if (whole := b"".join(kept)) != content:
            atomic_write(self._path, whole)
        return {clip_id: row for clip_id, row in rows.items() if clip_id in asked}

    def write(self, line: bytes) -> None:
        """Append a line, which other processes see at once, and whole.

        Raises:
            OutputError: it cannot be written; what was before is kept.
        """
        with writing(self._path):
            if self._file is None:
                self._file = self._path.open("ab", buffering=0)
                if self._overwrite:
                    self._file.truncate(0)
            while line:
                line = line[self._file.write(line) :]

    def close(self) -> None:
        """Force what was written to the disk."""
        if self._file is not None:
            with self._file, writing(self._path):
                os.fsync(self._file.fileno())
            sync_folder(self._path.parent)


def read_lines(path: Path) -> list[Row]:
    """Read all scores of a file that is whole; see `ScoreFile.resume` for one that may not be."""
    return [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]


def _require_scores(path: Path) -> None:
    """Refuse a file that holds something of the user's: a clip, a list, a part of a bundle."""
    with path.open("rb") as file:
        lines = iter(partial(file.readline, _LONGEST), b"")
        first = next((line for line in lines if line.strip(_NOTHING)), b"")
    cut = not first.endswith(b"\n") and len(first) < _LONGEST
    if not (_is_score(_parse(first)) or (cut and _is_cut_off(first))):
        found = first[:40].decode(errors="replace")
        raise OutputExistsError(f"{path}: begins with {found!r}, expected scores or nothing; give another --out")


def _is_cut_off(line: bytes) -> bool:
    r"""Return whether a line without `\n` is what a kill left of one of ours."""
    line = line.rstrip(b"\0")
    return _START.startswith(line[: len(_START)]) and _parse(line) is None


def _parse(line: bytes, constant: Callable[[str], object] = float) -> object:
    """Return what a line holds, None if that is not JSON; `constant` gets what Python alone reads: NaN, Infinity."""
    try:
        return json.loads(line, parse_constant=constant)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> object:
    raise DataError(f"found {constant}, expected a number that JSON has")


def _is_score(row: object) -> TypeGuard[Row]:
    return isinstance(row, dict) and row.keys() >= LINE.keys() and isinstance(row["id"], str)


def _read(line: bytes, digest: str) -> Row:
    row = _parse(line, _refuse)
    if not _is_score(row):
        raise DataError(f"found {line[:40].decode(errors='replace')!r}, expected a score")
    for name, key in LINE.items():
        if not key.is_valid(row[name]):
            raise DataError(f"{row['id']!r} has the {name} {row[name]!r:.50}, expected {key.expected}")
    if (row["mi"] is None) is (row["error"] is None):
        found = "neither mi nor error" if row["mi"] is None else "both mi and error"
        raise DataError(f"{row['id']!r} has {found}, expected one of them")
    if row["bundle"] != digest:
        raise DataError(f"{row['id']!r} was scored by the bundle {row['bundle']!r:.50}, expected {digest}")
    return row


def _check_fits(row: Row, item: "Item") -> None:
    path = item.path
    fits = {"path": path is not None and _is_same_file(row["path"], str(path)), "prompt": row["prompt"] == item.prompt}
    for key, value in {"path": str(path), "prompt": item.prompt}.items():
        if not fits[key]:
            raise DataError(f"{item.id!r} was scored with the {key} {row[key]!r:.200}, expected {value!r:.200}")


def _is_same_file(found: object, path: str) -> bool:
    """Return whether a line's path and an item's are one file, however both are written."""
    try:
        return isinstance(found, str) and os.path.realpath(found) == os.path.realpath(path)
    except ValueError:  # a NUL, half a surrogate pair
        return False
