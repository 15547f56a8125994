"""How long work reports its progress: one kind of function for all verbs, called while they work."""

import logging
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

Notify = Callable[[str], None]


class Progress(Protocol):
    """A function that a verb calls to report how far it is, often and from its own thread."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Report progress.

        Args:
            what: is being worked on, such as `extract train`.
            done: how many clips, epochs or files of it are done.
            total: how many there are.
            note: what else is known now, such as the last loss.
        """


def no_progress(what: str, done: int, total: int, note: str = "") -> None:
    """Report nothing."""


def log_line(line: str) -> None:
    """Give a line worth reading to the log, where no function is given to notify."""
    log.info("%s", line)
