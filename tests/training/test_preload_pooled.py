"""Heads that learn nothing before they pool are trained on statistics that are pooled once."""

import logging
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from audiomos_cache.cache.reader import CacheReader, open_cache
from audiomos_cache.errors import CacheError, ConfigError
from audiomos_cache.evaluation.predictions import read_predictions
from audiomos_cache.heads.model import build_head
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.frame_sources import FramesOnDisk
from audiomos_cache.training.jobs import HeadJob
from audiomos_cache.training.loop import train
from audiomos_cache.training.predict import predict
from audiomos_cache.training.preload import PooledFrames, pools_first, stand_ins
from audiomos_cache.training.train_heads import train_heads
from tests.support.training import (
    LAYER_FACTORS,
    Killed,
    PretendLayers,
    extract,
    files_in,
    interrupt_after,
    job,
    make_clips,
    results_of,
    write_over_the_frames_of,
)

CPU = torch.device("cpu")
FIRST = ("temporal.kind=none", "text_audio.kind=concat", "pooling=mean_std")


def pooled_job(seed: int = 1, *overrides: str) -> HeadJob:
    return job("pooling-dist", seed, "pooling=mean_std", "training.lr=1e-3", *overrides)


def statistics(frames: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and population standard deviation of each column, in the longest float there is."""
    wide = frames.astype(np.longdouble)
    return wide.mean(axis=0).astype(np.float64), wide.std(axis=0).astype(np.float64)


def batches(cache: Path, split: str, *, pooled: bool) -> FeatureBatches:
    clips = ClipSet.of_split(cache, split)
    reader = clips.first_reader
    frames = PooledFrames([reader], reader.layers, CPU, CPU) if pooled else FramesOnDisk(CPU)
    return FeatureBatches(clips, reader.layers, frames)


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `cache`, with a clip of one frame in each split."""
    folder = tmp_path_factory.mktemp("ragged")
    for seed, (split, count) in enumerate({"train": 9, "dev": 5, "eval": 4}.items()):
        clips = make_clips(folder, split, count, seed, labelled=split != "eval")
        soundfile.write(clips[2].path, np.full(150, 0.3), 1000, subtype="FLOAT")
        extract(clips, folder / "cache")
    for reader in open_cache(folder / "cache").values():
        assert reader.valid_frames.min() == 1 < reader.valid_frames.max()
    return folder / "cache"


def test_stand_ins_by_hand() -> None:
    """Means 2 and 4, deviations 1 and 2."""
    found = stand_ins(np.array([[1, 2], [3, 6], [1, 6], [3, 2]], np.float16))
    assert found.dtype == np.float32
    assert found.tolist() == [[3, 6], [1, 2]]
    assert stand_ins(np.array([[0.5, -2]], np.float16)).tolist() == [[0.5, -2]] * 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("mean", [0.0, 3.0, 300.0])
def test_stand_ins_have_the_statistics_of_the_sequence(dtype: type, mean: float) -> None:
    """A deviation far smaller than the mean too, which sums of squares in float32 would lose."""
    rng = np.random.default_rng(0)
    for frames in (1, 2, 3, 750, 7500):
        sequence = rng.normal(mean, 0.5, (frames, 8)).astype(dtype)
        wanted = statistics(sequence)
        for found, right in zip(statistics(stand_ins(sequence)), wanted, strict=True):
            np.testing.assert_allclose(found, right, rtol=3e-7, atol=1e-7 * (1 + mean))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so_and_spoils_no_other_column(bad: float) -> None:
    sequence = np.ones((3, 2), np.float16)
    sequence[1, 0] = bad
    found = stand_ins(sequence)
    assert not np.isfinite(found[:, 0]).any() and (found[:, 1] == 1).all()
    assert np.isnan(stand_ins(sequence[:0])).all()


@pytest.mark.parametrize("layers", [(9,), (12, 6)])
def test_batches_hold_the_statistics_of_each_clip(
    ragged: Path, pretend_layers: PretendLayers, layers: tuple[int, ...]
) -> None:
    stored = {name: [reader.read_frames(i) for i in range(len(reader))] for name, reader in open_cache(ragged).items()}
    pretend_layers(6, 9, 12)
    readers = list(open_cache(ragged).values())
    source = PooledFrames(readers, layers, CPU, CPU)
    for reader in readers:
        found = FeatureBatches(ClipSet.of_reader(reader), layers, source).gather(range(len(reader)))
        assert found.frame_mask.shape == (len(reader), 2) and found.frame_mask.all()
        assert found.token_mask.shape == (len(reader), 2) and found.token_mask.all()
        rows = found.frames.numpy().reshape(len(reader), len(layers), 2, 64)
        order = ClipSet.of_reader(reader).by_id().entries
        for row, tokens, (_, index) in zip(rows, found.tokens.numpy(), order, strict=True):
            for own, layer in zip(row, layers, strict=True):
                wanted = statistics(stored[reader.split][index].astype(np.float64) * LAYER_FACTORS[layer])
                np.testing.assert_allclose(statistics(own), wanted, rtol=1e-6, atol=1e-6)
            wanted = statistics(reader.read_prompt(index).tokens)
            np.testing.assert_allclose(statistics(tokens), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("pooling", "text_audio", "layers"),
    [*product(("mean", "mean_std"), ("concat", "none"), ("9",)), ("mean", "concat", "weighted")],
)
def test_a_head_says_the_same_of_statistics_as_of_all_frames(
    ragged: Path, pretend_layers: PretendLayers, pooling: str, text_audio: str, layers: str
) -> None:
    pretend_layers(*((6, 9, 12) if layers == "weighted" else (9,)))
    config = pooled_job(1, f"pooling={pooling}", f"text_audio.kind={text_audio}", f"layers={layers}").config
    assert pools_first(config)
    torch.manual_seed(0)
    head = build_head(config, 64, 2, layers=3).eval()
    if layers == "weighted":
        with torch.no_grad():
            head.layers.weight.copy_(torch.tensor([-1.0, 0.5, 2.0]))
    for split in ("train", "dev", "eval"):
        few, all_of_them = (batches(ragged, split, pooled=pooled) for pooled in (True, False))
        indices = range(len(few.clips))
        with torch.inference_mode():
            found, wanted = (
                head(each.frames, each.frame_mask, each.tokens, each.token_mask)
                for each in (few.gather(indices), all_of_them.gather(indices))
            )
        for name in ("mi", "ta", "mi_dist", "ta_dist"):
            torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=0, atol=1e-5)
        assert wanted.mi.std() > 1e-3, "clips differ"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), True),
        (("pooling=mean",), True),
        (("text_audio.kind=none",), True),
        (("layers=9", "downstream=lstm", "output.kind=coral"), True),
        (("pooling=mean", "layers=weighted"), True),
        (("layers=weighted",), False),
        (("pooling=attentive",), False),
        (("temporal.kind=transformer",), False),
        (("temporal.kind=bilstm", "pooling=mean"), False),
        (("text_audio.kind=cross_attention",), False),
        (("text_audio.kind=decoupled", "temporal.kind=transformer"), False),
        (("training.feature_mixup=0.4",), False),
        (("pooling=mean", "training.feature_mixup=0.4"), False),
    ],
)
def test_which_heads_pool_first(overrides: tuple[str, ...], expected: bool) -> None:
    assert pools_first(job("pooling-dist", 1, *FIRST, *overrides).config) is expected


def test_the_published_heads_do_not_pool_first() -> None:
    assert not pools_first(job("transformer-dist", 1, "compat=upstream").config)
    assert not pools_first(job("pooling-dist").config)


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    read_frames: Callable[..., Any] = CacheReader.read_frames
    reads: list[tuple[str, int]] = []

    def count(self: CacheReader, index: int, *args: Any, **options: Any) -> Any:
        reads.append((self.split, index))
        return read_frames(self, index, *args, **options)

    monkeypatch.setattr(CacheReader, "read_frames", count)
    return reads


@pytest.mark.parametrize("preload", ["none", "ram", "auto"])
def test_each_clip_is_read_once_for_all_such_heads_and_no_frames_are_held(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, preload: Any
) -> None:
    reads = count_reads(monkeypatch)
    jobs = [pooled_job(1), pooled_job(2), job("pooling-dist", 3, "pooling=mean", "text_audio.kind=none")]
    with caplog.at_level(logging.INFO):
        results = train_heads(jobs, cache, tmp_path, preload=preload)
    assert [result.epochs for result in results] == [3, 3, 3]
    assert sorted(reads) == sorted((split, i) for split, n in (("train", 48), ("dev", 16), ("eval", 8))
                                   for i in range(n))  # fmt: skip
    told = [message for message in caplog.messages if message.startswith("features: ")]
    assert told == ["features: means and standard deviations of 72 clips, pooled once"]


def test_a_plan_of_both_kinds_holds_both(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each run is what it is alone."""
    reads = count_reads(monkeypatch)
    jobs = [pooled_job(), job("pooling-dist", 2)]
    together = train_heads(jobs, cache, tmp_path / "both", preload="ram")
    assert {reads.count(each) for each in reads} == {2}
    for which, result in zip(jobs, together, strict=True):
        [alone] = train_heads([which], cache, tmp_path / "alone")
        assert results_of(alone.folder) == results_of(result.folder)


@pytest.mark.parametrize("layers", ["9", "weighted"])
def test_a_run_is_the_same_whatever_is_preloaded(
    cache: Path, tmp_path: Path, pretend_layers: PretendLayers, layers: str
) -> None:
    pretend_layers(6, 9, 12)
    which = pooled_job(1, f"layers={layers}", "pooling=mean")
    runs = [
        results_of(train_heads([which], cache, tmp_path / each, preload=each)[0].folder)
        for each in ("none", "ram", "auto")
    ]
    assert runs[0] == runs[1] == runs[2]


def test_the_number_of_threads_decides_no_digit_of_the_statistics(cache: Path) -> None:
    reader, before = CacheReader(cache, "train"), torch.get_num_threads()
    try:
        held = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            held.append(PooledFrames([reader], reader.layers, CPU, CPU).held)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*held)


@pytest.mark.parametrize("pooling", ["mean", "mean_std"])
@pytest.mark.parametrize("gpu", [False, True])
def test_training_on_statistics_is_training_on_all_frames(
    cache: Path, request: pytest.FixtureRequest, pooling: str, gpu: bool
) -> None:
    """With the same chance, so that dropout is the same too; recorded, as on a GPU, as well."""
    config = pooled_job(1, f"pooling={pooling}", "training.batch_size=13").config
    plain = train(config, 1, *(batches(cache, split, pooled=False) for split in ("train", "dev")))
    recorded = request.getfixturevalue("on_gpu") if gpu else []
    few = [batches(cache, split, pooled=True) for split in ("train", "dev")]
    assert (few[0].on_gpu is not None) == gpu
    pooled = train(config, 1, *few)
    assert len(recorded) == gpu
    for name in ("train_loss", "dev_loss"):
        wanted = [line[name] for line in plain.history]
        assert [line[name] for line in pooled.history] == pytest.approx(wanted, rel=1e-4)
        assert wanted[-1] < wanted[0]


@pytest.mark.parametrize(("epoch", "error"), [(1, KeyboardInterrupt), (3, KeyboardInterrupt), (2, Killed)])
def test_interrupted_or_killed_it_ends_with_the_same_bytes(
    cache: Path, tmp_path: Path, epoch: int, error: type[BaseException]
) -> None:
    which = pooled_job(1, "training.schedule=cosine")
    [whole] = train_heads([which], cache, tmp_path / "whole")
    with pytest.raises(error):
        train_heads([which], cache, tmp_path / "runs", on_epoch=interrupt_after(epoch, error))
    [result] = train_heads([which], cache, tmp_path / "runs", preload="none")
    assert files_in(result.folder) == files_in(whole.folder)


@pytest.mark.parametrize("pooling", ["mean", "mean_std"])
def test_predict_reads_all_frames_and_says_the_same(ragged: Path, tmp_path: Path, pooling: str) -> None:
    [result] = train_heads([pooled_job(1, f"pooling={pooling}")], ragged, tmp_path / "runs")
    for split in ("train", "dev", "eval"):
        own = read_predictions(result.folder / "predictions" / f"{split}.loss.jsonl")
        made = predict(result.folder, ragged, split, "loss", tmp_path / f"{split}.jsonl", overwrite=False, device="cpu")
        again = read_predictions(made.path)
        assert again.ids == own.ids
        for name in ("mi", "ta", "mi_dist", "ta_dist"):
            np.testing.assert_allclose(getattr(again, name), getattr(own, name), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("what", "bad"), [("frames", np.nan), ("frames", np.inf), ("tokens", -np.inf)])
@pytest.mark.parametrize("pooling", ["mean", "mean_std"])
def test_features_that_are_not_finite_are_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, bad: float, pooling: str
) -> None:
    name = {"frames": "read_frames", "tokens": "read_prompt"}[what]
    read, broken_id = getattr(CacheReader, name), CacheReader(cache, "dev").ids[5]

    def broken(self: CacheReader, index: int, *args: Any, **options: Any) -> Any:
        found = read(self, index, *args, **options)
        if self.ids[index] == broken_id:
            (found if what == "frames" else found.tokens)[0, 0] = bad
        return found

    monkeypatch.setattr(CacheReader, name, broken)
    monkeypatch.setattr(CacheReader, "prompt", lambda self, index: f"the prompt of {self.ids[index]}")
    with pytest.raises(CacheError) as caught:
        train_heads([pooled_job(1, f"pooling={pooling}")], cache, tmp_path)
    assert str(caught.value) == f"{cache}: NaN or Inf in the features of {broken_id}; extract again with --overwrite"


def test_a_clip_without_frames_is_named(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = CacheReader(cache, "eval")
    shorter = reader.valid_frames.copy()
    shorter[3] = 0
    read_frames: Callable[..., NDArray[Any]] = CacheReader.read_frames

    def read(self: CacheReader, index: int, *args: Any, **options: Any) -> NDArray[Any]:
        return read_frames(self, index, *args, **options)[: int(self.valid_frames[index])]

    columns = {"eval": shorter}
    monkeypatch.setattr(
        CacheReader,
        "valid_frames",
        property(lambda self: columns.get(self.split, self._column("audio/valid_frames"))),
    )
    monkeypatch.setattr(CacheReader, "read_frames", read)
    with pytest.raises(CacheError, match=f"clip {reader.ids[3]}: no frames, expected at least one; extract it again"):
        train_heads([pooled_job()], cache, tmp_path)


def test_a_damaged_clip_is_named(cache: Path, tmp_path: Path) -> None:
    shutil.copytree(cache, tmp_path / "cache")
    reader = CacheReader(tmp_path / "cache", "dev")
    write_over_the_frames_of(reader, 2)
    with pytest.raises(CacheError, match=rf"clip {reader.ids[2]}: the stored frames do not match their hash"):
        train_heads([pooled_job()], tmp_path / "cache", tmp_path / "runs")


def test_a_gpu_that_is_not_used_holds_no_statistics(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--preload cuda: heads are computed on cpu here; use ram, none or auto$"):
        train_heads([pooled_job()], cache, tmp_path, preload="cuda")
