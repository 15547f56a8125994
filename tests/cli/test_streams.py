"""Standard output and error that are closed or full: one line and exit code 1, never a traceback or silence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow]

FULL = "Error: standard output cannot be written: No space left on device; make room there, or send it elsewhere\n"
CLOSED = "Error: standard output is closed; send it to a file, or to /dev/null if nobody needs it\n"
COMMANDS = ("--help", "--version", "score --help", "info heads", "info heads --json", "info")


def shell(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    program = f"{sys.executable} -W ignore -m audiomos_cache"
    return subprocess.run(
        ["bash", "-c", command.replace("PROGRAM", program)],
        capture_output=True, text=True, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_under_stdout_is_one_line(command, tmp_path):
    found = shell(f"PROGRAM {command} > /dev/full", tmp_path)
    assert (found.returncode, found.stderr) == (1, FULL)


@pytest.mark.parametrize("command", [*COMMANDS, "split none.csv", "evaluate a.jsonl --labels b.txt"])
def test_a_closed_stdout_is_one_line_before_anything_is_done(command, tmp_path):
    found = shell(f"PROGRAM {command} >&-", tmp_path)
    assert (found.returncode, found.stderr) == (1, CLOSED)
    assert shell(f"PROGRAM {command} >&- 2>&-", tmp_path).returncode == 1


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "0<&-", "0<&- 2>&-"])
def test_without_stderr_or_stdin_results_are_the_same(closed, tmp_path):
    """Log lines would go to stdout, were it left to Python, and a cache's file would get the number of stderr."""
    lines = "".join(f"S{n % 3}_P{n}.wav,3.0,4.0\n" for n in range(12))
    (tmp_path / "list.txt").write_text(lines)
    found = shell(f"PROGRAM split list.txt --out out {closed}", tmp_path)
    assert (found.returncode, found.stderr) == (0, "")
    written = [tmp_path / "out" / f"list-{side}.txt" for side in ("train", "dev")]
    assert found.stdout.splitlines()[-2:] == [f"out/{path.name}" for path in written]
    assert sorted("".join(path.read_text() for path in written).splitlines()) == sorted(lines.splitlines())


def test_an_error_without_stderr_is_told_by_the_exit_code(tmp_path):
    for closed in ("2>&-", "2>/dev/full"):
        found = shell(f"PROGRAM info nowhere {closed}", tmp_path)
        assert (found.returncode, found.stdout, found.stderr) == (1, "", "")


@pytest.mark.parametrize("command", ["--help", "info"])
def test_a_reader_that_has_gone_ends_it_quietly(command, tmp_path):
    found = shell(f"PROGRAM {command} | true; echo ${{PIPESTATUS[0]}}", tmp_path)
    assert found.stderr == "" and found.stdout.strip() in ("0", "1")
