import json
import os
import random
import re
import signal
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

from audiomos_cache import extract
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cli import main
from audiomos_cache.encoders import lookup
from audiomos_cache.errors import ArgumentError, CacheError
from audiomos_cache.extraction import extract_split as split
from audiomos_cache.extraction import plan
from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder
from audiomos_cache.testing.music import make_dataset
from tests.support import launchers
from tests.support.audio import MISSING

TINY = ("--audio-encoder", "muq-tiny", "--text-encoder", "roberta-tiny")
PLAN = "{}: 8 of 8 clips to encode, 0.0 MB when finished; up to 0.0 MB more on the disk until then, 5.0 GB free"

# Imports once, then runs our command line in a new process for each line of arguments that it reads. Encoding is
# slow, and every clip a part, so that a signal finds the extraction at work. Nothing may be computed before the
# fork: torch's threads do not survive it.
LAUNCHER = """
import json, os, signal, sys, time
from functools import partial
from torchaudio.transforms import Resample
from transformers import PreTrainedTokenizerFast, RobertaModel
from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import Wav2Vec2ConformerEncoder
from muq.muq.muq import MuQ
from audiomos_cache.extraction import extract_split
from audiomos_cache.__main__ import main
from audiomos_cache.encoders.muq import MuQEncoder

def slow(self, waveforms, encode=MuQEncoder.encode):
    time.sleep(seconds)
    return encode(self, waveforms)

MuQEncoder.encode = slow
extract_split.PartWriter = partial(extract_split.PartWriter, clips_per_part=1)
"""


def run(*arguments):
    """Run a command that must succeed."""
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def fail(*arguments):
    """Run a command that must end with our error, and give its one line."""
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    (line,) = result.stderr.splitlines()
    return line


def fail_after_notices(*arguments):
    """As `fail`, where the encoders have said that they are untrained."""
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    first, second, line = result.stderr.splitlines()
    assert all("is untrained" in notice for notice in (first, second))
    return line


def fail_with_lines(*arguments):
    """Run a command that must end with our error, and give all lines of it and before it."""
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    return result.stderr.splitlines()


def misuse(*arguments):
    """Run a command that is not used as it should be, and give the last line."""
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    return result.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("music") / "data", prompts=3, seconds=(0.5, 1.0))


@pytest.fixture
def disk(monkeypatch):
    """A disk of 5 GB."""
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _path: SimpleNamespace(free=5 * 10**9))


@pytest.fixture
def fakes(monkeypatch):
    audio, text = FakeAudioEncoder(), FakeTextEncoder()
    monkeypatch.setattr(lookup, "load_audio_encoder", lambda *_, **__: audio)
    monkeypatch.setattr(lookup, "load_text_encoder", lambda *_, **__: text)
    return audio, text


class Launcher:
    def __init__(self, process, folder):
        self.process, self.folder = process, folder

    def start(self, log, *arguments, seconds=0.15):
        """Start a process that takes so many seconds for a clip."""
        self.process.stdin.write(json.dumps([str(self.folder / log), seconds, list(map(str, arguments))]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self, log):
        """Exit code and output."""
        return int(self.process.stdout.readline()), (self.folder / log).read_text().splitlines()


@contextmanager
def launcher(folder):
    with launchers.launched(LAUNCHER + launchers.RUN_EACH_LINE) as process:
        yield Launcher(process, folder)


def wait_for_parts(cache, count):
    end = time.monotonic() + 30
    while len(list(cache.glob("train.parts/*.h5"))) < count:
        assert time.monotonic() < end, "no part in 30 s"
        time.sleep(0.002)


@pytest.mark.process
@pytest.mark.xdist_group("kills")
def test_interrupted_then_killed_three_times_it_ends_with_the_same_bytes(data, tmp_path):
    moments = random.Random(7)
    cache = tmp_path / "cache"
    options = ("--data", data, "--split", "train", "--audio-encoder", "muq-tiny", "--text-encoder", "roberta-tiny",
               "--pad-to", "2", "--device", "cpu", "--batch-size", "1", "--cache")  # fmt: skip
    with launcher(tmp_path) as processes:
        processes.start("whole.log", "extract", *options, tmp_path / "whole", seconds=0)
        code, lines = processes.end("whole.log")
        assert code == 0
        assert lines[-1] == f"train: 8 clips (8 encoded) in {tmp_path}/whole/train.h5"

        pid = processes.start("interrupted.log", "extract", *options, cache)
        wait_for_parts(cache, 1)
        os.kill(pid, signal.SIGINT)
        code, lines = processes.end("interrupted.log")
        assert code == 130
        notices, (planned, last) = lines[3:5], lines[5:]
        assert [line.partition(":")[0] for line in notices] == ["muq-tiny is untrained", "roberta-tiny is untrained"]
        megabytes = 8 * 50 * 128 * 2 / 1e6  # clips, frames, width, bytes
        assert planned.startswith(f"train: 8 of 8 clips to encode, {megabytes:.1f} MB when finished; up to ")
        assert last.startswith("Interrupted. What was finished is kept")

        for _ in range(3):
            done = len(list(cache.glob("train.parts/*.h5")))
            pid = processes.start("killed.log", "extract", *options, cache)
            wait_for_parts(cache, done + 1)
            time.sleep(moments.uniform(0, 0.14))
            os.kill(pid, signal.SIGKILL)
            assert processes.end("killed.log")[0] == -signal.SIGKILL
            assert not (cache / "train.h5").exists()

        done = len(list(cache.glob("train.parts/*.h5")))
        assert 4 <= done < 8
        processes.start("rest.log", "extract", *options, cache, seconds=0)
        code, lines = processes.end("rest.log")
    assert code == 0
    assert lines[-1] == f"train: 8 clips ({8 - done} encoded) in {cache}/train.h5"
    assert (cache / "train.h5").read_bytes() == (tmp_path / "whole" / "train.h5").read_bytes()
    assert sorted(path.name for path in cache.iterdir()) == ["train.h5", "train.lock"]
    reader = CacheReader(cache, "train")
    assert (reader.audio_dim, reader.text_dim, len(reader)) == (128, 64, 8)
    assert set(reader.frames) == {50}  # 2 s at 25 Hz
    frames = [reader.read_frames(i) for i in range(8)]
    assert all(12 <= len(rows) <= 26 and np.isfinite(rows).all() and rows.std() > 0.1 for rows in frames)


@pytest.mark.usefixtures("disk")
def test_all_splits_with_a_line_each_on_stdout(data, tmp_path, fakes):
    cache = tmp_path / "cache"
    result = run("extract", "--data", data, "--cache", cache, "--pad-to", "none")
    splits = ("train", "dev", "test", "eval")
    assert result.stdout.splitlines() == [f"{split}: 8 clips (8 encoded) in {cache}/{split}.h5" for split in splits]
    assert result.stderr.splitlines() == [
        "fake-audio is untrained: shows that the pipeline works, nothing more",
        "fake-text is untrained: shows that the pipeline works, nothing more",
        *(line for split in splits for line in (PLAN.format(split), f"extract {split}: 8 of 8 clips, 0 s")),
    ]
    rows = [line.split(",") for line in (data / "sets" / "dev_mos_list.txt").read_text().splitlines()]
    reader = CacheReader(cache, "dev")
    assert reader.ids == [name.removesuffix(".wav") for name, _, _ in rows]
    np.testing.assert_array_equal(reader.mi, [float(mi) for _, mi, _ in rows])
    np.testing.assert_array_equal(reader.ta, [float(ta) for _, _, ta in rows])
    assert np.isnan(CacheReader(cache, "eval").mi).all()
    seconds = [soundfile.info(data / "wav" / name).duration for name, _, _ in rows]
    np.testing.assert_allclose(reader.valid_frames, [np.floor(10 * s + 1e-2) for s in seconds], atol=1)

    result = run("extract", "--data", data, "--cache", cache, "--pad-to", "none", "--split", "dev", "--split", "train")
    assert result.stdout.splitlines() == [
        f"{split}: 8 clips (nothing left to do) in {cache}/{split}.h5" for split in ("train", "dev")
    ]
    assert fakes[0].encoded == 32


def manifest(folder, rows):
    folder.mkdir()
    for name, seconds in (("a", 1.0), ("b", 0.05), ("c", 2.0)):
        soundfile.write(folder / f"{name}.wav", np.resize([0.5, -0.5], round(1000 * seconds)), 1000)
    (folder / "clips.csv").write_text("path,prompt,mi,ta\n" + rows)
    return folder / "clips.csv"


@pytest.mark.usefixtures("fakes")
def test_skipped_clips_and_warnings(tmp_path):
    path = manifest(tmp_path / "data", "a.wav,slow,3,4\nb.wav,fast,,\nc.wav,sad,1,1\nd.wav,happy,5,5\n")
    options = ("--data", path, "--cache", tmp_path / "cache", "--pad-to", "1.5")
    line = fail_after_notices("extract", *options)
    assert line.startswith(
        f"Error: split 'all': audio files that the list names are missing: {tmp_path}/data/d.wav; add"
    )
    result = run("extract", *options, "--on-error", "skip")
    assert result.stdout == f"all: 3 clips (3 encoded, 1 skipped) in {tmp_path}/cache/all.h5\n"
    reason = f"{tmp_path}/data/d.wav: {MISSING}"
    assert result.stderr.splitlines()[-2:] == [
        f"Warnings: {tmp_path}/data/b.wav: 0.050 s long, expected 0.1 s or more; check the file, "
        f"{tmp_path}/data/c.wav: 2.00 s long, expected 1.5 s or less; the rest is cut",
        f"Skipped d: {reason}",
    ]
    result = run("info", tmp_path / "cache")
    assert result.stdout.splitlines()[-1] == f"  skipped in all: d: {reason}"


def test_precision_and_profile(tmp_path):
    """fp16 goes on where fp32 stopped and is noted; bf16 makes features of its own. The table names each stage once."""
    data = make_dataset(tmp_path / "data", prompts=3, seconds=(0.3, 0.4))
    tiny = ("--data", data, "--cache", tmp_path / "cache", "--audio-encoder", "muq-tiny", "--pad-to", "0.5",
            "--text-encoder", "roberta-tiny")  # fmt: skip
    run("extract", *tiny, "--split", "dev")
    result = run("--profile", "extract", *tiny, "--split", "train", "--precision", "fp16")
    caches = [CacheReader(tmp_path / "cache", split) for split in ("dev", "train")]
    assert caches[0].fingerprint == caches[1].fingerprint
    assert [cache.provenance["audio_encoder"].get("precision") for cache in caches] == [None, "fp16"]
    table = result.stderr[result.stderr.index("stage ") :].splitlines()
    stages = "load", "compile", "prompts", "decode", "resample", "encode", "hash", "write", "publish", "wall"
    assert sorted(line.split()[0] for line in table[1:]) == sorted(stages)
    encode = next(line.split() for line in table if line.startswith("encode"))
    assert len(encode) == 3 and 0 < float(encode[1]) < 60  # seconds
    refused = CliRunner().invoke(main, ["extract", *map(str, tiny), "--split", "test", "--precision", "bf16"])
    assert refused.exit_code == 1
    assert "first difference: audio_encoder.precision is '(absent)', expected 'bf16'" in refused.stderr


@pytest.mark.usefixtures("fakes", "disk")
def test_info(data, tmp_path):
    cache = tmp_path / "cache"
    run("extract", "--data", data, "--cache", cache, "--split", "dev", "--split", "eval")
    described = json.loads(run("info", cache, "--json").stdout)
    reader = CacheReader(cache, "dev")
    names = [line.split(",")[0] for line in (data / "sets" / "dev_mos_list.txt").read_text().splitlines()]
    seconds = sum(soundfile.info(data / "wav" / name).duration for name in names)
    assert described["cache"] == str(cache)
    assert described["fingerprint"] == reader.fingerprint.digest
    assert described["fingerprint_fields"]["audio_encoder"]["class"] == "FakeAudioEncoder"
    assert described["encoders"]["text_encoder"]["name"] == "fake-text"
    assert described["layers"] == [0]
    assert list(described["splits"]) == ["dev", "eval"]
    dev = described["splits"]["dev"]
    assert dev.pop("hours") == pytest.approx(seconds / 3600)
    assert dev == {
        "complete": True,
        "clips": 8,
        "of": 8,
        "systems": 8,
        "prompts": len({reader.prompt(i) for i in range(8)}),
        "labelled": 8,
        "skipped": [],
        "files": [f"{cache}/dev.h5"],
        "bytes": (cache / "dev.h5").stat().st_size,
    }
    assert described["splits"]["eval"]["labelled"] == 0

    lines = run("info", cache).stdout.splitlines()
    assert lines[0] == f"{cache}: a cache, fingerprint {reader.fingerprint.digest}"
    megabytes = f"{(cache / 'dev.h5').stat().st_size / 1e6:.1f}"
    assert lines[1] == (
        f"  dev: 8 clips of 8 systems and {dev['prompts']} prompts, {seconds / 3600:.2f} h, 8 labelled, 0 skipped, "
        f"{megabytes} MB in 1 file"
    )
    assert [line.split(":")[0] for line in lines[-2:]] == ["  audio_encoder (layers 0)", "  text_encoder"]
    assert "untrained" in lines[-2]


@pytest.mark.usefixtures("fakes")
def test_info_of_an_unfinished_split(tmp_path, monkeypatch):
    path = manifest(tmp_path / "data", "a.wav,slow,3,4\nb.wav,fast,,\nc.wav,sad,1,1\nd.wav,happy,5,5\n")
    options = ("--data", path, "--cache", tmp_path / "cache", "--pad-to", "1", "--on-error", "skip", "--batch-size", 2)
    monkeypatch.setattr(split, "publish_split", lambda *_: (_ for _ in ()).throw(CacheError("killed")))
    assert fail_with_lines("extract", *options)[-1] == "Error: killed"
    reason = f"{tmp_path}/data/d.wav: {MISSING}"
    described = json.loads(run("info", tmp_path / "cache", "--json").stdout)["splits"]["all"]
    (part,) = (tmp_path / "cache" / "all.parts").iterdir()
    assert {key: described[key] for key in ("complete", "clips", "of", "labelled", "skipped", "files")} == {
        "complete": False,
        "clips": 3,
        "of": 4,
        "labelled": 2,
        "skipped": [["d", reason]],
        "files": [str(part)],
    }
    lines = run("info", tmp_path / "cache").stdout.splitlines()
    assert lines[-4] == "  all: not finished, 3 of 4 clips are done"
    assert lines[-1] == f"  skipped in all: d: {reason}"


@pytest.mark.usefixtures("fakes", "disk")
def test_a_dry_run_writes_nothing(data, tmp_path, fakes):
    cache = tmp_path / "cache"
    options = ("--data", data, "--cache", cache, "--split", "dev", "--split", "train")
    result = run("extract", *options, "--dry-run")
    lines = result.stdout.splitlines()
    assert lines[:2] == [PLAN.format("train"), PLAN.format("dev")]
    assert lines[2:] == ["about 0 s in all, estimated from one batch of 4 clips"]
    assert not cache.exists()
    assert fakes[0].encoded == 4
    run("extract", *options)
    lines = run("extract", *options, "--dry-run").stdout.splitlines()
    nothing = "0 of 8 clips to encode, 0.0 MB when finished; up to 0.0 MB more on the disk until then, 5.0 GB free"
    assert lines == [f"train: {nothing}", f"dev: {nothing}"]


@pytest.mark.usefixtures("disk")
def test_several_layers(data, tmp_path, monkeypatch):
    asked = []

    def load(*_names, layers, **_options):
        asked.append(layers)
        return FakeAudioEncoder(layers=(0, 2))

    monkeypatch.setattr(lookup, "load_audio_encoder", load)
    monkeypatch.setattr(lookup, "load_text_encoder", lambda *_, **__: FakeTextEncoder())
    cache = tmp_path / "cache"
    run("extract", "--data", data, "--cache", cache, "--split", "dev", "--layers", "0,-1")
    assert asked == [[0, -1]]
    assert CacheReader(cache, "dev").layers == (0, 2)
    assert json.loads(run("info", cache, "--json").stdout)["layers"] == [0, 2]
    assert any(line.startswith("  audio_encoder (layers 0, 2): ") for line in run("info", cache).stdout.splitlines())


def test_info_without_a_cache(tmp_path):
    assert fail("info", tmp_path) == (
        f"Error: {tmp_path}: contains no cache, run, fusion or bundle; expected a folder that extract, train-head, "
        "fuse or bundle wrote"
    )
    assert fail("info", tmp_path / "none", "--json").endswith(
        "/none: folder not found, expected a folder that extract, train-head, fuse or bundle wrote, or one of bundles, "
        "encoders, heads"
    )
    (tmp_path / "train.h5").write_text("not a cache")
    assert fail("info", tmp_path).startswith(f"Error: {tmp_path}/train.h5: cannot be read as a cache file (")


@pytest.mark.usefixtures("fakes")
def test_info_of_two_caches_in_one_folder(data, tmp_path):
    for name, options in (("dev", ()), ("test", ("--dtype", "float32"))):
        run("extract", "--data", data, "--cache", tmp_path / name, "--split", name, *options)
    (tmp_path / "test" / "test.h5").rename(tmp_path / "dev" / "test.h5")
    line, *forms = fail_with_lines("info", tmp_path / "dev")
    message = r"Error: .*/dev, split test: fingerprint .*: dtype is 'float32', expected 'float16'; extract both again"
    assert re.fullmatch(message, line)
    found, expected = (json.loads(form.partition(": ")[2]) for form in forms)
    assert (found["dtype"], expected["dtype"]) == ("float32", "float16")
    assert {**found, "dtype": "float16"} == expected


@pytest.mark.parametrize("command", ["extract", "info"])
def test_help_has_an_example(command):
    text = run(command, "--help").stdout
    assert f"Usage: main {command} [OPTIONS]" in text
    assert re.search(rf"Examples?:\n +audiomos-cache {command} ", text)
    if command == "extract":
        assert "none keeps its own length. [default: 30]" in " ".join(text.split())
        assert "[default: muq]" in text


@pytest.mark.parametrize("value", ["mi", "mi=", "=q", "mi=q,", "mi=q,ta"])
def test_columns_that_are_none(data, tmp_path, value):
    line = misuse("extract", "--data", data, "--columns", value, "--cache", tmp_path / "cache")
    assert "is not a column as mi=quality; expected several as mi=quality,ta=fit" in line


def test_a_column_twice(data, tmp_path):
    line = misuse("extract", "--data", data, "--columns", "mi=a,mi=b", "--cache", tmp_path / "cache")
    assert "'mi=a,mi=b' names one of our columns twice; expected each once" in line


def test_columns_whose_names_have_commas_are_given_as_json(data, tmp_path):
    (tmp_path / "m.csv").write_text(f'path,"words, and=more"\n{next((data / "wav").iterdir())},x\n')
    arguments = (
        "--data",
        tmp_path / "m.csv",
        "--audio-root",
        data,
        "--cache",
        tmp_path / "cache",
        "--pad-to",
        "1",
        *TINY,
    )
    run("extract", *arguments, "--columns", json.dumps({"prompt": "words, and=more"}))
    assert CacheReader(tmp_path / "cache", "all").clip(0).prompt == "x"
    for value, message in (
        ('{"prompt": "a", "prompt": "b"}', "the key 'prompt' is there twice; expected JSON as"),
        ("{prompt}", "Expecting property name enclosed in double quotes"),
        ('{"prompt": 3}', "columns has 3 for prompt, expected the name of a column"),
        ('{"words": "prompt"}', "columns is 'words', expected one of audio, path,"),
    ):
        assert message in misuse("extract", *arguments, "--columns", value)


def test_a_manifest_with_names_and_audio_of_its_own(data, tmp_path):
    rows = [f"{path};a prompt, or two;{1 + n / 10};3" for n, path in enumerate(sorted((data / "wav").iterdir())[:4])]
    (tmp_path / "m.csv").write_text("\n".join(["wav;words;quality;ta", *rows]))
    arguments = ["extract", "--data", tmp_path / "m.csv", "--cache", tmp_path / "cache", "--pad-to", "1", *TINY]
    line = fail(*arguments, "--columns", "path=wav,prompt=words,mi=quality")
    assert f"to allow it, give --audio-root '{data}/wav', or a folder above" in line
    assert fail(*arguments).endswith(
        "m.csv: found the columns ['wav', 'words', 'quality', 'ta'], expected path (or file_name) and prompt (or "
        "text, caption), and none twice; name them with --columns"
    )
    run(*arguments, "--columns", "path=wav,prompt=words,mi=quality", "--audio-root", data)
    reader = CacheReader(tmp_path / "cache", "all")
    assert [reader.clip(n).mi for n in range(4)] == [1, 1.1, 1.2, 1.3]
    assert {reader.clip(n).prompt for n in range(4)} == {"a prompt, or two"}


def test_bad_data_is_one_line(data, tmp_path):
    cache = ("--cache", tmp_path / "cache")
    missing = tmp_path / "none"
    expected = f"Error: {missing}: not found, expected a MusicEval folder, or a manifest (.csv, .tsv, .jsonl, .parquet)"
    assert fail("extract", "--data", missing, *cache) == expected
    expected = (
        f"Error: {tmp_path}: no list found, expected sets/*_mos_list.txt or sets/eval_list.txt in it, or a manifest "
        "named metadata.csv or metadata.jsonl, or Parquet files"
    )
    assert fail("extract", "--data", tmp_path, *cache) == expected
    expected = f"Error: {data}: split 'holdout' not found, expected one of train, dev, test, eval"
    assert fail("extract", "--data", data, "--split", "holdout", *cache) == expected
    line = fail("extract", "--data", f"{missing}.csv", *cache)
    assert line == f"Error: {missing}.csv: file not found, expected a list or a manifest"
    assert not (tmp_path / "cache").exists()


def test_unknown_encoder_is_one_line(data, tmp_path, monkeypatch):
    options = ("--data", data, "--split", "dev", "--cache", tmp_path / "cache")
    expected = (
        "Error: --audio-encoder wav2vec: 'wav2vec' is not one of muq, muq-tiny, nor a folder or hub id "
        "(those have a /); is an --import missing?"
    )
    assert fail("extract", *options, "--audio-encoder", "wav2vec") == expected
    expected = "Error: --audio-encoder ./none: folder not found, and not a hub id of the form owner/name"
    assert fail("extract", *options, "--audio-encoder", "./none") == expected
    monkeypatch.setattr(lookup, "load_audio_encoder", lambda *_, **__: FakeAudioEncoder())
    expected = (
        "Error: --text-encoder bert: 'bert' is not one of roberta, roberta-tiny, nor a folder or hub id "
        "(those have a /); is an --import missing?"
    )
    assert fail("extract", *options, "--text-encoder", "bert") == expected
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("fakes")
def test_a_damaged_or_foreign_cache_is_one_line(data, tmp_path):
    options = ("--data", data, "--split", "dev", "--cache", tmp_path)
    run("extract", *options)
    audio = data / "wav" / f"{CacheReader(tmp_path, 'dev').ids[0]}.wav"
    _, _, line, found, expected = fail_with_lines("extract", *options, "--dtype", "float32")
    assert '"dtype":"float16"' in found.removeprefix("  found:    ")
    assert '"dtype":"float32"' in expected.removeprefix("  expected: ")
    assert re.fullmatch(
        r"Error: .*/dev.h5: fingerprint .* dtype is 'float16', expected 'float32'; give another.*", line
    )
    (tmp_path / "dev.h5").write_bytes(audio.read_bytes())
    line = fail_after_notices("extract", *options)
    assert line.startswith(f"Error: {tmp_path}/dev.h5: cannot be read as a cache file (")
    (tmp_path / "file").write_text("")
    line = fail_after_notices("extract", *options[:-1], tmp_path / "file")
    assert line == f"Error: {tmp_path}/file: is a file, expected a folder for the cache; give another one"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing option '--data'."),
        (("--pad-to", "long"), "'long' is neither none nor a number of seconds up to 600"),
        (("--pad-to", "0"), "'0' is neither none nor a number of seconds up to 600"),
        (("--pad-to", "601"), "'601' is neither none"),
        (("--pad-to", "nan"), "'nan' is neither none"),
        (("--batch-size", "0"), "0 is not in the range 1<=x<=65536"),
        (("--dtype", "float64"), "'float64' is not one of 'float16', 'float32'"),
        (("--on-error", "ignore"), "'ignore' is not one of 'stop', 'skip'"),
        (("--device", "tpu"), "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (("--device", "cuda"), "--device cuda: PyTorch sees no CUDA device here; use --device cpu"),
        (("--batch", "3", "extra"), "No such option"),
        (("--layers", "six"), "'six' is not a layer such as -1, nor several such as 6,9,12"),
        (("--layers", "6,,9"), "'6,,9' is not a layer such as -1"),
        (("--shard", "2"), "--shard 2: expected I/N with I from 1 to N, such as 1/4"),
        (("--shard", "0/4"), "--shard 0/4: expected I/N"),
        (("--shard", "5/4"), "--shard 5/4: expected I/N"),
        (("--shard", "1/4", "--overwrite"), "--shard cannot be combined with --overwrite or --repair"),
        (("--shard", "1/4", "--repair"), "--shard cannot be combined with --overwrite or --repair"),
        (("--precision", "fp8"), "'fp8' is not one of 'fp16', 'bf16', 'fp32'"),
        (
            ("--repair", "--overwrite"),
            "--overwrite cannot be combined with --repair: it deletes what repair keeps; leave one of them out",
        ),
        (("--repair", "--dry-run"), "--dry-run cannot be combined with --repair; verify lists what is damaged"),
    ],
)
def test_wrong_usage(data, arguments, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    given = ("--data", data) if arguments else ()
    assert message in misuse("extract", *given, *arguments)


def test_wrong_arguments_of_the_call(data, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments, message in (
        ({"compile": "on"}, "compile='on' needs the precision fp16 or bf16; fp32 is the encoder as it is"),
        ({"gpus": 0}, "--gpus 0: expected 1 or more"),
        ({"batch_size": 0}, "--batch-size 0: expected 1 to 65536"),
        ({"pad_to": 601}, "--pad-to 601: expected up to 600 s"),
        ({"shard": (5, 4)}, "--shard 5/4: expected I/N with I from 1 to N, such as 1/4"),
        ({"shard": "1/4"}, "--shard needs --batch-size, the same for all shards, which divide the batches among them"),
        ({"device": "tpu"}, "device 'tpu' is not one of auto, cpu, cuda"),
    ):
        with pytest.raises(ArgumentError, match=f"^{message}$"):
            extract(data, **arguments)


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(Exception, match="contains no cache") as caught:
        CliRunner().invoke(main, ["--debug", "info", str(tmp_path)], catch_exceptions=False)
    assert type(caught.value).__name__ == "DataError"


@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_a_split_that_cannot_be_read_is_repaired_with_the_others(tmp_path, size):
    data = make_dataset(tmp_path / "data", prompts=3, seconds=(0.3, 0.4))
    options = ("--data", data, "--cache", tmp_path / "cache", "--audio-encoder", "muq-tiny", "--pad-to", "0.5",
               "--text-encoder", "roberta-tiny")  # fmt: skip
    run("extract", *options)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "cache").glob("*.h5")}
    assert len(expected) == 4
    os.truncate(tmp_path / "cache" / "dev.h5", size)
    assert "extract --repair" in fail_after_notices("extract", *options)
    run("extract", *options, "--repair")
    assert {path.name: path.read_bytes() for path in (tmp_path / "cache").glob("*.h5")} == expected
