"""A process for each GPU: real ones, on the CPU, told that there are two GPUs."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

from audiomos_cache import extract, registry
from audiomos_cache.cli import main
from audiomos_cache.errors import AudiomosError
from audiomos_cache.extraction import gpus
from audiomos_cache.registry import register
from audiomos_cache.testing.music import make_dataset

TINY = ("--audio-encoder", "muq-tiny", "--text-encoder", "roberta-tiny", "--pad-to", "1", "--split", "train")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("gpus") / "data", prompts=3, seconds=(0.5, 0.9))


@pytest.fixture
def two_gpus(monkeypatch):
    """The command believes to be on a machine with two GPUs; its processes find none, and take the CPU."""
    monkeypatch.setattr("audiomos_cache.extraction.extract.resolve_device", lambda _device: "cuda")
    monkeypatch.setattr(gpus, "visible_gpus", lambda: ["0", "1"])
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")


@pytest.mark.process
@pytest.mark.usefixtures("two_gpus")
def test_each_gpu_has_its_shard_and_the_bytes_are_those_of_one(data, tmp_path, monkeypatch):
    done = CliRunner().invoke(
        main, ["extract", "--data", str(data), "--cache", str(tmp_path / "two"), *TINY, "--batch-size", "2"]
    )
    assert done.exit_code == 0, done.output
    assert re.search(r"^GPU 0: .*train: \d+ of \d+ clips to encode", done.stderr, re.MULTILINE)
    assert re.search(r"^GPU 1: .*train: \d+ of \d+ clips to encode", done.stderr, re.MULTILINE)
    assert re.search(r"^GPU [01]: train: .* in .*train\.h5$", done.stderr, re.MULTILINE)
    assert done.stdout == f"train: 8 clips (8 encoded) in {tmp_path}/two/train.h5\n"
    monkeypatch.undo()
    alone = CliRunner().invoke(
        main, ["extract", "--data", str(data), "--cache", str(tmp_path / "one"), *TINY, "--batch-size", "2"]
    )
    assert alone.exit_code == 0, alone.output
    assert (tmp_path / "two" / "train.h5").read_bytes() == (tmp_path / "one" / "train.h5").read_bytes()


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("arguments", "several"),
    [
        ({}, True),
        ({"gpus": 2}, True),
        ({"gpus": 1}, False),
        ({"overwrite": True}, False),
        ({"repair": True}, False),
        ({"dry_run": True}, False),
        ({"compile": "off"}, False),
        ({"shard": "1/2", "batch_size": 2}, False),
    ],
)
def test_when_there_are_several_processes(data, tmp_path, monkeypatch, arguments, several):
    def one(*_arguments, **_others):
        raise AudiomosError("one process")

    def each(words, names, _notify):
        assert (words[0], words[-2:], names) == ("extract", ["--batch-size", "32"], ["0", "1"])
        raise AudiomosError("several processes")

    monkeypatch.setattr(gpus, "run_on_gpus", each)
    monkeypatch.setattr("audiomos_cache.encoders.lookup.load_audio_encoder", one)
    with pytest.raises(AudiomosError, match="^several processes$" if several else "^one process$"):
        extract(data, tmp_path, audio_encoder="muq-tiny", text_encoder="roberta-tiny", pad_to=1, **arguments)


@pytest.mark.usefixtures("two_gpus")
def test_each_process_reads_the_same_dataset_in_the_same_way(data, tmp_path, monkeypatch):
    """A dataset on the hub at the commit that this one has found."""

    def each(words, _names, _notify):
        given = dict(zip(words[1::2], words[2::2], strict=True))
        raise AudiomosError(" ".join(given[f"--{name}"] for name in ("data", "audio-root", "columns")))

    monkeypatch.setattr(gpus, "run_on_gpus", each)
    origin = {"source": "owner/name", "revision": "0a1b"}
    monkeypatch.setattr("audiomos_cache.extraction.extract.fetch_dataset", lambda _data: (tmp_path / "m.csv", origin))
    (tmp_path / "m.csv").write_text('wav,"words, and=more"\nwav/a.wav,x\n')
    with pytest.raises(AudiomosError) as caught:
        extract(
            "owner/name@v1", tmp_path / "cache", audio_encoder="muq-tiny", text_encoder="roberta-tiny", pad_to=1,
            audio_root=data, columns={"path": "wav", "prompt": "words, and=more"},
        )  # fmt: skip
    assert str(caught.value) == f'owner/name@0a1b {data} {{"path": "wav", "prompt": "words, and=more"}}'


@pytest.mark.usefixtures("two_gpus", "fresh_registry")
@pytest.mark.parametrize("text_encoder", ["roberta-tiny", "mine", "mine@main", "mine:folder/model"])
@pytest.mark.parametrize("passed_on", [True, False])
def test_encoders_that_only_this_process_knows_take_one_gpu(
    data, tmp_path, monkeypatch, caplog, text_encoder, passed_on
):
    """Python imported them, so that `--import` gives them to no other process."""

    def load(*_arguments, **_others):
        raise AudiomosError("one process")

    def each(*_arguments):
        raise AudiomosError("several processes")

    load.__module__ = "my_encoders"
    register("text_encoder", "mine")(load)
    if passed_on:
        registry._imported["my_encoders.py"] = {"my_encoders"}
    monkeypatch.setattr(gpus, "run_on_gpus", each)
    monkeypatch.setattr("audiomos_cache.encoders.lookup.load_audio_encoder", load)
    several = passed_on or text_encoder == "roberta-tiny"
    with pytest.raises(AudiomosError, match="^several processes$" if several else "^one process$"):
        extract(data, tmp_path, audio_encoder="muq-tiny", text_encoder=text_encoder, pad_to=1)
    warned = [message for message in caplog.messages if message.startswith("extracts on one GPU: text_encoder mine ")]
    assert len(warned) == (not several)


def test_which_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert gpus.visible_gpus() == ["3", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert gpus.visible_gpus() == ["0", "1"]


PROCESS = """
import signal, sys, time, os, pathlib
folder = pathlib.Path(sys.argv[1])
gpu = os.environ["CUDA_VISIBLE_DEVICES"]
signal.signal(signal.SIGTERM, lambda *_: ((folder / f"interrupted-{gpu}").touch(), sys.exit(143)))
(folder / f"started-{gpu}").touch()
print("at work on", sys.argv[2:], flush=True)
if gpu == sys.argv[2]:
    while len(list(folder.glob("started-*"))) < int(sys.argv[-1][-1]): time.sleep(0.01)
    sys.exit(7)
time.sleep(60)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Processes that work until they are interrupted; the GPU that is named first among the arguments fails."""
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    original = subprocess.Popen

    def start(command, **others):
        return original([sys.executable, str(script), str(tmp_path), *command[3:]], **others)

    monkeypatch.setattr(subprocess, "Popen", start)
    return tmp_path


@pytest.mark.process
def test_one_that_fails_has_the_others_interrupted(stand_in):
    lines = []
    with pytest.raises(AudiomosError, match="failed on GPU 1, see above"):
        gpus.run_on_gpus(["1"], ["0", "1"], lines.append)
    assert (stand_in / "interrupted-0").exists()
    assert "GPU 1: at work on ['1', '--shard', '2/2']" in lines


@pytest.mark.process
def test_an_interrupt_reaches_all(stand_in):
    def interrupt():
        while len(list(stand_in.glob("started-*"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it runs behind ignore it
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            gpus.run_on_gpus(["none"], ["0", "1"], print)
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert sorted(path.name for path in stand_in.glob("interrupted-*")) == ["interrupted-0", "interrupted-1"]


@pytest.mark.process
@pytest.mark.usefixtures("stand_in")
def test_a_failure_alone_is_said():
    with pytest.raises(AudiomosError, match="failed on GPU 0, see above; run it again to continue"):
        gpus.run_on_gpus(["0"], ["0"], print)
