"""Helpers of the tests of training."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.extraction.extract_split import extract_split
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.heads.presets import load_head_config
from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder
from audiomos_cache.training import cuda_graph
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.frame_sources import FramesInMemory, FramesOnDisk
from audiomos_cache.training.jobs import HeadJob

LAYER_FACTORS = {6: 4.0, 9: 1.0, 12: -2.0}


class WideAudioEncoder(FakeAudioEncoder):
    """The fake's frames, spread over 64 columns: enough for layers whose widths follow the frames'."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 64

    def encode(self, waveforms: Tensor) -> Tensor:
        self.dim = 4
        narrow = super().encode(waveforms)
        self.dim = 64
        return narrow @ torch.randn(4, 64, generator=torch.Generator().manual_seed(0))


def extract(clips: list[Clip], cache: Path, **options: Any) -> None:
    extract_split(clips, cache, WideAudioEncoder(), FakeTextEncoder(), ExtractionOptions(**options))


def make_clips(folder: Path, split: str, count: int, seed: int, *, labelled: bool = True) -> list[Clip]:
    rng = np.random.default_rng(seed)
    clips = []
    for i in range(count):
        mi, words = float(rng.uniform(1, 5)), int(rng.integers(1, 6))
        samples = np.full(int(rng.integers(300, 1500)), mi / 8) + rng.normal(0, 0.02, 1)
        path = folder / f"{split}{i}.wav"
        soundfile.write(path, samples, 1000, subtype="FLOAT")
        clips.append(
            Clip(
                id=f"S{i % 4:03d}_{split}{i:03d}",
                path=path,
                system=f"S{i % 4:03d}",
                prompt_id=f"P{words}",
                prompt=" ".join(["piano"] * words),
                split=split,
                mi=mi if labelled else None,
                ta=float(words) if labelled else None,
            )
        )
    return clips


def job(head: str = "pooling-dist", seed: int = 1, *overrides: str) -> HeadJob:
    return HeadJob(f"{head}-seed{seed}", load_head_config(head, ("training.max_epochs=3", *overrides))[1], seed)


def batches_of(cache: Path, split: str) -> FeatureBatches:
    """Batches of a split, of all layers, read from disk, on the CPU."""
    clips = ClipSet.of_split(cache, split)
    return FeatureBatches(clips, clips.first_reader.layers, FramesOnDisk(torch.device("cpu")))


PretendLayers = Callable[..., None]


def files_of(run: Path, pattern: str) -> dict[str, bytes]:
    """The content of some of a run's files."""
    found = {str(path.relative_to(run)): path.read_bytes() for path in run.rglob(pattern)}
    assert found
    return found


def results_of(run: Path) -> dict[str, bytes]:
    """The content of all of a run's files but its config."""
    files = {**files_of(run, "*.safetensors"), **files_of(run, "*.json"), **files_of(run, "*.jsonl")}
    assert len(files) == 3 + 3 + 1 + 9
    return files


def write_over_the_frames_of(reader: CacheReader, index: int) -> None:
    [path] = [file.path for file in reader.files]
    content = bytearray(path.read_bytes())
    place = content.index(reader.read_frames(index, layer=reader.layers[0]).tobytes())
    content[place] ^= 1
    # Into the file itself: one that is replaced is refused for that alone.
    with path.open("r+b") as file:
        file.write(content)


class Killed(BaseException):
    """Ends a training wherever it is, and nothing is done about it but what Python does."""


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def interrupt_after(epoch: int, error: type[BaseException] = KeyboardInterrupt) -> Callable[..., None]:
    def interrupt(_job: HeadJob, line: dict[str, Any], _last: bool) -> None:
        if line["epoch"] == epoch:
            raise error

    return interrupt


RATERS = ("output.loss=raters", "output.bins=5")


def write_ratings(path: Path, ids: list[str], seed: int, raters: int = 4) -> Path:
    """Ratings of some clips by some listeners; the listeners of one clip come together."""
    ranks = np.random.default_rng(seed).integers(1, 6, (len(ids), raters, 2)).tolist()
    path.write_text(
        "".join(
            f"{clip_id}.wav,{rater},{mi},{ta}\n"
            for clip_id, of_clip in zip(ids, ranks, strict=True)
            for rater, (mi, ta) in enumerate(of_clip)
        )
    )
    return path


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Splits train (48), dev (16) and the unlabelled eval (8) of fake features 64 and 2 wide."""
    folder = tmp_path_factory.mktemp("training")
    for seed, (split, count) in enumerate({"train": 48, "dev": 16, "eval": 8}.items()):
        clips = make_clips(folder, split, count, seed, labelled=split != "eval")
        extract(clips, folder / "cache", pad_to_s=1.5)
    return folder / "cache"


@pytest.fixture
def pretend_layers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let all caches hold some layers: at each, the frames that they have times a factor of the layer's own."""
    read_frames = CacheReader.read_frames

    def pretend(*layers: int) -> None:
        def read_layer(
            self: CacheReader, index: int, out: NDArray[Any] | None = None, *, layer: int, padding: bool = False
        ) -> NDArray[Any]:
            assert layer in layers
            frames = read_frames(self, index, out, padding=padding)
            frames *= LAYER_FACTORS[layer]
            return frames

        monkeypatch.setattr(CacheReader, "layers", layers)
        monkeypatch.setattr(CacheReader, "read_frames", read_layer)

    return pretend


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Pretend that what is held is held on a GPU; gives how many steps were captured."""
    captured: list[int] = []

    def capture(action: Callable[[], None]) -> Callable[[], None]:
        captured.append(1)
        return action

    monkeypatch.setattr(FramesInMemory, "on_gpu", True)
    monkeypatch.setattr(cuda_graph, "capture_graph", capture)
    yield captured
