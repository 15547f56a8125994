"""Lists and tables of text, row by row; all problems of one are reported at once, by file and line."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TypeVar

from audiomos_cache.errors import DataError, first_five
from audiomos_cache.files import read_file

Row = TypeVar("Row")
Value = TypeVar("Value")

SEPARATORS = (",", ";", "\t")  # of the fields of a CSV file, the usual one first


def read_text(path: Path) -> str:
    r"""Read UTF-8 text, with or without a byte order mark; every line ends in `\n`.

    Raises:
        DataError: the file cannot be read, or is not UTF-8.
    """
    content = read_file(path, "a list or a manifest")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8 text") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Read the number and content of each line that is not blank, at least one.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or has only blank lines.
    """
    lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path}: empty, expected a row or more")
    return lines


def collect(
    path: Path,
    rows: Iterable[tuple[int, Row]],
    parse: Callable[[Row], tuple[str, Value]],
    *,
    unit: str = "line",
    advice: Callable[[Value, Value], str] = lambda _first, _second: "",
) -> dict[str, Value]:
    """Parse every row into a key and a value, in the file's order.

    Args:
        path: for messages.
        rows: line number and content, at least one.
        parse: raises a DataError for a row that is not valid.
        unit: what the numbers count, for messages.
        advice: what to do about two values with one key, for the message.
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
                where = f"expected it only in {unit} {lines[key]}"
                raise DataError(f"found {key!r} again, {where}{advice(values[key], value)}")
            values[key], lines[key] = value, line
        except DataError as problem:
            problems.append(f"{path.name}:{line}: {problem}")
    if problems:
        raise DataError(f"{first_five(problems)}; correct {path}")
    if not values:
        raise DataError(f"{path}: no rows, expected one or more")
    return values


@dataclass(frozen=True, slots=True)
class Record:
    r"""A row of a CSV file, which may take several lines.

    Attributes:
        line: the number of its last one.
        fields: its values.
        raw: its lines as they are in the file, with their `\n`.
    """

    line: int
    fields: list[str]
    raw: str


@dataclass(frozen=True, slots=True)
class CsvTable:
    r"""A CSV file.

    Attributes:
        columns: their names in lower case, without those at the end that are empty.
        header: the lines before the rows as they are in the file, with their `\n`.
        rows: those that are not blank. Going through them raises a DataError where the file is not CSV.
    """

    columns: list[str]
    header: str
    rows: Iterator[Record]


def read_csv(path: Path, is_known: Callable[[str], bool]) -> CsvTable:
    """Read a CSV file. What separates its fields is decided by its header alone, never by what is in the rows.

    Args:
        path: the file, with a header, and perhaps Excel's `sep=;` before it.
        is_known: whether a header may name a column so; of comma, semicolon and tab, the one that finds most of them.
    Raises:
        DataError: it cannot be read, is not UTF-8, or its header is not CSV.
    """
    text = read_text(path)
    declared, separator = _separator(text, is_known)
    records = _records(path, text.removeprefix(declared), separator, declared.count("\n"))
    header = next(records, Record(0, [], ""))
    return CsvTable(_names(header.fields), declared + header.raw, records)


def header_columns(path: Path, is_known: Callable[[str], bool]) -> list[str]:
    """Return the columns that the first line of a file names, as far as it is a header at all; see `read_csv`."""
    text = read_text(path)
    declared, separator = _separator(text, is_known)
    return _names(_fields(text.removeprefix(declared), separator))


def without_padding(fields: Sequence[str]) -> list[str]:
    """Leave out the empty fields at the end, as a spreadsheet writes them."""
    used = [number for number, field in enumerate(fields, 1) if field.strip()]
    return list(fields[: max(used, default=0)])


def _names(header: Sequence[str]) -> list[str]:
    return without_padding([name.strip(' "').lower() for name in header])


def _separator(text: str, is_known: Callable[[str], bool]) -> tuple[str, str]:
    """Return the line that declares what separates the fields, or nothing, and what does."""
    if declared := re.match(r'"?sep=([,;\t|])"?[ ,;\t]*\n', text, re.IGNORECASE):
        return declared[0], declared[1]

    def found(separator: str) -> tuple[int, int]:
        names = _names(_fields(text, separator))
        return sum(map(is_known, set(names))), len(names)

    return "", max(SEPARATORS, key=found)  # of equal ones the first


def _fields(text: str, separator: str) -> list[str]:
    """Split the first line that is not blank."""
    first = text[: 1 << 16].lstrip("\n ").partition("\n")[0]
    try:
        return next(csv.reader([first], delimiter=separator), [])
    except csv.Error:
        return []


def _records(path: Path, text: str, separator: str, lines_before: int) -> Iterator[Record]:
    lines = text.removesuffix("\n").split("\n")
    reader = csv.reader(StringIO(text), strict=True, delimiter=separator)
    done = 0
    try:
        for fields in reader:
            if any(map(str.strip, fields)):
                raw = "\n".join(lines[done : reader.line_num]) + "\n"
                yield Record(lines_before + reader.line_num, fields, raw)
            done = reader.line_num
    except csv.Error as error:
        raise DataError(
            f"{path}:{lines_before + reader.line_num}: not CSV ({error}); check its quotes, or write it as JSON Lines "
            "(.jsonl)"
        ) from None


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
