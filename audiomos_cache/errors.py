"""What can go wrong in a way the user can mend. The command line prints these as one line, exit code 1.

A message names the item, what was found, what was expected, and what to do.
"""


class AudiomosError(Exception):
    """Base of every error whose message is meant for the user."""


class DataError(AudiomosError):
    """A dataset, list, label, audio file or predictions file is not what it should be."""


class CacheError(AudiomosError):
    """A cache file is missing, damaged, foreign, or of another fingerprint."""


class FormatVersionError(CacheError):
    """A cache file was written by a newer or an older version."""


class LockedError(CacheError):
    """Another process is writing what was asked for."""


class ConfigError(AudiomosError):
    """A preset, config file, `--set` override or encoder name is not valid."""


class ArgumentError(ConfigError):
    """Arguments of a call, or options of a command, contradict each other or need another one: exit code 2."""


class EncoderError(AudiomosError):
    """An encoder cannot be loaded, or gives features that cannot be stored."""


class BundleError(AudiomosError):
    """A bundle is not to be had, damaged, or of a newer format; or one cannot be made of what was given."""


class OutputExistsError(AudiomosError):
    """The place to write to holds something already, and `--overwrite` was not given."""


class BusyError(OutputExistsError):
    """Another process is writing there."""


class OutputError(AudiomosError):
    """What was made cannot be written: a full disk, a right that is missing, a name that is too long."""


def first_five(items: list[str]) -> str:
    """Join the first five items of a list for a message, and say how many there are in all."""
    shown = ", ".join(items[:5])
    return shown if len(items) <= 5 else f"{shown}, ... ({len(items)} in all)"


def shown(text: str) -> str:
    """Return a text that others may have written, fit for a message: escaped where it holds controls or new lines."""
    return text if text.isprintable() else repr(text)
