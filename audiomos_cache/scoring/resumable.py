"""A file of scores, a line of JSON each; a run that was interrupted can resume it."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache, partial
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from audiomos_cache.artifacts import atomic_write, sync_folder, writing
from audiomos_cache.errors import DataError, OutputError, OutputExistsError, first_five
from audiomos_cache.files import parse_json, real_path
from audiomos_cache.locks import locked
from audiomos_cache.progress import counted
from audiomos_cache.scoring.lines import LINE, Entries, Row, is_made_by, keys_of, row_to_line
from audiomos_cache.targets import TARGETS

if TYPE_CHECKING:
    from audiomos_cache.scoring.inputs import Item

log = logging.getLogger(__name__)

Names = Mapping[str, Sequence[str]]  # of the values in a score, by the bundle

_ALWAYS = {"id", "path", "prompt", "duration_s", "warnings", "error"}  # in lines of any version
_START = b'{"id": '  # of every line of ours
_NOTHING = b" \t\r\n\0"  # a power cut may leave zeros after what was written
_LONGEST = 1 << 26  # bytes of a line
_BATCH = 1 << 15  # bytes that are read at once: what a processor keeps at hand


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
    path = real_path(path)
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

    def resume(
        self, items: "Sequence[Item]", entries: Entries, names: Names, found: Callable[[Row], object]
    ) -> set[str]:
        """Read what the file holds, drop from it what is to be done again, and take the columns of now.

        Dropped are a last line that was not finished, zeros at the end, as a power cut leaves them, and the lines of
        those of `items` that could not be scored. Nothing else is: lines of other items stay. A line whose item has
        other columns now gets these, as a table does.

        Args:
            items: what is to be scored now, files.
            entries: of the bundles that are to score it.
            names: of the values in a score of each of them.
            found: called with the line of each of `items` that is done.
        Returns:
            Their ids.
        Raises:
            DataError: a line is not of these bundles, or of its item's file and prompt, or no score; the first is
            named, and the file left as it is.
            OutputError: it cannot be written.
        """
        asked = {item.id: item for item in items}
        real_folder = cache(os.path.realpath)  # of thousands of files there are few folders
        known: set[str] = set()
        replaced: list[tuple[int, int, bytes]] = []  # bytes from, and up to, and what comes there
        number = position = other_columns = 0
        line = b""
        for lines in _batches(self._path):
            rows = _read_all(lines, entries, names)
            for index, line in enumerate(lines):
                number += 1
                position += len(line)
                try:
                    row = rows[index] if rows else _read(line, entries, names)
                    if row is None or (row["error"] is not None and row["id"] in asked):
                        replaced.append((position - len(line), position, b""))
                        continue
                    if (clip_id := row["id"]) in known:
                        raise DataError(f"found {clip_id!r} again")
                    known.add(clip_id)
                    if item := asked.get(clip_id):
                        _check_fits(row, item, real_folder)
                        if row["columns"] != item.columns:
                            row["columns"] = dict(item.columns)
                            replaced.append((position - len(line), position, row_to_line(row)))
                            other_columns += 1
                        found(row)
                except DataError as problem:
                    advice = "give another --out, or --overwrite to start again"
                    raise DataError(f"{self._path}:{number}: {problem}; {advice}") from None
        if not line.endswith(b"\n") and (not replaced or replaced[-1][0] != position - len(line)):  # unfinished
            replaced.append((position - len(line) + len(line.rstrip(b"\0")), position, b"\n"))
        if replaced:
            atomic_write(self._path, _with_replaced(self._path, replaced, position))
        if other_columns:
            count = counted(other_columns, "line")
            log.info("%s: %s had other columns of the manifest, and now those of this call", self._path, count)
        return known & asked.keys()

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


def _parse(line: bytes) -> object:
    """Return what a line holds, None if that is not JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _is_score(row: object) -> TypeGuard[Row]:
    return isinstance(row, dict) and row.keys() >= _ALWAYS and isinstance(row["id"], str)


def _batches(path: Path) -> Iterator[list[bytes]]:
    r"""Give the lines of a file with their `\n`, those of about a megabyte at once."""
    with path.open("rb") as file:
        while lines := file.readlines(_BATCH):
            yield lines


def _with_replaced(path: Path, replaced: Iterable[tuple[int, int, bytes]], size: int) -> Iterator[bytes]:
    """Give a file of this size with others in the place of some bytes, a piece at once."""
    with path.open("rb") as file:
        start = 0
        for stop, next_start, instead in (*replaced, (size, size, b"")):
            file.seek(start)
            while start < stop:
                piece = file.read(min(_BATCH, stop - start))
                start += len(piece)
                yield piece
            yield instead
            start = next_start


def _read_all(lines: Sequence[bytes], entries: Entries, names: Names) -> list[Row] | None:
    """Read many lines at once, five times faster than one by one; None: one is not what `_read` takes for a score."""
    joined, keys = b",".join(lines), keys_of(entries)
    try:
        rows = parse_json(b"[" + joined + b"]", finite=False)  # all numbers have bounds
        columns = {name: [row[name] for row in rows] for name in keys}
    except (ValueError, LookupError, TypeError):
        return None
    # Each line is an object of its own, none a half, as the end of one in another's list might be.
    if len(rows) != len(lines) or joined.count(b"}\n,{") != len(lines) - 1 or {*map(len, rows)} != {len(keys)}:
        return None
    if not all(keys[name].accepts(values) for name, values in columns.items()):
        return None
    return rows if all(is_made_by(row, entries) and not _problem_of(row, names) for row in rows) else None


def _problem_of(row: Row, names: Names) -> str | None:
    """Say what is wrong with a line of these bundles whose values are each valid.

    One bundle gave a score or an error, not both; the scores are those of its targets, `mi` and `ta` the same as there.
    """
    failed = row["error"] is not None
    if "bundles" in row:
        problems = [_problem_of(each, {label: names[label]}) for label, each in row["bundles"].items()]
        whole = all(each["error"] is None for each in row["bundles"].values())
        wrong = "an error, and no bundle has one" if failed else "no error, and a bundle has one"
        return next(filter(None, problems), None) or (wrong if failed is whole else None)
    scored = any(value is not None for value in row["scores"].values())
    if scored is failed:
        return "both scores and error" if scored else "neither scores nor error"
    expected = next(iter(names.values()))
    if scored and {*row["scores"]} != {*expected}:
        return f"scores of {first_five([*row['scores']])}, expected {first_five(expected)}"
    for target in TARGETS:
        if row[target] != (same := row["scores"].get(target)):
            return f"the {target} {row[target]}, and {same} in its scores"
    return None


def _read(line: bytes, entries: Entries, names: Names) -> Row | None:
    """Read a line; None of a blank one, and of a last one that was cut off.

    Raises:
        DataError: it is no score, or not of these bundles.
    """
    if not line.endswith(b"\n"):
        line = line.rstrip(b"\0")  # of a power cut
        if _is_cut_off(line):
            return None
    if not line.strip():
        return None
    try:
        row = parse_json(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        row = None
    except ValueError as problem:  # JSON of Python alone, or of two meanings
        raise DataError(str(problem)) from None
    if not _is_score(row):
        raise DataError(f"found {line[:40].decode(errors='replace')!r}, expected a score")
    keys = keys_of(entries)
    if ("bundles" in row) is (keys is LINE):
        found = "of several bundles" if "bundles" in row else "of one bundle"
        raise DataError(f"{row['id']!r} was scored {found}, expected {counted(len(entries), 'bundle')}")
    if missing := sorted(keys.keys() - row.keys()):
        raise DataError(f"{row['id']!r} lacks {', '.join(missing)}, as the scores of another version do")
    if unknown := sorted(row.keys() - keys.keys()):
        raise DataError(f"{row['id']!r} has the key {unknown[0]!r:.50}, expected only {', '.join(keys)}")
    for name, key in keys.items():
        if not key.accepts([row[name]]):
            raise DataError(f"{row['id']!r} has the {name} {row[name]!r:.50}, expected {key.expected}")
    if not is_made_by(row, entries):
        made_by = row["bundles"].values() if "bundles" in row else [row]
        found = ", ".join(f"{each['bundle']['digest']:.50} ({each['bundle']['windows']:.20})" for each in made_by)
        expected = ", ".join(f"{each['digest']} ({each['windows']})" for each in entries.values())
        raise DataError(f"{row['id']!r} was scored by the bundle {found}, expected {expected}")
    if wrong := _problem_of(row, names):
        raise DataError(f"{row['id']!r} has {wrong}")
    return row


RealFolder = Callable[[str], str]


def _check_fits(row: Row, item: "Item", real_folder: RealFolder) -> None:
    path = str(item.path)
    if item.path is None or not _is_same_file(row["path"], path, real_folder):
        raise DataError(f"{item.id!r} was scored with the path {row['path']!r:.200}, expected {path!r:.200}")
    if row["prompt"] != item.prompt:
        raise DataError(f"{item.id!r} was scored with the prompt {row['prompt']!r:.200}, expected {item.prompt!r:.200}")


def _is_same_file(found: str | None, path: str, real_folder: RealFolder) -> bool:
    """Return whether a line's path and an item's are one file, however both are written."""
    if found == path:
        return True
    try:
        return found is not None and _real_path(found, real_folder) == _real_path(path, real_folder)
    except ValueError:  # a NUL, half a surrogate pair
        return False


def _real_path(path: str, real_folder: RealFolder) -> str:
    folder, name = os.path.split(path)
    real = os.path.join(real_folder(folder), name)  # noqa: PTH118
    return os.path.realpath(path) if name in ("", ".", "..") or os.path.islink(real) else real  # noqa: PTH114
