"""What bars and lines leave on a terminal, however many write at once."""

import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from audiomos_cache.cli import _Stderr
from audiomos_cache.cli.progress_bar import progress, say
from tests.support.terminal import Screen, Terminal

COLUMNS = [80, 200]


def terminal_of(columns, monkeypatch):
    """Put stdout and stderr on one terminal. (No fixture: pytest puts its own there before each test.)"""
    shared = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, shared)
    return shared


@pytest.mark.parametrize("columns", COLUMNS)
def test_six_runs_leave_their_lines_and_no_bar(monkeypatch, columns):
    terminal = terminal_of(columns, monkeypatch)
    runs = [f"decoupled-lstm-dist-of-the-study-with-a-long-name-seed{seed}" for seed in range(6)]
    bars = []
    with progress("epochs") as update:
        for run in runs:
            for epoch in range(1, 31):
                update(run, epoch, 30 if epoch == 30 else 100, f"dev loss {1 / epoch:.4f}")
                bars.append([line for line in Screen(columns).feed(terminal.getvalue()).shown() if "/100" in line])
            say(f"{run}: 30 epochs, 1.2 s")
    print("a table")
    expected = [*(f"{run}: 30 epochs, 1.2 s" for run in runs), "a table"]
    assert Screen(columns).feed(terminal.getvalue()).shown() == [
        line[start : start + columns].rstrip() for line in expected for start in range(0, len(line), columns)
    ]
    assert {len(lines) for lines in bars} == {0, 1}, "one bar at most, on one line"
    ends = {line.split()[0] for lines in bars for line in lines}
    assert all(end.endswith(f"seed{seed}") for end, seed in zip(sorted(ends), range(6), strict=True))


@pytest.mark.parametrize("columns", COLUMNS)
def test_lines_of_many_threads_are_whole_and_above_the_bars(monkeypatch, columns):
    terminal = terminal_of(columns, monkeypatch)
    handler, ready = _Stderr(), threading.Barrier(8)

    def work(number):
        ready.wait()
        for step in range(25):
            handler.handle(logging.makeLogRecord({"msg": f"[b]worker {number}, step {step}[/b]"}))

    with progress("clips") as update, ThreadPoolExecutor(8) as pool:
        update("extract train", 1, 1000)
        update("extract dev", 1, 1000)
        futures = [pool.submit(work, number) for number in range(8)]
        for done in range(2, 1000):
            update("extract train", done, 1000)
        for future in futures:
            future.result()
        before = Screen(columns).feed(terminal.getvalue()).shown()
        update("extract train", 1000, 1000)
    assert [line.split()[:2] for line in before if "clips" in line] == [["extract", "train"], ["extract", "dev"]]
    shown = Screen(columns).feed(terminal.getvalue()).shown()
    assert sorted(shown) == sorted(f"[b]worker {n}, step {step}[/b]" for n in range(8) for step in range(25))


def test_an_interrupt_takes_the_bar_away(monkeypatch):
    terminal = terminal_of(80, monkeypatch)
    with pytest.raises(KeyboardInterrupt), progress("clips") as update:
        update("extract train", 1, 10)
        raise KeyboardInterrupt
    say("Interrupted.")
    assert Screen(80).feed(terminal.getvalue()).shown() == ["Interrupted."]
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1, "the cursor is back"


def test_work_that_is_done_at_once_has_no_bar(monkeypatch):
    terminal = terminal_of(80, monkeypatch)
    with progress("files") as update:
        update("verify train.h5", 1, 1)
    assert terminal.getvalue() == ""


def test_what_others_print_goes_above_the_bar_and_into_a_file_where_stdout_is_one(monkeypatch, tmp_path):
    terminal = terminal_of(80, monkeypatch)
    with (tmp_path / "out").open("w") as file, progress("clips") as update:
        monkeypatch.setattr(sys, "stdout", file)
        update("score", 1, 10)
        print("a line of results")
        print("a warning of torch", file=sys.stderr)
        update("score", 10, 10)
    assert (tmp_path / "out").read_text() == "a line of results\n"
    assert Screen(80).feed(terminal.getvalue()).shown() == ["a warning of torch"]


@pytest.mark.parametrize("stderr", ["/dev/full", None])
def test_a_stderr_that_is_full_or_closed_stops_no_work(monkeypatch, stderr):
    file = open(stderr, "w") if stderr else None  # noqa: SIM115, PTH123 - closing it fails
    monkeypatch.setattr(sys, "stderr", file)
    with progress("clips") as update:
        update("score", 1, 1)
        _Stderr().handle(logging.makeLogRecord({"msg": "a line"}))
        say("a line")
    if file:
        with pytest.raises(OSError, match="No space left"):
            file.close()
