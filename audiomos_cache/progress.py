"""What people are shown of long work: its progress, by one kind of function for all verbs, and sizes and durations.

Nothing heavy is imported here: the help of every command needs it.
"""

import logging
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

Notify = Callable[[str], None]


class Progress(Protocol):
    """A function that a verb calls to report its progress, often and from its own thread."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Report progress.

        Args:
            what: the work, such as `extract train`.
            done: number of clips, epochs or files that are done.
            total: number of all.
            note: a short remark, such as the last loss.
        """


def no_progress(what: str, done: int, total: int, note: str = "") -> None:
    """Report nothing."""


def log_line(line: str) -> None:
    """Log a line that is worth reading: the `Notify` where a caller gives none."""
    log.info("%s", line)


def gigabytes(count: int) -> str:
    """Return a number of bytes as people read it: `1.5 GB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def counted(count: int, what: str) -> str:
    """Return a number of things as people read it: `1 file`, `2 files`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def duration(seconds: float) -> str:
    """Return a duration as people read it: `2 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
