"""Lists and manifests (CSV, JSON Lines), row by row; all problems of one are reported at once, by file and line."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import TypeVar

from audiomos_cache.dataset.clip import Clip, check_id, check_score, check_split, inside, system_of
from audiomos_cache.errors import DataError, first_five
from audiomos_cache.files import read_file

Row = TypeVar("Row")
Value = TypeVar("Value")


def read_text(path: Path) -> str:
    r"""Read UTF-8 text, with or without a byte order mark; every line ends in `\n`.

    Raises:
        DataError: the file cannot be read, or is not UTF-8.
    """
    content = read_file(path, "a list or a manifest")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8 text") from None


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Read the number and content of each line that is not blank, at least one.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or has only blank lines.
    """
    lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path}: empty, expected a row or more")
    return lines


def collect(path: Path, rows: Iterable[tuple[int, Row]], parse: Callable[[Row], tuple[str, Value]]) -> dict[str, Value]:
    """Parse every row into a key and a value, in the file's order.

    Args:
        path: for messages.
        rows: line number and content, at least one.
        parse: raises a DataError for a row that is not valid.
    Raises:
        DataError: the first five problems and their count; a key that comes twice is one.
    """
    values: dict[str, Value] = {}
    lines: dict[str, int] = {}
    problems = []
    for line, row in rows:
        try:
            key, value = parse(row)
            if key in values:
                raise DataError(f"found {key!r} again, expected it only in line {lines[key]}")
            values[key], lines[key] = value, line
        except DataError as problem:
            problems.append(f"{path.name}:{line}: {problem}")
    if problems:
        raise DataError(f"{first_five(problems)}; correct {path}")
    if not values:
        raise DataError(f"{path}: no rows, expected one or more")
    return values


NO_SPLIT = "all"  # the split of a row that names none


def is_manifest(path: Path) -> bool:
    """Return whether a list of labels is a manifest, by its name (.jsonl) or its header."""
    return path.suffix.lower() == ".jsonl" or "path" in _columns(read_lines(path)[0][1].split(","))


def read_manifest(path: Path) -> dict[str, Clip]:
    """Read the clips of a manifest by id, in its order; other columns are ignored.

    Raises:
        DataError: a row is not valid, or an id comes twice (in two splits, too).
    """
    return read_rows(path, lambda row: _parse_clip(path.parent, row))


def read_rows(path: Path, parse: Callable[[Mapping[str, object]], tuple[str, Value]]) -> dict[str, Value]:
    """Parse every row of a manifest into a key and a value, in its order.

    Args:
        path: JSONL by its name, else CSV with a header that holds `path` and `prompt`. Columns without a name are
            ignored, and those at the end have to be empty: what is there belongs to a prompt with a comma.
        parse: gets the values by column, strings from CSV; raises a DataError for a row that is not valid.
    Raises:
        DataError: the first five problems and their count; a key that comes twice is one.
    """
    if path.suffix.lower() == ".jsonl":
        return collect(path, read_lines(path), lambda line: parse(_parse_json(line)))
    reader = csv.reader(StringIO(read_text(path)), strict=True)
    rows = ((reader.line_num, fields) for fields in reader if any(map(str.strip, fields)))
    try:
        columns = _columns(_without_padding(next(rows, (0, []))[1]))
        named = [column for column in columns if column]
        if not {"path", "prompt"} <= set(named) or len(named) != len(set(named)):
            raise DataError(f"{path}: found the columns {columns}, expected path and prompt, and none twice")

        def parse_fields(fields: list[str]) -> tuple[str, Value]:
            fields = [*fields[: len(columns)], *_without_padding(fields[len(columns) :])]
            if len(fields) != len(columns):
                raise DataError(f"found {len(fields)} fields, expected {len(columns)} as in the header")
            return parse(dict(zip(columns, fields, strict=True)))

        return collect(path, rows, parse_fields)
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.line_num}: not CSV ({error}); check its quotes, or write it as JSON Lines (.jsonl)"
        ) from None


def _without_padding(fields: list[str]) -> list[str]:
    """Leave out the empty fields at the end, as a spreadsheet writes them."""
    used = [number for number, field in enumerate(fields, 1) if field.strip()]
    return fields[: max(used, default=0)]


def string_of(row: Mapping[str, object], column: str) -> str | None:
    """Return the string in a column without outer blanks; None where it is missing or null.

    Raises:
        DataError: it contains something else.
    """
    value = row.get(column)
    if value is None:
        return None
    try:
        if isinstance(value, str):
            value.encode()  # JSON can hold half a surrogate pair, UTF-8 cannot
            return value.strip()
    except UnicodeEncodeError:
        pass
    raise DataError(f"{column} is {value!r:.50}, expected a string")


def _columns(header: Iterable[str]) -> list[str]:
    return [column.strip(' "').lower() for column in header]


def _parse_json(line: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise DataError(f"found {line[:40]!r}, expected a JSON object a line")
    return row


def _parse_clip(folder: Path, row: Mapping[str, object]) -> tuple[str, Clip]:
    name = string_of(row, "path")
    if not name:
        raise DataError("found no path, expected one relative to the manifest's folder")
    path = inside(folder, name)
    clip_id = check_id(string_of(row, "id") or path.stem)
    system = string_of(row, "system") or system_of(clip_id)
    split = check_split(string_of(row, "split") or NO_SPLIT)
    mi, ta = (check_score(kind, row[kind]) if row.get(kind) not in (None, "") else None for kind in ("mi", "ta"))
    if (mi is None) != (ta is None):
        raise DataError(f"found {'ta' if mi is None else 'mi'} alone, expected both mi and ta, or neither")
    return clip_id, Clip(clip_id, path, system, clip_id, string_of(row, "prompt") or None, split, mi, ta)
