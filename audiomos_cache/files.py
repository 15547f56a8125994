"""Read what anybody may have written: no pipe, device or gigabytes by mistake; JSON and numbers without surprises."""

import errno
import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from audiomos_cache.errors import AudiomosError, DataError, in_one_line, quoted, shown

# torch is imported where it is needed: the command line's help reads no file.
if TYPE_CHECKING:
    from torch import Tensor

MOST_BYTES = 1 << 28  # of a file of text: 256 MiB is a hundred times what a dataset's lists take
MOST_JSON = 1 << 26  # of a JSON file, which takes up to twelve times as much in memory: the ids of a million clips
MOST_WEIGHTS = 1 << 31  # bytes of a head's weights: the largest have 100 MB

_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
_DEEPEST = 100  # lists in lists in JSON; we write five
_MOST_LISTS = 1 << 20  # and objects, each of which takes twenty times as much in memory
_MOST_DIGITS = 20  # of a whole number: a 64-bit one has 19
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


@contextmanager
def opened(path: Path, expected: str, error: type[AudiomosError] = DataError) -> Iterator[BufferedReader]:
    """Open a file that can be read to its end.

    Args:
        path: the file; a link to one is followed.
        expected: what it should be, for the message, such as "a list or a manifest".
        error: what is raised.

    Raises:
        AudiomosError: of the class `error`. The path leads to no file or cannot be read, or it is a folder, a pipe
            (which would block) or a device (which may never end).
    """
    name = shown(str(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise error(f"{name}: file not found, expected {expected}") from None
    except (OSError, ValueError) as problem:  # a NUL or half a surrogate pair in the name is a ValueError
        raise error(f"{name}: cannot be read ({_reason(problem)}), expected {expected}") from problem
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise error(f"{name}: is {_KINDS.get(stat.S_IFMT(mode), 'a device')}, expected {expected}")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    except OSError as problem:
        raise error(f"{name}: cannot be read ({_reason(problem)}), expected {expected}") from problem
    finally:
        os.close(descriptor)


def read_file(path: Path, expected: str, error: type[AudiomosError] = DataError, most: int = MOST_BYTES) -> bytes:
    """Read a whole file.

    Args:
        path, expected, error: see `opened`.
        most: bytes that it may have.

    Raises:
        AudiomosError: of the class `error`. It cannot be opened or read, or is larger than `most`.
    """
    with opened(path, expected, error) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise error(f"{shown(str(path))}: {size} bytes, expected {expected}, of at most {most} bytes")
        return file.read(size + 1)  # as many bytes are allocated before they are read


class Located(Protocol):
    """A path, or what is in a file."""

    def exists(self) -> bool:
        """Return whether it is there."""


def exists(path: Located) -> bool:
    """Return whether something is there; unlike `Path.exists`, False for a name that is too long for any file."""
    return _of_a_possible_name(path.exists)


def is_folder(path: str | Path) -> bool:
    """Return whether a folder has this name; likewise."""
    return _of_a_possible_name(Path(path).is_dir)


def _of_a_possible_name(found: Callable[[], bool]) -> bool:
    try:
        return found()
    except OSError as problem:
        if problem.errno != errno.ENAMETOOLONG:
            raise
        return False


def refuse_lfs_pointer(name: object, head: bytes, error: type[AudiomosError] = DataError) -> None:
    """Refuse the few lines of text that Git LFS leaves in the place of a file that it did not fetch.

    Args:
        name: of the file, for the message.
        head: its first bytes, 64 or more.
        error: what is raised.

    Raises:
        AudiomosError: of the class `error`. It is such a pointer.
    """
    if head.startswith(_LFS_POINTER):
        raise error(f"{shown(str(name))}: a pointer of Git LFS, not the data; run git lfs pull in its folder")


def real_path(path: Path) -> Path:
    """Return where a path leads, links followed; a link that leads to itself, which `Path.resolve` fails at, stays."""
    return Path(os.path.realpath(path))


def require_file(path: Path, expected: str, error: type[AudiomosError] = DataError) -> None:
    """Refuse what another library is about to read, if `opened` would."""
    with opened(path, expected, error):
        pass


def read_json(path: Path, expected: str, error: type[AudiomosError] = DataError, advice: str = "") -> Any:
    """Read a JSON file.

    Args:
        path, expected, error: see `opened`.
        advice: what the user can do about a damaged file.

    Raises:
        AudiomosError: of the class `error`. It cannot be read, or is not JSON, see `parse_json`.
    """
    content = read_file(path, expected, error, MOST_JSON)
    try:
        return parse_json(content, whole_characters=True)
    except ValueError as problem:
        found = f"{shown(str(path))}: not JSON ({shown(str(problem))}), expected {expected}"
        raise error(f"{found}; {advice}" if advice else found) from problem


def read_json_lines(path: Path, expected: str) -> list[dict[str, Any]]:
    """Read a file of a JSON object a line; blank lines do not count.

    Raises:
        DataError: it cannot be read, or a line is no object, see `parse_json`.
    """
    rows = []
    for number, line in enumerate(read_file(path, expected, most=MOST_JSON).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line, whole_characters=True)
        except ValueError as problem:
            raise DataError(
                f"{shown(str(path))}:{number}: not JSON ({shown(str(problem))}), expected {expected}"
            ) from problem
        if not isinstance(row, dict):
            raise DataError(f"{shown(str(path))}:{number}: {quoted(row)}, expected an object of {expected}")
        rows.append(row)
    return rows


def read_tensors(content: bytes) -> "dict[str, Tensor]":
    """Return the tensors of a safetensors file by name.

    Raises:
        ValueError: it is none, or one of them is of a type that torch does not have.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"not safetensors: {in_one_line(error)}") from error


def parse_json(content: str | bytes, *, finite: bool = True, whole_characters: bool = False) -> Any:
    """Parse JSON as its specification has it, and as nobody can read it in two ways.

    Args:
        content: of a file, in UTF-8.
        finite: refuse numbers beyond all bounds; False, which is faster, where every number is checked afterwards.
        whole_characters: refuse half a surrogate pair, which UTF-8 does not have; in the name of a file it may stand
            for a byte.

    Raises:
        ValueError: it is not JSON: Python's own NaN and Infinity, a number beyond all bounds, half a UTF-8 character;
            or an object has a key twice; or it is nested too deeply, or holds a million lists.
    """
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content  # the parser would take UTF-16 too
    lists = text.count("[") + text.count("{")
    if lists > _MOST_LISTS:
        raise ValueError(f"more than {_MOST_LISTS} lists and objects")
    try:
        if lists > _DEEPEST and _depth(text) > _DEEPEST:
            raise RecursionError
        parsed = json.loads(
            text,
            object_pairs_hook=_without_doubles,
            parse_constant=_refuse,
            parse_float=_finite if finite else None,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except ValueError as problem:
        if "int_max_str_digits" in str(problem):  # what Python advises is for programmers
            raise ValueError("a whole number of thousands of digits") from None
        raise
    if whole_characters and _SURROGATE.search(text) and not _is_encodable(parsed):
        raise ValueError("half a surrogate pair, which is no character")
    return parsed


def _is_encodable(parsed: object) -> bool:
    """Return whether all strings are of characters; a whole pair has become one."""
    try:
        json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _depth(text: str) -> int:
    depth = deepest = 0
    for found in _NESTING.finditer(text):
        depth += (found[0] in "[{") - (found[0] in "]}")
        deepest = max(deepest, depth)
    return deepest


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NESTING = re.compile(r'"(?:[^"\\]|\\.)*"?|[][{}]')
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def parse_number(text: str) -> float:
    """Read a number as everybody writes it.

    Raises:
        ValueError: Python's own `1_000`, digits of other alphabets, NaN or infinity; or it is no number at all.
    """
    if not _NUMBER.fullmatch(text.strip()) or math.isinf(value := float(text)):
        raise ValueError(f"{quoted(text)} is not a number")
    return value


def is_number(text: str) -> bool:
    """Return whether a string is what `parse_number` reads."""
    try:
        parse_number(text)
    except ValueError:
        return False
    return True


def parse_integer(text: str) -> int:
    """Read a whole number as everybody writes it.

    Raises:
        ValueError: Python's own `1_000`, digits of other alphabets; more than 20 digits; or it is no number at all.
    """
    digits = re.fullmatch(r"[+-]?(\d+)", text.strip(), re.ASCII)
    if not digits:
        raise ValueError(f"{quoted(text)} is not a whole number")
    if len(digits[1]) > _MOST_DIGITS:
        raise ValueError(f"{quoted(text)} is a number of more than {_MOST_DIGITS} digits")
    return int(text)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        double = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {quoted(double)} is there twice")
    return content


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"found {constant}, expected a number that JSON has")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"found {number[:50]}, expected a number that a computer can hold")
    return value


def _reason(problem: OSError | ValueError) -> str:
    if isinstance(problem, PermissionError):
        return "no permission; change it with chmod, or copy the file"
    return problem.strerror or str(problem) if isinstance(problem, OSError) else "no file can have this name"
