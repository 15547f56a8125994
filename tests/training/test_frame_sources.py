"""Where frames come from decides nothing but the time it takes."""

import json
import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audiomos_cache import train_head
from audiomos_cache.cache.reader import CacheReader, open_cache
from audiomos_cache.errors import CacheError, ConfigError
from audiomos_cache.runs import BESTS
from audiomos_cache.training import preload as preload_module
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet, Lists
from audiomos_cache.training.frame_sources import FramesInMemory, FramesOnDisk, FrameSource
from audiomos_cache.training.preload import open_frames
from audiomos_cache.training.train_heads import train_heads
from tests.support.training import (
    LAYER_FACTORS,
    PretendLayers,
    extract,
    job,
    make_clips,
    results_of,
    write_over_the_frames_of,
)

CPU = torch.device("cpu")
SOURCES = {
    "none": lambda _readers, _layers: FramesOnDisk(CPU),
    # What is held on a GPU is held by the same class.
    "ram": lambda readers, layers: FramesInMemory(readers, layers, held_on=CPU, device=CPU),
}


@pytest.fixture(params=SOURCES)
def make_source(request: pytest.FixtureRequest) -> Callable[..., FrameSource]:
    return SOURCES[request.param]


@pytest.mark.parametrize("layers", [(9,), (12, 6), (6, 9, 12)])
def test_batches_hold_the_frames_that_were_asked_for_and_zeros(
    cache: Path, pretend_layers: PretendLayers, make_source: Callable[..., FrameSource], layers: tuple[int, ...]
) -> None:
    stored = {name: [reader.read_frames(i) for i in range(len(reader))] for name, reader in open_cache(cache).items()}
    pretend_layers(6, 9, 12)
    readers = open_cache(cache)
    source = make_source(list(readers.values()), layers)
    rng = np.random.default_rng(0)
    for clips in (8, 1, 3, 20):  # a smaller batch after a larger one finds the larger one's frames in the buffer
        names = rng.choice(list(readers), clips)
        entries = [(readers[name], int(rng.integers(len(readers[name])))) for name in names]
        batch = source.gather(entries, layers)
        assert batch.dtype == torch.float32
        assert batch.shape == (clips, len(layers), max(int(r.valid_frames[i]) for r, i in entries), 64)
        for rows, (reader, index) in zip(batch.numpy(), entries, strict=True):
            frames = stored[reader.split][index]
            for row, layer in zip(rows, layers, strict=True):
                np.testing.assert_array_equal(row[: len(frames)], frames.astype(np.float32) * LAYER_FACTORS[layer])
                assert not row[len(frames) :].any()


def test_frames_in_ram_are_put_together_alike_for_a_gpu(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the point where they would cross to it."""
    reader = CacheReader(cache, "train")
    source = FramesInMemory([reader], reader.layers, held_on=CPU, device=CPU)
    entries = [(reader, index) for index in (5, 0, 41)]
    wanted = source.gather(entries, reader.layers)
    monkeypatch.setattr(source, "device", torch.device("cuda"))
    found = torch.full(wanted.shape, 7.0, dtype=torch.float16)
    source._fill(found, entries, reader.layers, [int(reader.valid_frames[index]) for _, index in entries])
    assert torch.equal(found.float(), wanted)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_later_batch_does_not_write_into_an_earlier_one(
    tmp_path: Path, make_source: Callable[..., FrameSource], dtype: str
) -> None:
    extract(make_clips(tmp_path, "train", 4, 0), tmp_path / "cache", dtype=dtype)
    reader = CacheReader(tmp_path / "cache", "train")
    source = make_source([reader], reader.layers)
    first = source.gather([(reader, 0), (reader, 1)], reader.layers)
    kept = first.clone()
    assert not torch.equal(source.gather([(reader, 1), (reader, 0)], reader.layers), kept)
    assert torch.equal(first, kept)


def test_what_may_be_reused_is(cache: Path, make_source: Callable[..., FrameSource]) -> None:
    reader = CacheReader(cache, "train")
    source = make_source([reader], reader.layers)
    entries = [[(reader, i) for i in chosen] for chosen in ((0, 1, 2), (3, 4), (5, 6, 7, 8), (9,))]
    kept = source.gather(entries[1], reader.layers)
    expected = kept.clone()
    batches = [source.gather(each, reader.layers, reuse=True) for each in entries]
    for each in entries:
        assert torch.equal(source.gather(each, reader.layers, reuse=True), source.gather(each, reader.layers))
    assert batches[2].data_ptr() == batches[3].data_ptr(), "the largest makes room for all that follow"
    assert torch.equal(kept, expected), "nobody said that of this one"


@pytest.mark.parametrize("reuse", [False, True])
def test_batches_made_in_inference_mode_do_not_hinder_training(
    cache: Path, make_source: Callable[..., FrameSource], reuse: bool
) -> None:
    """As when the longest clip is one of the dev split."""
    reader = CacheReader(cache, "train")
    source = make_source([reader], reader.layers)
    with torch.inference_mode():
        source.gather([(reader, 0), (reader, 1), (reader, 2)], reader.layers, reuse=reuse)
    weight = torch.ones(64, requires_grad=True)
    (source.gather([(reader, 3), (reader, 4)], reader.layers, reuse=reuse) @ weight).sum().backward()
    assert weight.grad is not None and weight.grad.isfinite().all()


@pytest.mark.parametrize("layers", ["9", "weighted"])
def test_a_run_is_the_same_wherever_its_frames_come_from(
    cache: Path, tmp_path: Path, pretend_layers: PretendLayers, layers: str
) -> None:
    pretend_layers(6, 9, 12)
    runs = [
        train_heads([job("transformer-dist", 1, f"layers={layers}")], cache, tmp_path / preload, preload=preload)[0]
        for preload in ("none", "ram", "auto")
    ]
    assert results_of(runs[0].folder) == results_of(runs[1].folder) == results_of(runs[2].folder)


@pytest.mark.parametrize("preload", ["ram", "none"])
def test_all_heads_of_a_command_share_one_copy_of_the_layers_they_read(
    cache: Path,
    tmp_path: Path,
    pretend_layers: PretendLayers,
    monkeypatch: pytest.MonkeyPatch,
    preload: Any,
) -> None:
    """From disk, each of three epochs reads train and dev once, and each that is a best one all splits once more."""
    pretend_layers(6, 9, 12)
    read_layer, reads = CacheReader.read_frames, []

    def count(self: CacheReader, index: int, out: Any = None, *, layer: int, padding: bool) -> NDArray[Any]:
        assert not padding
        reads.append((self.split, index, layer))
        return read_layer(self, index, out, layer=layer)

    monkeypatch.setattr(CacheReader, "read_frames", count)
    (tmp_path / "dev.txt").write_text("".join(f"{i}.wav,2,3\n" for i in CacheReader(cache, "dev").ids))
    jobs = [job("pooling-dist", 1, "layers=12"), job("cross-attention-dist", 1, "layers=6")]
    train_heads(jobs, cache, tmp_path / "runs", lists=Lists(dev=tmp_path / "dev.txt"), preload=preload)
    clips = {(split, i, layer) for split, n in (("train", 48), ("dev", 16), ("eval", 8)) for i in range(n)
             for layer in (6, 12)}  # fmt: skip
    assert set(reads) == clips
    if preload == "ram":
        assert {reads.count(clip) for clip in clips} == {1}
        return
    for which, layer in zip(jobs, (12, 6), strict=True):
        metrics = json.loads((tmp_path / "runs" / which.name / "metrics.json").read_text())
        bests = len({metrics[best]["epoch"] for best in BESTS})
        for split, times in (("train", 3 + bests), ("dev", 3 + bests), ("eval", bests)):
            assert {reads.count(clip) for clip in clips if clip[::2] == (split, layer)} == {times}


def test_a_damaged_clip_is_named_and_hinders_no_other(
    cache: Path, tmp_path: Path, make_source: Callable[..., FrameSource]
) -> None:
    shutil.copytree(cache, tmp_path / "cache")
    reader = CacheReader(tmp_path / "cache", "dev")
    expected = FramesOnDisk(CPU).gather([(reader, 0), (reader, 1)], reader.layers)
    write_over_the_frames_of(reader, 2)
    message = rf"dev\.h5, clip {reader.ids[2]}: the stored frames do not match their hash"
    with pytest.raises(CacheError, match=message):
        source = make_source([reader], reader.layers)
        source.gather([(reader, i) for i in range(16)], reader.layers)
    on_disk = FramesOnDisk(CPU)
    with pytest.raises(CacheError, match=message):
        on_disk.gather([(reader, i) for i in range(16)], reader.layers)
    assert torch.equal(on_disk.gather([(reader, 0), (reader, 1)], reader.layers), expected)


def test_an_interrupt_ends_the_reading_at_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch, make_source: Callable[..., FrameSource]
) -> None:
    reader = CacheReader(cache, "train")
    read_frames, started, ended = CacheReader.read_frames, [], []

    def slow(self: CacheReader, index: int, out: Any = None, *, layer: int, padding: bool) -> NDArray[Any]:
        started.append(index)
        if index == 5:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.1)
        ended.append(index)
        return read_frames(self, index, out, layer=layer, padding=padding)

    monkeypatch.setattr(CacheReader, "read_frames", slow)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background ignores
    try:
        with pytest.raises(KeyboardInterrupt):
            source = make_source([reader], reader.layers)
            source.gather([(reader, i) for i in range(48)], reader.layers)
    finally:
        signal.signal(signal.SIGINT, before)
    assert 5 < len(started) < 20, "what had not begun is left"
    assert sorted(ended) == sorted(started), "nothing writes into the next batch"


@pytest.mark.parametrize(
    ("device", "free_ram", "free_gpu", "held_on", "message"),
    [
        ("cpu", 1000, 0, "cpu", "in RAM"),
        ("cpu", 2, 0, None, ", read from disk for each batch"),
        ("cpu", 0, 0, None, ", read from disk for each batch"),
        ("cuda", 1000, 1000, "cuda", "on the GPU"),
        ("cuda", 1000, 2, "cpu", "in RAM"),
        ("cuda", 2, 2, None, ", read from disk for each batch"),
    ],
)
def test_auto_takes_what_needs_less_than_half_of_what_is_free(
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    device: str,
    free_ram: int,
    free_gpu: int,
    held_on: str | None,
    message: str,
) -> None:
    """The amounts that are free are given in multiples of what the features need, of which 2 is not enough."""
    readers = list(open_cache(cache).values())
    size = sum(int(reader.valid_frames.sum()) for reader in readers) * 64 * 2 * 3
    held: list[str] = []
    monkeypatch.setattr(
        preload_module,
        "FramesInMemory",
        lambda *arguments, padding: held.append(arguments[2].type) or padding,
    )
    monkeypatch.setattr(preload_module, "available_ram", lambda: free_ram * size)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free_gpu * size, 0))
    with caplog.at_level(logging.INFO):
        source = open_frames(readers, (6, 9, 12), torch.device(device), "auto")
    assert held == ([held_on] if held_on else [])
    assert held_on or isinstance(source, FramesOnDisk)
    assert [record.getMessage() for record in caplog.records] == [
        f"features: {size / 1e3:.0f} kB{'' if message.startswith(',') else ' '}{message}"
    ]


@pytest.mark.parametrize(("preload", "expected"), [("ram", FramesInMemory), ("none", FramesOnDisk)])
def test_what_is_asked_for_is_done_however_much_is_free(
    cache: Path, monkeypatch: pytest.MonkeyPatch, preload: Any, expected: type[FrameSource]
) -> None:
    monkeypatch.setattr(preload_module, "available_ram", lambda: 0 if preload == "ram" else 1 << 40)
    reader = CacheReader(cache, "dev")
    assert type(open_frames([reader], reader.layers, CPU, preload)) is expected


def test_large_features_are_told_in_gigabytes(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reader = CacheReader(cache, "dev")
    monkeypatch.setattr(reader, "valid_frames", np.array([22_656_250]))  # times 64 columns of 2 bytes
    with caplog.at_level(logging.INFO):
        open_frames([reader], (12,), CPU, "none")
    assert caplog.messages == ["features: 2.9 GB, read from disk for each batch"]


def test_a_gpu_holds_nothing_for_heads_on_the_cpu(cache: Path, tmp_path: Path) -> None:
    message = "--preload cuda: heads are computed on cpu here; use ram, none or auto"
    with pytest.raises(ConfigError) as caught:
        train_heads([job()], cache, tmp_path, preload="cuda")
    assert str(caught.value) == message
    with pytest.raises(ConfigError, match=f"^{message}$"):
        train_head(cache, "pooling-dist", out=tmp_path, device="cpu", preload="cuda")
    assert list(tmp_path.iterdir()) == []


def test_batches_of_one_layer_have_no_axis_for_it(cache: Path, pretend_layers: PretendLayers) -> None:
    pretend_layers(6, 9)
    clips, source = ClipSet.of_split(cache, "dev"), FramesOnDisk(CPU)
    one, two = (FeatureBatches(clips, layers, source).gather([0, 1]) for layers in ((9,), (6, 9)))
    assert one.frames.shape == (2, one.frame_mask.shape[1], 64)
    assert two.frames.shape == (2, 2, one.frame_mask.shape[1], 64)
    assert torch.equal(two.frames[:, 1], one.frames) and torch.equal(two.frame_mask, one.frame_mask)
