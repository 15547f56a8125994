"""What can go wrong in a way that the user can fix. The command line prints these as one line, exit code 1.

A message names the item, what was found, what was expected, and what to do. What it quotes may come from anywhere, so
nothing in it reaches a terminal as a control character, and it never fills a screen.
"""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from os import PathLike
from pathlib import Path

LONGEST_QUOTE = 200  # characters of what a file, a path or an option contains
LONGEST_SENTENCE = 600  # which may quote twice
_LONGEST_MESSAGE = 4000


class AudiomosError(Exception):
    """Base of every error whose message is meant for the user.

    Args:
        message: one line; what a terminal would not print is escaped, and a very long word, such as a path, loses
            its middle.
        details: further lines below it, escaped too.
    """

    def __init__(self, message: str = "", *details: str) -> None:
        super().__init__(_fitted(message), *map(escaped, details))

    def __str__(self) -> str:
        return "\n".join(self.args)


class DataError(AudiomosError):
    """A dataset, list, label, audio file or predictions file is not valid."""


class CacheError(AudiomosError):
    """A cache file is missing, damaged, foreign, or of another fingerprint."""


class FormatVersionError(CacheError):
    """A cache file was written by a newer or an older version."""


class ConfigError(AudiomosError):
    """A preset, config file, `--set` override or encoder name is not valid."""


class ArgumentError(ConfigError):
    """Arguments of a call, or options of a command, contradict each other or need another one: exit code 2."""


class EncoderError(AudiomosError):
    """An encoder cannot be loaded, or gives features that cannot be stored."""


class BundleError(AudiomosError):
    """A bundle is not available, damaged, or of a newer format; or one cannot be made of what was given."""


class OutputExistsError(AudiomosError):
    """The output exists already, and `--overwrite` was not given."""


class BusyError(OutputExistsError):
    """Another process is writing there."""


class OutputError(AudiomosError):
    """A result cannot be written: a full disk, a missing permission, a name that is too long."""


def paths_of(name: str, given: object) -> list[Path]:
    """Return the paths of an argument of a public function that may be one path or several.

    Args:
        name: of the argument.
        given: a path, or paths in an order of their own.
    Raises:
        ArgumentError: it is neither, such as bytes, a set or a number.
    """
    if isinstance(given, str | PathLike):
        return [Path(given)]
    if isinstance(given, Iterable) and not isinstance(given, bytes | bytearray | Mapping | Set):
        several = list(given)
        if all(isinstance(each, str | PathLike) for each in several):
            return [Path(each) for each in several]
    raise ArgumentError(f"{name} is {quoted(given)}, expected a path, or a list of paths")


def escaped(string: str) -> str:
    r"""Escape what a terminal does not print, or obeys: control characters, line breaks, changes of direction.

    >>> escaped("a\x1b[2J\u202eb")
    'a\\x1b[2J\\u202eb'
    """
    if string.isprintable():
        return string
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in string)


def shown(string: str) -> str:
    """Return a string that others may have written, fit for a message: as Python writes it where not printable."""
    return _cut(string, LONGEST_QUOTE) if string.isprintable() else quoted(string)


def quoted(value: object) -> str:
    """Return a value that others may have written as Python writes it; of a long one its two ends."""
    if isinstance(value, str):
        return escaped(repr(_cut(value, LONGEST_QUOTE)))
    try:
        return _cut(escaped(repr(value)), LONGEST_QUOTE)
    except (ValueError, RecursionError):  # an integer of thousands of digits, lists in lists in lists
        return f"<{type(value).__name__}>"


def in_one_line(error: object) -> str:
    """Return what an error says, a library's of many lines too, as a part of a message."""
    return " ".join(str(error).split())


def _cut(string: str, most: int) -> str:
    if len(string) <= most:
        return string
    end = most // 4
    return f"{string[: most - end - 3]}...{string[-end:]}"


def _fitted(message: str) -> str:
    words = re.sub(r"\S{251,}", lambda word: _cut(word[0], LONGEST_QUOTE), escaped(message))
    return _cut(words, _LONGEST_MESSAGE)


def one_of(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse an argument of a public function that is not one of the strings it may be.

    Args:
        name: of the argument.
        value: what was given.
        choices: what may be given, such as `typing.get_args` of a Literal.
    Raises:
        ArgumentError: lists the choices.
    """
    if not (isinstance(value, str) and value in choices):
        expected = f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
        raise ArgumentError(f"{name} is {quoted(value)}, expected {expected}")


def reason_of(problem: OSError) -> str:
    """Return what a system error is about, why, and what can be done about a missing permission."""
    reason = problem.strerror or str(problem)
    if isinstance(problem, PermissionError):
        reason = f"{reason[0].lower()}{reason[1:]}; change it with chmod, or give another path"
    return reason if problem.filename is None else f"{problem.filename}: {reason}"


def first_five(items: Sequence[str]) -> str:
    """Join the first five items of a list, or sentences, for a message, with the number of all."""
    joined = ", ".join(_cut(escaped(item), LONGEST_SENTENCE) for item in items[:5])
    return joined if len(items) <= 5 else f"{joined}, ... ({len(items)} in all)"
