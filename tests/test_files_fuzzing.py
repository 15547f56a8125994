"""Every reader of every file, on files that are nearly valid: an error of ours in a line, no hang, no gigabytes.

A few hundred files are drawn in each run of the tests; ten thousand with `-m fuzz`.
"""

import io
import os
import random
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

from audiomos_cache.artifacts import hash_bytes
from audiomos_cache.audio.decode import read_audio
from audiomos_cache.bundle.load import load_bundle
from audiomos_cache.bundle.make import make_bundle
from audiomos_cache.bundle.manifest import _digest
from audiomos_cache.cache.reader import open_cache
from audiomos_cache.dataset.labels import read_id_list, read_labels, read_ratings, read_system_truth
from audiomos_cache.dataset.loading import load_dataset
from audiomos_cache.describe import info
from audiomos_cache.encoders.muq_weights import read_muq_config
from audiomos_cache.errors import AudiomosError
from audiomos_cache.evaluation.predictions import read_predictions
from audiomos_cache.fusion.fuse import fuse
from audiomos_cache.fusion.leakage import run_leads
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.presets import load_head_config, presets_folder
from audiomos_cache.runs import Run, read_run_clips
from audiomos_cache.scoring.inputs import items_of_manifest
from audiomos_cache.scoring.resumable import score_file
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.jobs import load_plan
from audiomos_cache.training.train_heads import train_heads
from audiomos_cache.upstream.checkpoints import load_upstream_state, read_upstream_checkpoint, upstream_names
from tests.support.audio import encode
from tests.support.fusion import GOLDEN
from tests.support.fuzzing import (
    Mutation,
    limited,
    mutate_bytes,
    mutate_json,
    mutate_json_lines,
    mutate_lines,
    mutate_yaml,
)
from tests.support.heads import AUDIO_DIM, TEXT_DIM
from tests.support.score_lines import ITEMS, SEVERAL, entries, line, line_of_several, names
from tests.support.training import extract, job, make_clips

pytestmark = pytest.mark.slow

FEW, MANY = 8, 280  # files for each reader; of 36 readers the many are ten thousand


@dataclass(frozen=True)
class Reader:
    """What reads a file: `read` gets its path; `content` is a valid one, `mend` makes a mutation hold together."""

    name: str
    mutate: Mutation
    content: Callable[[Path], bytes]
    read: Callable[[Path], object]
    file: str
    mend: Callable[[Path, bytes], None] = lambda _path, _content: None


def _text(*lines: str) -> Callable[[Path], bytes]:
    return lambda _made: "".join(f"{each}\n" for each in lines).encode()


def _file(name: str) -> Callable[[Path], bytes]:
    return lambda made: (made / name).read_bytes()


def _audio(kind: str, subtype: str | None = None) -> Callable[[Path], bytes]:
    def write(_made: Path) -> bytes:
        stream = io.BytesIO()
        samples = np.random.default_rng(1).normal(0, 0.1, (4000, 1))
        soundfile.write(stream, samples, 16000, format=kind, subtype=subtype)
        return stream.getvalue()

    return write


def _encoded(container: str, codec: str) -> Callable[[Path], bytes]:
    samples = np.random.default_rng(1).normal(0, 0.1, (24000, 1)).astype(np.float32)
    return lambda _made: encode(samples, 48000, container, codec)


def _hear(path: Path) -> object:
    return read_audio(path, 16000, 30.0)


def _head(path: Path) -> object:
    return load_head_config(str(path))


def _run(path: Path) -> object:
    run = Run(path.parent)
    return run.to_dict(), info(run.folder), repr(run)


def _history(path: Path) -> object:
    return run_leads(path.parent, "loss")


def _checkpoint(path: Path) -> object:
    return Run(path.parent).load_head("loss")


def _fusion(path: Path) -> object:
    made = path.parents[1]
    info(path.parent)
    shutil.rmtree(made / "out", ignore_errors=True)
    make_bundle([made / "runs" / "pooling-dist-seed1"], made / "out", path.parent)
    shutil.rmtree(made / "out")
    return fuse([made / "runs" / "pooling-dist-seed1"], out=made / "out", from_fusion=path.parent)


def _bundle(path: Path) -> object:
    folder = path.parent if (path.parent / "bundle.yaml").exists() else path.parents[1]
    return load_bundle(str(folder)), info(folder)


def _with_digest(path: Path, _content: bytes) -> None:
    """Give a manifest the digest of what it says now, as somebody who forges one would."""
    with suppress(yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError):
        content = yaml.safe_load(path.read_bytes())
        if isinstance(content, dict):
            path.write_text(yaml.safe_dump(content | {"digest": _digest(content)}, sort_keys=False))


def _with_hash(key: str) -> Callable[[Path, bytes], None]:
    """Give the manifest the hash of a part as it is now."""

    def mend(path: Path, content: bytes) -> None:
        folder = path.parent if key == "fusion" else path.parents[1]
        manifest = yaml.safe_load((folder / "bundle.yaml").read_text())
        entry = manifest["fusion"] if key == "fusion" else manifest["members"][0]
        entry["xxh3_128"] = hash_bytes(content)
        (folder / "bundle.yaml").write_text(yaml.safe_dump(manifest | {"digest": _digest(manifest)}, sort_keys=False))

    return mend


def _upstream(_made: Path) -> bytes:
    torch.manual_seed(0)
    head = build_head("transformer-scalar", AUDIO_DIM, TEXT_DIM, compat="upstream")
    stream = io.BytesIO()
    torch.save({name: head.state_dict()[ours] for name, ours in upstream_names(head).items()}, stream)
    return stream.getvalue()


def _import(path: Path) -> None:
    head = build_head("transformer-scalar", AUDIO_DIM, TEXT_DIM, compat="upstream")
    load_upstream_state(head, read_upstream_checkpoint(path))


def _cache(path: Path) -> None:
    for reader in open_cache(path.parent).values():
        for index in range(len(reader)):
            reader.clip(index), reader.read_frames(index), reader.read_prompt(index)
    info(path.parent)


def _dataset(path: Path) -> object:
    folder = path.parents[1] if path.parent.name == "sets" else path.parent
    return load_dataset(folder)


def _resume(path: Path) -> object:
    made_by = SEVERAL if "several" in path.name else entries()
    with score_file(path, overwrite=False) as file:
        return file.resume(ITEMS, made_by, names(made_by), [].append) if file.holds_lines() else None


_LIST = _text(*(f"audiomos2025-track1-S{n % 3:03d}_P{n:03d}.wav,{1 + n / 4},3.5" for n in range(12)))
_CONFIG = b"""{"label_rate": 25, "hop_length": 240, "encoder_depth": 2, "w2v2_config": {"hidden_size": 8},
"stat": {"melspec_2048_mean": 6.7, "melspec_2048_std": 18.4}}"""
RUN = "runs/pooling-dist-seed1"

# A folder that lacks them may be read, and scores written where there is none.
OPTIONAL = ("metrics", "history", "clips", "prompts", "cache", "scores", "scores of several bundles")

READERS = (
    Reader("wav", mutate_bytes, _audio("WAV"), _hear, "a.wav"),
    Reader("float wav", mutate_bytes, _audio("WAV", "FLOAT"), _hear, "b.wav"),
    Reader("flac", mutate_bytes, _audio("FLAC"), _hear, "a.flac"),
    Reader("ogg", mutate_bytes, _audio("OGG"), _hear, "a.ogg"),
    Reader("mp3", mutate_bytes, _audio("MP3"), _hear, "a.mp3"),
    Reader("opus", mutate_bytes, _audio("OGG", "OPUS"), _hear, "a.opus"),
    Reader("aiff", mutate_bytes, _audio("AIFF"), _hear, "a.aiff"),
    Reader("m4a", mutate_bytes, _encoded("ipod", "aac"), _hear, "a.m4a"),
    Reader("webm", mutate_bytes, _encoded("webm", "libopus"), _hear, "a.webm"),
    Reader("mos list", mutate_lines, _LIST, read_labels, "mos.txt"),
    Reader("id list", mutate_lines, _text("a", "b.wav", "c"), read_id_list, "ids.txt"),
    Reader("ratings", mutate_lines, _text("a.wav,r1,3,4", "a.wav,r2,2,4", "b.wav,r1,5,1"), read_ratings, "raters.txt"),
    Reader("system truth", mutate_lines, _text("S001,3.5,2", "S002,1,5"), read_system_truth, "systems.csv"),
    Reader("csv manifest", mutate_lines, _text("path,prompt,mi,ta,split", 'a.wav,"x, y",3,4,dev', "b.wav,z,1,5,dev"),
           load_dataset, "manifest.csv"),
    Reader("jsonl manifest", mutate_json_lines,
           _text('{"path": "a.wav", "prompt": "x", "mi": 3, "ta": 4.5}', '{"path": "b.wav", "prompt": null}'),
           load_dataset, "manifest.jsonl"),
    Reader("manifest to score", mutate_lines, _text("path,prompt,id", "a.wav,x,1", "b.wav,,2"), items_of_manifest,
           "score.csv"),
    Reader("dataset list", mutate_lines, _LIST, _dataset, "data/sets/dev_mos_list.txt"),
    Reader("prompts", mutate_lines, _text("P001\tslow piano", "P002\tfast drums"), _dataset, "data/prompt_info.txt"),
    Reader("head", mutate_yaml, lambda _made: (presets_folder() / "transformer-dist.yaml").read_bytes(), _head,
           "h.yaml"),
    Reader("plan", mutate_yaml, lambda _made: b"runs:\n- {head: pooling-dist, seed: 1, set: [dropout=0.1]}\n",
           lambda path: load_plan(str(path)), "plan.yaml"),
    Reader("run config", mutate_yaml, _file(f"{RUN}/config.yaml"), _run, f"{RUN}/config.yaml"),
    Reader("metrics", mutate_json, _file(f"{RUN}/metrics.json"), _run, f"{RUN}/metrics.json"),
    Reader("history", mutate_json_lines, _file(f"{RUN}/history.jsonl"), _history, f"{RUN}/history.jsonl"),
    Reader("clips", mutate_json, _file(f"{RUN}/clips.json"), lambda path: read_run_clips(path.parent),
           f"{RUN}/clips.json"),
    Reader("checkpoint", mutate_bytes, _file(f"{RUN}/best-loss.safetensors"), _checkpoint,
           f"{RUN}/best-loss.safetensors"),
    Reader("predictions", mutate_json_lines, _file(f"{RUN}/predictions/dev.loss.jsonl"), read_predictions, "p.jsonl"),
    Reader("answer", mutate_lines, _text("S1_P1,3.0,2.0", "S2_P1,2.0,4.0"), read_predictions, "answer.txt"),
    Reader("original predictions", mutate_bytes, lambda _made: (GOLDEN / "dist_a_eval.pt").read_bytes(),
           read_predictions, "p.pt"),
    Reader("fusion", mutate_json, _file("fused/fusion.json"), _fusion, "fused/fusion.json"),
    Reader("bundle", mutate_yaml, _file("model/bundle.yaml"), _bundle, "model/bundle.yaml", _with_digest),
    Reader("bundled fusion", mutate_json, _file("model/fusion.json"), _bundle, "model/fusion.json",
           _with_hash("fusion")),
    Reader("bundled head", mutate_bytes, _file("model/heads/pooling-dist-seed1.safetensors"), _bundle,
           "model/heads/pooling-dist-seed1.safetensors", _with_hash("head")),
    Reader("published checkpoint", mutate_bytes, _upstream, _import, "ckpt.pth"),
    Reader("cache", mutate_bytes, _file("cache/dev.h5"), _cache, "cache/dev.h5"),
    Reader("scores", mutate_json_lines, lambda _made: b"".join(map(line, ITEMS)), _resume, "scores.jsonl"),
    Reader("scores of several bundles", mutate_json_lines, lambda _made: b"".join(map(line_of_several, ITEMS)), _resume,
           "several.jsonl"),
    Reader("encoder config", mutate_json, lambda _made: _CONFIG, read_muq_config, "config.json"),
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache, a run, a fusion and a bundle, and a dataset of one list."""
    folder = tmp_path_factory.mktemp("made")
    for seed, (split, count) in enumerate({"train": 8, "dev": 8, "eval": 4}.items()):
        extract(make_clips(folder, split, count, seed), folder / "cache", pad_to_s=1.5)
    train_heads([job("pooling-dist", 1)], folder / "cache", folder / "runs")
    dev = ClipSet.of_split(folder / "cache", "dev")
    rows = zip(dev.ids, dev.mi.tolist(), dev.ta.tolist(), strict=True)
    (folder / "labels.txt").write_text("".join(f"{clip}.wav,{mi},{ta}\n" for clip, mi, ta in rows))
    fuse(folder / RUN, out=folder / "fused", labels=folder / "labels.txt", method="ridge", folds=2, n_boot=0)
    make_bundle([folder / RUN], folder / "model", folder / "fused")
    (folder / "data" / "sets").mkdir(parents=True)
    (folder / "data" / "wav").mkdir()
    (folder / "data" / "sets" / "dev_mos_list.txt").write_bytes(_LIST(folder))
    (folder / "data" / "prompt_info.txt").write_text("P001\tslow piano\n")
    return folder


def attack(reader: Reader, made: Path, count: int) -> dict[str, int]:
    """Draw files, and count how many were refused; fail with the first that does something else."""
    content, path = reader.content(made), made / reader.file
    path.write_bytes(content)
    kept = {each: each.read_bytes() for each in (made / "model").rglob("*") if each.is_file()}
    reader.read(path)  # without limits: libraries are loaded
    found = {"read": 0, "refused": 0}
    for number in range(count):
        rng = random.Random(f"{reader.name} {number}")
        mutated = reader.mutate(content, rng)
        path.write_bytes(mutated)
        reader.mend(path, mutated)
        try:
            with limited():
                reader.read(path)
            found["read"] += 1
        except AudiomosError as error:
            message = str(error.args[0])
            assert message.isprintable() and len(message) <= 4000, f"{reader.name} {number}: {message!r}"
            assert "a" * 251 not in message, f"{reader.name} {number}: {message!r}"
            found["refused"] += 1
        except BaseException as error:
            (made.parent / "hostile").write_bytes(path.read_bytes())
            raise AssertionError(f"{reader.name} {number}: {error!r:.500}; see {made.parent / 'hostile'}") from error
        for each, before in kept.items():
            each.write_bytes(before)
    path.write_bytes(content)
    return found


@pytest.mark.parametrize("reader", READERS, ids=[each.name for each in READERS])
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.fuzz)], ids=["a few", "thousands"])
def test_a_hostile_file_is_refused_in_one_line(reader: Reader, count: int, made: Path, capsys: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = attack(reader, made, count)
    with capsys.disabled():
        if count == MANY:
            print(f"\n{reader.name}: {found}")
    assert found["refused"], "a mutation that changes nothing would pass"


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [_folder, _pipe, _device, _loop], ids=["a folder", "a pipe", "a device", "a loop"])
@pytest.mark.parametrize("reader", READERS, ids=[each.name for each in READERS])
def test_what_is_no_file_is_refused_at_once(reader: Reader, make: Callable[[Path], None], made: Path) -> None:
    path = made / reader.file
    path.write_bytes(reader.content(made))
    reader.read(path)
    kept = path.read_bytes()
    path.unlink()
    make(path)
    try:
        if reader.name in OPTIONAL and (make is not _pipe or reader.name == "prompts"):
            with limited(), suppress(AudiomosError):
                reader.read(path)
        else:
            with limited(), pytest.raises(AudiomosError) as caught:
                reader.read(path)
            assert str(caught.value).isprintable()
    finally:
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(kept)
