"""How a command ends when it is asked to: by Ctrl-C, by SIGTERM, or because its terminal was closed (SIGHUP).

What runs is interrupted as by Ctrl-C, so that it saves what would be lost; then there is one line, and an exit code of
128 and the signal's number. Only a process that is a command handles signals: the library leaves them alone. This
module is imported before all others, and imports next to nothing.
"""

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT_CODES = tuple(128 + number for number in SIGNALS)
AGAIN_S = 5.0  # within this time a further signal is not another request: it must not disturb what is being saved
LATER_S = 0.001  # when an interrupt is tried again
NATIVE_S = 10.0  # a library that does not come back to Python for so long is not waited for; as after a kill then


_LOCKING = (threading.__file__, str(queue.__file__))
_WAITING = ("join", "wait", "_wait_for_tstate_lock")


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived; it keeps what an interrupt keeps."""


class _Requests:
    """The signals that arrived.

    Attributes:
        first: the number of the first one.
        nothing_to_save: whether what runs may be ended at once.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.nothing_to_save = False
        self._raised_s = -AGAIN_S

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Interrupt what runs, unless that was done just now."""
        self.first = self.first or number
        if self.nothing_to_save:
            with suppress(OSError, ValueError, RuntimeError):
                print(file=sys.stderr)  # after the bars of what is fetched
        if self.nothing_to_save or _imports(frame):  # some libraries abort where their import is interrupted
            end_interrupted()
        now = time.monotonic()
        if now - self._raised_s < AGAIN_S:
            return
        if _is_locking(frame):  # another thread would wait for this lock, or for its turn, for ever
            signal.setitimer(signal.ITIMER_REAL, LATER_S)
            return
        self._raised_s = now
        raise KeyboardInterrupt if self.first == signal.SIGINT else Stopped

    def watch(self, arrived: int) -> None:
        """End the process where a signal has arrived that `handle` is not called with, as Python does not run."""
        while number := os.read(arrived, 1):
            time.sleep(NATIVE_S)
            if self.first is None:
                self.first = number[0]
                end_interrupted()


_requests = _Requests()


@contextmanager
def nothing_to_save() -> Iterator[None]:
    """Let a signal end a command at once in the block, which waits for threads that no interrupt reaches: a fetch."""
    before, _requests.nothing_to_save = _requests.nothing_to_save, True
    try:
        yield
    finally:
        _requests.nothing_to_save = before


@contextmanager
def interruptible() -> Iterator[None]:
    """Handle signals while a command is imported and runs. One that the parent ignores (nohup) stays ignored."""
    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    try:
        with one_line():
            arrived, wake_up = os.pipe()
            os.set_blocking(wake_up, False)
            threading.Thread(target=_requests.watch, args=(arrived,), name="signals", daemon=True).start()
            signal.set_wakeup_fd(wake_up, warn_on_full_buffer=False)
            for number in (signal.SIGALRM, *handled):
                signal.signal(number, _requests.handle)
            yield
    except SystemExit as end:
        if _requests.first is not None and isinstance(end.code, int):
            _exit(end.code)
        raise
    finally:
        for number in handled:  # all is done
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def one_line() -> Iterator[None]:
    """Turn an interrupt of the block into one line and an exit code, and what a library has made of it too.

    Raises:
        SystemExit: it was interrupted.
    """
    try:
        yield
    except SystemExit:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or _requests.first is not None:
            number = _requests.first or signal.SIGINT
            _say(number)
            raise SystemExit(128 + number) from error
        raise


def end_interrupted() -> NoReturn:
    """End the process with the line and the exit code of the first signal."""
    number = _requests.first or signal.SIGINT
    _say(number)
    _exit(128 + number)


def _imports(frame: FrameType | None) -> bool:
    """Return whether a module is being imported."""
    while frame and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _is_locking(frame: FrameType | None) -> bool:
    """Return whether a lock is being taken, left or passed on; not whether it is waited for."""
    code = frame and frame.f_code
    return code is not None and code.co_filename in _LOCKING and code.co_name not in _WAITING


def _exit(code: int) -> NoReturn:
    """End the process without waiting for its threads, which may be busy for long."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError):  # closed, or being written to
            stream.flush()
    os._exit(code)


def _say(number: int) -> None:
    word = "Interrupted" if number == signal.SIGINT else "Terminated"
    with suppress(OSError, ValueError, RuntimeError):  # the terminal may be closed, or something is being written
        print(f"{word}. What was finished is kept.", file=sys.stderr, flush=True)
