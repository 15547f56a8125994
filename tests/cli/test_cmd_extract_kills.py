"""Real processes of the real command, killed at random moments, and started again until they are done."""

import json
import os
import random
import signal
import time
from collections import Counter
from contextlib import contextmanager

import pytest

from audiomos_cache.cache.verify import verify_file
from audiomos_cache.testing.music import make_dataset
from tests.support import launchers
from tests.support.faults import content

# One after the other: how far the processes come is a matter of time.
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("kills")]

# Imports once, then runs our command line in a new process for each line that it reads: where it notes what it is
# about, its log, the size of a file of a large split, and the arguments. The disk is slow, and every clip a part, so
# that a signal finds the extraction at all that it does. Nothing may be computed before the fork: torch's threads do
# not survive it. A line that is a number waits for that process.
LAUNCHER = """
import json, os, sys, time
from functools import partial
from torchaudio.transforms import Resample
from transformers import PreTrainedTokenizerFast, RobertaModel
from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import Wav2Vec2ConformerEncoder
from muq.muq.muq import MuQ
from audiomos_cache.cache import parts, paths, publish
from audiomos_cache.extraction import extract_split
from audiomos_cache.__main__ import main
from audiomos_cache.encoders.muq import MuQEncoder

def slow(call, seconds):
    def wait_and_call(*arguments, **others):
        time.sleep(seconds)
        return call(*arguments, **others)
    return wait_and_call

def noted(call, what):
    def note_and_call(*arguments, **others):
        note(stage, what(*arguments).ljust(9).encode(), 0)
        return call(*arguments, **others)
    return note_and_call

def child(stage_path, log, bytes_per_file, arguments):
    global stage
    stage = os.open(stage_path, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    extract_split.publish_split = partial(extract_split.publish_split, bytes_per_file=bytes_per_file)
    try:
        main(arguments)
    except SystemExit as end:
        note(stage, b"end      ", 0)
        os._exit(end.code)  # Python's own way out would copy the memory of all that was imported

note = os.pwrite
for name, seconds in {"pwrite": 0.0003, "fsync": 0.005, "link": 0.015, "unlink": 0.01}.items():
    setattr(os, name, slow(getattr(os, name), seconds))
def kind(path):
    return "part" if path.parent.suffix == ".parts" else "file"
MuQEncoder.encode = noted(slow(MuQEncoder.encode, 0.005), lambda *_: "encode")
parts.write_file = publish.write_file = noted(parts.write_file, lambda path, *_: kind(path))
paths.publish = noted(paths.publish, lambda _, path: "name " + kind(path))
paths.remove_parts = noted(paths.remove_parts, lambda *_: "clean up")
extract_split.PartWriter = partial(extract_split.PartWriter, clips_per_part=1)
print("ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if isinstance(request, int):
        print(os.waitstatus_to_exitcode(os.waitpid(request, 0)[1]), flush=True)
        continue
    pid = os.fork()
    if not pid:
        child(*request)
    print(pid, flush=True)
"""


class Launcher:
    def __init__(self, process, folder):
        self.process, self.folder = process, folder

    def start(self, name, *arguments, bytes_per_file=10**9):
        """Start a process; `name` is that of its log and of the file that says what it is about."""
        stage, log = self.folder / f"{name}.stage", self.folder / f"{name}.log"
        stage.write_text("start")
        log.unlink(missing_ok=True)
        return self._ask([str(stage), str(log), bytes_per_file, list(map(str, arguments))])

    def wait(self, pid):
        """The exit code of a process."""
        return self._ask(pid)

    def stage(self, name):
        """What the process was last about."""
        return (self.folder / f"{name}.stage").read_text().strip()

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()

    def _ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def launched(folder):
    with launchers.launched(LAUNCHER) as process:
        yield Launcher(process, folder)


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    with launched(tmp_path_factory.mktemp("logs")) as processes:
        yield processes


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Arguments for a split of eight clips."""
    data = make_dataset(tmp_path_factory.mktemp("music") / "data", prompts=3, seconds=(0.2, 0.4))
    return ("extract", "--data", data, "--split", "train", "--audio-encoder", "muq-tiny", "--text-encoder",
            "roberta-tiny", "--pad-to", "0.5", "--device", "cpu", "--batch-size", "1", "--cache")  # fmt: skip


SEVERAL_FILES = 13 * 128 * 2 * 3  # three clips each: half a second has 13 frames


@pytest.fixture(scope="module")
def undisturbed(launcher, options, tmp_path_factory):
    """The files of an extraction that nobody disturbs, by size of file, and how many seconds it takes."""
    files, start = {}, time.monotonic()
    for size in (10**9, SEVERAL_FILES):
        cache = tmp_path_factory.mktemp("whole")
        assert launcher.wait(launcher.start("whole", *options, cache, bytes_per_file=size)) == 0, launcher.log("whole")
        files[size] = content(cache)
    assert [len(found) for found in files.values()] == [1, 3]
    return files, (time.monotonic() - start) / 2


def whole_clips(cache):
    """Ids of the clips in a cache, each of whose files must be whole, whatever happened."""
    reports = [verify_file(path) for path in cache.rglob("*.h5")]
    assert [line for report in reports for line in report.damaged] == []
    return {clip_id for report in reports for clip_id in report.file.ids}


def test_killed_again_and_again_it_ends_with_the_same_bytes(launcher, options, undisturbed, tmp_path):
    (expected, seconds), moments = undisturbed, random.Random(5)
    stages, progress, extractions = Counter(), 0, 0
    while stages.total() < 50:
        cache, size = tmp_path / f"cache-{extractions}", (10**9, SEVERAL_FILES)[extractions % 2]
        extractions += 1
        done = set()
        for attempt in range(8):
            pid = launcher.start("killed", *options, cache, bytes_per_file=size)
            if attempt < 7:  # the last one is left alone
                time.sleep(moments.uniform(0, 0.8 * seconds))
                os.kill(pid, signal.SIGKILL)
            code = launcher.wait(pid)
            if code == 0:
                break
            assert code == -signal.SIGKILL, launcher.log("killed")
            stages[launcher.stage("killed")] += 1
            before, done = done, whole_clips(cache)
            assert before <= done
            progress += before < done
        assert content(cache) == expected[size]
        assert sorted(path.name for path in cache.iterdir()) == sorted([*expected[size], "train.lock"])
    assert extractions >= 8
    assert progress >= 15
    assert stages["encode"] + stages["part"] + stages["name part"] >= 15, stages
    assert stages["file"] + stages["name file"] + stages["clean up"] >= 3, stages


def test_shards_side_by_side_killed_at_random(launcher, options, undisturbed, tmp_path):
    """Two processes fill one folder; one of them, or both, are killed, and started again."""
    (expected, seconds), moments = undisturbed, random.Random(6)
    killed = 0
    for attempt in range(4):
        cache, size = tmp_path / f"cache-{attempt}", (10**9, SEVERAL_FILES)[attempt % 2]
        left = {1: 3, 2: 3}  # kills of each shard
        while left:
            running = {
                shard: launcher.start(f"{shard}", *options, cache, "--shard", f"{shard}/2", bytes_per_file=size)
                for shard in left
            }
            ends = sorted((moments.uniform(0, 0.5 * seconds), shard) for shard, kills in left.items() if kills)
            start = time.monotonic()
            for moment, shard in ends:
                time.sleep(max(0, start + moment - time.monotonic()))
                os.kill(running[shard], signal.SIGKILL)
            for shard, pid in running.items():
                code = launcher.wait(pid)
                if code == 1 and "is being written by" in launcher.log(f"{shard}").splitlines()[-1]:
                    continue  # it came when the other, the last to finish, was just writing the file
                assert code in (0, -signal.SIGKILL), launcher.log(f"{shard}")
                killed += code != 0
                left[shard] -= 1
                if code == 0:
                    del left[shard]
            whole_clips(cache)
        assert content(cache) == expected[size]
        assert sorted(path.name for path in cache.iterdir()) == sorted([*expected[size], "train.lock"])
    assert killed >= 6
