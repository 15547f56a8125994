"""Standard output and error as they may be: closed, full, or a pipe whose reader has gone."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, TextIO


@contextmanager
def checked_streams() -> Iterator[None]:
    """Let a command end well only if all that it printed has arrived.

    A closed stdout is refused before anything is done; a closed stderr drops what would be written there. The reader of
    a pipe may go at any time: that ends the command quietly, with exit code 1.
    """
    _fill_closed()
    if sys.stdout is None:
        _fail("standard output is closed; send it to a file, or to /dev/null if nobody needs it")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _drop(sys.stdout)
        sys.exit(1)
    except OSError as error:
        _fail(f"standard output cannot be written: {error.strerror or error}; make room there, or send it elsewhere")
    finally:
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            _drop(sys.stderr)


def _fill_closed() -> None:
    """Open the null device in place of a closed stdin, stdout or stderr: the next file would get its number otherwise,
    and with it whatever a library prints.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _fail(problem: str) -> NoReturn:
    _drop(sys.stdout)
    with suppress(OSError):
        print(f"Error: {problem}", file=sys.stderr, flush=True)
    sys.exit(1)


def _drop(stream: TextIO) -> None:
    """Let what is left to print go nowhere, so that Python does not try once more when it ends."""
    with suppress(OSError, ValueError, AttributeError):  # a test's stream has no number
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
