"""Processes that have imported everything, and run commands in children that they fork: a start takes milliseconds."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# What a launcher does that runs one command at a time, after it has imported `main` and slowed down what it calls: it
# prints the child's number, and when the child has ended its exit code.
RUN_EACH_LINE = """
print("ready", flush=True)
import gc
gc.freeze()  # nor is it looked through by each child, which would copy it
pid = 0
for line in sys.stdin:
    if pid:
        os.waitpid(pid, 0)  # not before: until now its number is its own, and a signal that comes too late does nothing
    log, seconds, arguments = json.loads(line)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    pid = os.fork()
    if not pid:
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where tests run in the background
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            main(arguments)
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code or 0)  # Python's own way out would copy the memory of all that was imported
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    print(pid, flush=True)
    end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    print(end.si_status if end.si_code == os.CLD_EXITED else -end.si_status, flush=True)
"""


@contextmanager
def launched(code: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a launcher, and give it once it is ready; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            assert process.stdout and process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()
