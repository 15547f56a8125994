"""How commands end: done, our error, wrong usage, interrupted, terminated."""

import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from audiomos_cache.cli import main

# A command that waits for its signal inside a library call, and must clean up.
SCRIPT = """
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
import audiomos_cache
def wait(*_arguments, **_options):
    try:
        print("at work", flush=True)
        time.sleep(60)
    finally:
        Path(sys.argv[1]).touch()
audiomos_cache.verify = wait
from audiomos_cache.cli import main
main(["verify", "cache"])
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("which", "code", "word"), [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")]
)
def test_a_signal_ends_a_command_in_order(which, code, word, tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "cleaned")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "at work\n"
        os.kill(process.pid, which)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, stderr) == (code, f"reading cache ...\n{word}. What was finished is kept.\n")
    assert (tmp_path / "cleaned").exists()


# Ends at the first line, and says what has been imported by then.
FIRST_LINE = """
import sys
from audiomos_cache.cli import main, progress_bar
import audiomos_cache.cli
def say(line):
    print(line, sorted({"torch", "scipy", "sklearn", "transformers", "pyarrow"} & set(sys.modules)))
    sys.exit()
audiomos_cache.cli.say = say
main(sys.argv[1:])
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("extract --data clips.csv --cache c", "reading clips.csv ..."),
        ("train-head --cache c", "reading the cache c ..."),
        ("predict runs/a --cache c", "reading runs/a ..."),
        ("fuse a b --out f", "reading a and 1 more ..."),
        ("evaluate a.jsonl --labels l", "reading a.jsonl ..."),
        ("bundle runs --out b", "reading runs ..."),
        ("verify c", "reading c ..."),
        ("merge c d --out e", "reading c and 1 more ..."),
        ("import-upstream a.pth --head transformer-dist --out r", "reading a.pth ..."),
        ("score song.wav --bundle b", "loading the bundle b ..."),
    ],
)
def test_the_first_line_comes_before_what_takes_seconds_to_import(command, line):
    words = [sys.executable, "-c", FIRST_LINE, *command.split()]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == (f"{line} []\n", "")


def test_an_imported_module_that_exits_is_one_line(tmp_path):
    (tmp_path / "exits_at_once.py").write_text("import sys; sys.exit(3)")
    result = CliRunner().invoke(main, ["--import", str(tmp_path / "exits_at_once.py"), "info", "heads"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: --import {tmp_path}/exits_at_once.py: cannot be imported: SystemExit: 3\n"
