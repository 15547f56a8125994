"""Text files read a row at a time, with all that is wrong in one of them reported at once."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from audiomos_cache.errors import DataError, first_five

Row = TypeVar("Row")
Value = TypeVar("Value")


def read_text(path: Path) -> str:
    r"""Read UTF-8 text, with or without a byte order mark; every line ends in `\n`.

    Raises:
        DataError: the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected a list or a manifest") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}), expected a list or a manifest") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8 text") from None


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Read the number and text of each line that is not blank, at least one.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or has no such line.
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
        parse: raises a DataError for a row that is not what it should be.
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
        raise DataError(f"{first_five(problems)}; mend {path}")
    if not values:
        raise DataError(f"{path}: no rows, expected one or more")
    return values
