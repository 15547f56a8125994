"""How commands end: done, our error, wrong usage, interrupted, terminated."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

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
from audiomos_cache.__main__ import main
main(["verify", "cache"])
"""


@contextmanager
def at_work(code: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """A process that has said that it is at work."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stdout.readline() == "at work\n"
        yield process
    finally:
        process.kill()
        process.communicate()


STOPPED = [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated"), (signal.SIGHUP, 129, "Terminated")]


@pytest.mark.process
@pytest.mark.parametrize(("which", "code", "word"), STOPPED)
def test_a_signal_ends_a_command_in_order(which, code, word, tmp_path):
    with at_work(SCRIPT, tmp_path / "cleaned") as process:
        os.kill(process.pid, which)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (code, f"reading cache ...\n{word}. What was finished is kept.\n")
    assert (tmp_path / "cleaned").exists()


@pytest.mark.process
@pytest.mark.parametrize(("which", "code", "word"), STOPPED)
def test_a_second_signal_does_not_disturb_the_cleaning_up(which, code, word, tmp_path):
    slow = SCRIPT.replace("Path(sys", "print('cleaning up', flush=True); time.sleep(0.3); Path(sys")
    with at_work(slow, tmp_path / "cleaned") as process:
        os.kill(process.pid, which)
        assert process.stdout.readline() == "cleaning up\n"
        for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, which):
            os.kill(process.pid, again)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (code, f"reading cache ...\n{word}. What was finished is kept.\n")
    assert (tmp_path / "cleaned").exists()


@pytest.mark.process
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_the_parent_ignores_stays_ignored(which, tmp_path):
    """As nohup, and a shell that runs something in the background."""
    ignoring = SCRIPT.replace(
        "signal.signal(signal.SIGINT, signal.default_int_handler)", f"signal.signal({which:d}, 1)"
    )
    assert ignoring != SCRIPT
    with at_work(ignoring, tmp_path / "cleaned") as process:
        os.kill(process.pid, which)
        time.sleep(0.1)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (143, "reading cache ...\nTerminated. What was finished is kept.\n")


# Libraries that are written in C catch what is raised while they are imported, or abort.
IMPORTING = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
class Slow:
    def find_spec(self, name, *_):
        if name == "click":
            print("at work", flush=True)
            try:
                time.sleep(60)
            except BaseException:
                print("caught", flush=True)
                raise ImportError("as numpy's")
sys.meta_path.insert(0, Slow())
from audiomos_cache.__main__ import main
main(["--help"])
"""


@pytest.mark.process
@pytest.mark.parametrize(("which", "code", "word"), STOPPED)
def test_a_signal_during_an_import_is_one_line(which, code, word):
    with at_work(IMPORTING) as process:
        os.kill(process.pid, which)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr) == (code, "", f"{word}. What was finished is kept.\n")


@pytest.mark.process
@pytest.mark.parametrize(("which", "code", "word"), STOPPED)
def test_what_a_library_makes_of_an_interrupt_is_one_line(which, code, word):
    raising = SCRIPT.replace(
        "finally:", "except KeyboardInterrupt:\n        raise ValueError('of its own')\n    finally:"
    )
    with at_work(raising, "/dev/null") as process:
        os.kill(process.pid, which)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (code, f"reading cache ...\n{word}. What was finished is kept.\n")


@pytest.mark.process
@pytest.mark.parametrize(("which", "code", "word"), STOPPED)
def test_a_library_that_does_not_come_back_to_python_is_not_waited_for(which, code, word, tmp_path):
    """As a download, or a fit, in a language of its own."""
    deaf = SCRIPT.replace("time.sleep(60)", "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**30)")
    deaf = deaf.replace("import os,", "import hashlib, audiomos_cache.interrupts, os,")
    deaf = deaf.replace("def wait", "audiomos_cache.interrupts.NATIVE_S = 0.2\ndef wait")
    with at_work(deaf, tmp_path / "cleaned") as process:
        time.sleep(0.3)  # it is not deaf before
        os.kill(process.pid, which)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (code, f"reading cache ...\n{word}. What was finished is kept.\n")
    assert not (tmp_path / "cleaned").exists()


# The signal arrives while a lock is taken, which nobody would leave again if that was interrupted.
LOCKING = """
import functools, signal, sys, threading, time, types
signal.signal(signal.SIGINT, signal.default_int_handler)
from audiomos_cache.interrupts import interruptible
interrupt = functools.partial(signal.raise_signal, signal.SIGINT)
lock = types.SimpleNamespace(acquire=None, release=None, __enter__=interrupt,
                             __exit__=lambda *_: print("left", flush=True))
with interruptible():
    print("at work", flush=True)
    with threading.Condition(lock):
        print("taken", flush=True)
        time.sleep(60)
"""


@pytest.mark.process
def test_a_lock_that_is_taken_is_left():
    """Nearly always: a slow machine may be interrupted again where the lock is taken and Python has yet to note it."""
    left = 0
    for _ in range(5):
        with at_work(LOCKING) as process:
            stdout, stderr = process.communicate(timeout=30)
        assert (process.returncode, stderr) == (130, "Interrupted. What was finished is kept.\n")
        left += stdout.removeprefix("taken\n") == "left\n"
    assert left >= 2


ENDING = """
import atexit, io, sys, time
from audiomos_cache.__main__ import main
stdout, sys.stdout = sys.stdout, io.StringIO()
atexit.register(lambda: (print("at work", file=stdout, flush=True), time.sleep(60)))
main(["--version"])
"""


@pytest.mark.process
def test_a_signal_after_the_end_is_quiet():
    """While the interpreter takes itself apart."""
    with at_work(ENDING) as process:
        os.kill(process.pid, signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (-signal.SIGTERM, "")


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
