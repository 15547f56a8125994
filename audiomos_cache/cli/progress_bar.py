"""Progress on stderr: a bar for each piece of work on a terminal, lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from audiomos_cache.progress import Progress

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(unit: str) -> Iterator[Progress]:
    """Yield a function that reports progress; `unit` is what is counted, such as clips."""
    if not sys.stderr.isatty():
        yield _Lines(unit)
        return
    import rich.progress as bar
    from rich.console import Console

    # Names come from the user, whose [brackets] are no markup.
    what = bar.TextColumn("{task.description}", markup=False)
    note = bar.TextColumn(f"{unit} {{task.fields[note]}}", markup=False)
    columns = (what, bar.BarColumn(), bar.MofNCompleteColumn(), note, bar.TimeRemainingColumn())
    with bar.Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def update(what: str, done: int, total: int, note: str = "") -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, note=note)
            bars.update(tasks[what], completed=done, total=total, note=note)

        yield update


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
            click.echo(f"{what}: {done} of {total} {self.unit}, {now - start:.0f} s{noted}", err=True)
