"""Lines and progress on stderr: on a terminal a bar for each piece of work that is running, below the lines."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import RLock
from typing import TYPE_CHECKING, Any

from audiomos_cache.cli.options import wrapped
from audiomos_cache.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Live

SECONDS_BETWEEN_LINES = 10.0

_live: "list[Live]" = []  # what draws bars at this time, if anything does
_turn = RLock()  # of those who print lines, and start and stop what draws bars


def say(line: str) -> None:
    """Print a line on stderr, above the bars; any thread may. A stderr that is full or closed stops no work."""
    if sys.stderr is None:  # closed before Python began
        return
    with _turn, suppress(OSError):
        if _live:
            from rich.text import Text

            _live[-1].console.print(Text(wrapped(line, sys.stderr)), soft_wrap=True)  # no markup
        else:
            sys.stderr.write(f"{wrapped(line, sys.stderr)}\n")  # in one piece, as other processes may write too
            sys.stderr.flush()


@contextmanager
def progress(unit: str) -> Iterator[Progress]:
    """Yield a function that reports progress; `unit` is what is counted, such as clips."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield _Lines(unit)
        return
    bars = _Bars(unit)
    try:
        yield bars
    finally:
        bars.stop()


class _Bars:
    """A bar for each piece of work, from its first report to its last; then nothing of it is left on the screen."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.tasks: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        with _turn:
            if done < total:
                if not self.tasks:
                    _live.append(_start_live(self.unit))
                if what not in self.tasks:
                    self.tasks[what] = _live[-1].add_task(what, note=note)
                _live[-1].update(self.tasks[what], completed=done, total=total, note=note)
            elif what in self.tasks:
                _live[-1].remove_task(self.tasks.pop(what))
                if not self.tasks:
                    _live.pop().stop()

    def stop(self) -> None:
        """Take the bars away that an error or an interrupt has left."""
        with _turn:
            if self.tasks:
                self.tasks.clear()
                _live.pop().stop()


def _start_live(unit: str) -> "Live":
    """Start to draw bars, none as yet."""
    import rich.progress as bar
    from rich.console import Console
    from rich.constrain import Constrain

    from audiomos_cache.cli.rendering import Name

    console = Console(stderr=True)

    class What(bar.ProgressColumn):
        def render(self, task: bar.Task) -> Name:
            return Name(task.description)

    class OneLineEach(bar.Progress):
        def get_renderables(self) -> Iterator[Constrain]:
            # The last columns stay free: terminals differ in where the cursor is after them, and echo ^C there.
            yield Constrain(self.make_tasks_table(self.tasks), console.width - 4)

    # What comes from the user, whose [brackets] are no markup.
    note = bar.TextColumn(f"{unit} {{task.fields[note]}}", markup=False)
    length = 10 if console.width < 100 else 30  # names are worth more than bars
    columns = (What(), bar.BarColumn(length), bar.MofNCompleteColumn(), note, bar.TimeRemainingColumn())
    # What parts of the user's print must not go through a bar; what they print into a file stays there.
    live = OneLineEach(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty())
    live.start()
    return live


class _Lines:
    """A line now and then, and one when a piece of work is done."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.started: dict[str, float] = {}
        self.last = time.monotonic()

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        start = self.started.setdefault(what, now)
        if done >= total or now - self.last >= SECONDS_BETWEEN_LINES:
            self.last = now
            noted = f", {note}" if note else ""
            say(f"{what}: {done} of {total} {self.unit}, {now - start:.0f} s{noted}")
