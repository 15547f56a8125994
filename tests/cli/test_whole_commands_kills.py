"""Every command that writes, killed at drawn moments and run again until it is done: it ends with the same bytes."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from audiomos_cache.heads.model import build_head
from audiomos_cache.testing.music import make_dataset
from audiomos_cache.upstream.checkpoints import upstream_names
from tests.support import launchers
from tests.support.commands import run
from tests.support.training import files_in

# One after the other: how far the processes come is a matter of time.
pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.xdist_group("kills")]

# The disk is slow, so that a signal finds a command at all that it writes.
LAUNCHER = """
import json, os, signal, sys, time
from torchaudio.transforms import Resample
from transformers import PreTrainedTokenizerFast, RobertaModel
from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import Wav2Vec2ConformerEncoder
from muq.muq.muq import MuQ
import torch
torch.set_num_threads(1)
import scipy.stats, sklearn.linear_model
import audiomos_cache
for name in audiomos_cache.__all__:
    getattr(audiomos_cache, name)
import audiomos_cache.cli, audiomos_cache.upstream.import_run
from audiomos_cache.training import resume
from audiomos_cache.__main__ import main as command

def slow(call):
    def wait_and_call(*arguments, **others):
        time.sleep(0.004)
        return call(*arguments, **others)
    return wait_and_call

for name in ("fsync", "rename", "replace", "unlink"):
    setattr(os, name, slow(getattr(os, name)))
resume.SHARE_OF_TIME = float("inf")

def main(arguments):
    os.chdir(arguments[0])
    command(arguments[1:])
"""

TINY = ("--audio-encoder", "muq-tiny", "--text-encoder", "roberta-tiny", "--pad-to", "0.5", "--device", "cpu",
        "--batch-size", "1")  # fmt: skip


@dataclass(frozen=True)
class Launcher:
    """Runs commands in a folder, in processes that have imported everything."""

    process: "subprocess.Popen[str]"
    log: Path

    def start(self, folder: Path, command: Sequence[object]) -> int:
        assert self.process.stdin and self.process.stdout
        self.log.write_bytes(b"")  # it may be killed before it writes there
        self.process.stdin.write(json.dumps([str(self.log), 0, [str(folder), *map(str, command)]]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> tuple[int, str]:
        """Exit code and output."""
        assert self.process.stdout
        return int(self.process.stdout.readline()), self.log.read_text()


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    with launchers.launched(LAUNCHER + launchers.RUN_EACH_LINE) as process:
        yield Launcher(process, tmp_path_factory.mktemp("log") / "log")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands read: data, cache, runs, fused, model, and a published checkpoint."""
    folder = tmp_path_factory.mktemp("given")
    make_dataset(folder / "data", prompts=4, seconds=(0.2, 0.4))
    run("extract", "--data", folder / "data", "--cache", folder / "cache", *TINY)
    heads = ("--head", "pooling-dist", "--head", "cross-attention-dist", "--set", "training.max_epochs=1")
    run("train-head", "--cache", folder / "cache", *heads, "--out", folder / "runs")
    labels = folder / "data" / "sets" / "dev_mos_list.txt"
    run("fuse", folder / "runs", "--labels", labels, "--out", folder / "fused")
    run("bundle", folder / "runs", "--fusion", folder / "fused", "--out", folder / "model", "--no-check")
    head = build_head("transformer-dist", compat="upstream")
    torch.save({theirs: head.state_dict()[ours] for theirs, ours in upstream_names(head).items()}, folder / "a.pth")
    return folder


# What each makes in the folder where it runs; of several commands, each is run until it is done.
COMMANDS = {
    "extract": ["extract --data {given}/data --split dev --cache out"],
    "extract --shard": [
        "extract --data {given}/data --split dev --shard 1/2 --cache out/1",
        "extract --data {given}/data --split dev --shard 2/2 --cache out/2",
        "merge out/1 out/2 --out out/merged",
    ],
    "train-head": [
        "train-head --cache {given}/cache --head pooling-dist --head cross-attention-dist --seed 1 --seed 2"
        " --set training.max_epochs=2 --device cpu --out out"
    ],
    "predict": ["predict run --cache {given}/cache --split train --best srcc --device cpu --overwrite"],
    "fuse": ["fuse {given}/runs --labels {given}/data/sets/dev_mos_list.txt --out out"],
    "fuse --overwrite": ["fuse {given}/runs --method mean --out fused --overwrite"],
    "bundle": ["bundle {given}/runs --fusion {given}/fused --out out --no-check"],
    "submit": ["submit {given}/fused/fused.eval.jsonl --list {given}/data/sets/eval_list.txt --out out.zip"],
    "split": ["split {given}/data/sets/train_mos_list.txt --out out"],
    "score": ["score {given}/data/wav --prompt x --bundle {given}/model --device cpu --out out.jsonl"],
    "score table": ["score {given}/data/wav --prompt x --bundle {given}/model --device cpu --out out.csv"],
    "import-upstream": ["import-upstream {given}/a.pth --head transformer-dist --out out"],
    "evaluate": ["evaluate {given}/fused/fused.eval.jsonl --labels {given}/data/sets/test_mos_list.txt --out out.json"],
}
SIGNALS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


def commands_of(name: str, given: Path) -> list[list[str]]:
    commands = [command.format(given=given).split(" ") for command in COMMANDS[name]]
    return [[*command, *TINY] if command[0] == "extract" else command for command in commands]


def prepare(folder: Path, given: Path) -> Path:
    """A folder to run in, with a run and a fusion to write into."""
    folder.mkdir()
    shutil.copytree(given / "runs" / "pooling-dist-seed1984", folder / "run")
    shutil.copytree(given / "fused", folder / "fused")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """The files, without locks and without the parts of shards, which end where an extraction was interrupted."""
    left_out = re.compile(r"\.lock$|\.parts/")
    return {name: content for name, content in files_in(folder).items() if not left_out.search(name)}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.simulation)])
def test_killed_and_run_again_it_ends_with_the_same_bytes(
    launcher: Launcher, given: Path, tmp_path: Path, name: str, kills: int
) -> None:
    commands, moments = commands_of(name, given), random.Random(f"{name} {kills}")
    undisturbed, seconds = prepare(tmp_path / "undisturbed", given), []
    for command in commands:
        start = time.monotonic()
        launcher.start(undisturbed, command)
        code, log = launcher.end()
        assert code == 0, log
        seconds.append(time.monotonic() - start)
    expected, done, attempts = files(undisturbed), Counter[str](), 0
    while done.total() < kills:
        folder = prepare(tmp_path / f"killed-{attempts}", given)
        attempts += 1
        assert attempts <= 20 * kills, "the signals come too late"
        for command, needed in zip(commands, seconds, strict=True):
            for _ in range(2):
                pid = launcher.start(folder, command)
                time.sleep(moments.uniform(0, needed))
                which = moments.choice(list(SIGNALS))
                os.kill(pid, which)
                code, log = launcher.end()
                if is_done(code, log):
                    break  # the signal came too late
                assert code in (SIGNALS[which], -which), log  # the latter before it could handle any
                done[which.name] += 1
                if code > 0:
                    assert re.fullmatch(r"(Interrupted|Terminated)\. What was finished is kept\.", log.splitlines()[-1])
                    assert "Traceback" not in log
            launcher.start(folder, command)
            code, log = launcher.end()
            assert is_done(code, log), log
        found = files(folder)
        assert {name for name in found.keys() | expected if found.get(name) != expected.get(name)} == set()
        shutil.rmtree(folder)
    print(f"{name}: {dict(done)}")


def is_done(code: int, log: str) -> bool:
    """Whether a command has ended well, or has found what it made before."""
    return code == 0 or (code == 1 and "exists already" in log.splitlines()[-1])
