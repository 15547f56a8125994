"""Real processes of train-head, interrupted and killed at chance moments."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from audiomos_cache.runs import BESTS, deciding_config
from tests.support import launchers
from tests.support.training import files_in, names_in

# Imports once, then runs our command line in a new process for each line of arguments that it reads. Epochs are slow,
# and each is saved, so that a signal finds the training at work. Nothing may be computed before the fork: torch's
# threads do not survive it.
LAUNCHER = """
import json, os, signal, sys, time
import torch
torch.set_num_threads(1)
from audiomos_cache.__main__ import main
from audiomos_cache.training import resume, train_head
from audiomos_cache.training.trainer import Trainer

def slow(self, epoch, train_epoch=Trainer.train_epoch):
    time.sleep(seconds)
    return train_epoch(self, epoch)

Trainer.train_epoch = slow
resume.SHARE_OF_TIME = float("inf")
"""


class Launcher:
    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log = process, log

    def start(self, *arguments: object, seconds: float = 0.1) -> int:
        """Start a process that takes so many seconds more for an epoch."""
        assert self.process.stdin and self.process.stdout
        self.log.unlink(missing_ok=True)
        self.process.stdin.write(json.dumps([str(self.log), seconds, list(map(str, arguments))]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> tuple[int, str]:
        """Exit code and output."""
        assert self.process.stdout
        return int(self.process.stdout.readline()), self.log.read_text()


@contextmanager
def launcher(folder: Path) -> Iterator[Launcher]:
    with launchers.launched(LAUNCHER + launchers.RUN_EACH_LINE) as process:
        yield Launcher(process, folder / "log")


def saved_epochs(state: Path) -> int:
    try:
        return len(json.loads((state / "state.json").read_text().splitlines()[1])["history"])
    except FileNotFoundError:
        return 0


def wait_for_epoch(state: Path, epoch: int) -> None:
    end = time.monotonic() + 60
    while saved_epochs(state) < epoch:
        assert time.monotonic() < end, f"no state of epoch {epoch} in 60 s"
        time.sleep(0.002)


@pytest.mark.process
@pytest.mark.xdist_group("kills")
def test_interrupted_then_killed_three_times_it_ends_with_the_same_bytes(cache: Path, tmp_path: Path) -> None:
    moments = random.Random(7)
    settings = ("training.max_epochs=9", "training.feature_mixup=0.4", "training.schedule=cosine", "training.lr=1e-3")
    options = ("train-head", "--cache", cache, "--head", "transformer-dist", "--seed", 1, "--device", "cpu",
               *(f"--set={each}" for each in settings), "--out")  # fmt: skip
    name, out = "transformer-dist-seed1", tmp_path / "runs"
    state = out / f".{name}.training"
    with launcher(tmp_path) as processes:
        processes.start(*options, tmp_path / "whole", seconds=0)
        assert processes.end()[0] == 0

        pid = processes.start(*options, out)
        wait_for_epoch(state, 1)
        os.kill(pid, signal.SIGINT)
        code, output = processes.end()
        assert (code, output.splitlines()[-1]) == (130, "Interrupted. What was finished is kept.")

        for _ in range(3):
            done = saved_epochs(state)
            pid = processes.start(*options, out)
            wait_for_epoch(state, done + 1)
            time.sleep(moments.uniform(0, 0.12))
            os.kill(pid, signal.SIGKILL)
            code, output = processes.end()
            assert code == -signal.SIGKILL
            assert f"{name}: continues after epoch {done}" in output
            assert names_in(out) == [f".{name}.training"]

        assert 4 <= saved_epochs(state) < 9
        processes.start(*options, out, seconds=0)
        assert processes.end()[0] == 0
    found, expected = files_in(out / name), files_in(tmp_path / "whole" / name)
    assert found.pop("config.yaml") != expected.pop("config.yaml"), "the command is another"
    assert found == expected
    assert deciding_config(out / name) == deciding_config(tmp_path / "whole" / name)
    assert {f"best-{best}.safetensors" for best in BESTS} < set(names_in(out / name))
    assert names_in(out) == [name]
