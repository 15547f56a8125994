"""Read a file that anybody may have written: never a pipe, a device or gigabytes by mistake; JSON without surprises."""

import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from audiomos_cache.errors import AudiomosError, DataError, shown

MOST_BYTES = 1 << 28  # of a file of text: 256 MiB is a hundred times what a dataset's lists take

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def read_file(path: Path, expected: str, error: type[AudiomosError] = DataError, most: int = MOST_BYTES) -> bytes:
    """Read a whole file.

    Args:
        path: the file; a link to one is followed.
        expected: what it should be, for the message, such as "a list or a manifest".
        error: what is raised.
        most: bytes that it may have.

    Raises:
        AudiomosError: of the class `error`. The path leads to no file or cannot be read; it is a folder, a pipe
            (which would block) or a device (which may never end); or it is larger than `most`.
    """
    name = shown(str(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise error(f"{name}: file not found, expected {expected}") from None
    except (OSError, ValueError) as problem:  # a NUL or half a surrogate pair in the name is a ValueError
        raise error(f"{name}: cannot be read ({_reason(problem)}), expected {expected}") from problem
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
            raise error(f"{name}: is {kind}, expected {expected}")
        if status.st_size > most:
            raise error(f"{name}: {status.st_size} bytes, expected {expected}, of at most {most} bytes")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most)
    except OSError as problem:
        raise error(f"{name}: cannot be read ({_reason(problem)}), expected {expected}") from problem
    finally:
        os.close(descriptor)


def parse_json(content: str | bytes, *, finite: bool = True) -> Any:
    """Parse JSON as its specification has it, and as nobody can read it in two ways.

    Args:
        content: the JSON.
        finite: refuse numbers beyond all bounds; False, which is faster, where every number is checked afterwards.

    Raises:
        ValueError: it is not JSON: Python's own NaN and Infinity, a number beyond all bounds, half a UTF-8 character;
            or an object has a key twice; or it is nested too deeply.
    """
    try:
        return json.loads(
            content,
            object_pairs_hook=_without_doubles,
            parse_constant=_refuse,
            parse_float=_finite if finite else None,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        double = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {double[:50]!r} is there twice")
    return content


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"found {constant}, expected a number that JSON has")


def _finite(number: str) -> float:
    value = float(number)
    if value in (float("inf"), -float("inf")):
        raise ValueError(f"found {number[:50]}, expected a number that a computer can hold")
    return value


def _reason(problem: OSError | ValueError) -> str:
    if isinstance(problem, PermissionError):
        return "no permission; change it with chmod, or copy the file"
    return problem.strerror or str(problem) if isinstance(problem, OSError) else "no file can have this name"
