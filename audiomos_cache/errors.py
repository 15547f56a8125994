"""What can go wrong in a way that the user can fix. The command line prints these as one line, exit code 1.

A message names the item, what was found, what was expected, and what to do.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from os import PathLike
from pathlib import Path


class AudiomosError(Exception):
    """Base of every error whose message is meant for the user."""


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
        raise ArgumentError(f"{name} is {value!r}, expected {expected}")


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
    raise ArgumentError(f"{name} is {given!r:.80}, expected a path, or a list of paths")


def first_five(items: list[str]) -> str:
    """Join the first five items of a list for a message, with the number of all."""
    shown = ", ".join(items[:5])
    return shown if len(items) <= 5 else f"{shown}, ... ({len(items)} in all)"


def escaped(string: str) -> str:
    r"""Escape what a terminal does not print, or obeys: control characters, line breaks, changes of direction.

    >>> escaped("a\x1b[2J\u202eb")
    'a\\x1b[2J\\u202eb'
    """
    if string.isprintable():
        return string
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in string)


def shown(string: str) -> str:
    """Return a string that others may have written, fit for a message: escaped if it is not printable."""
    return string if string.isprintable() else repr(string)
