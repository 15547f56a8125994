"""Two small heads, trained, and fusions of them."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from audiomos_cache.bundle.make import make_bundle
from audiomos_cache.fusion.fuse import fuse
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.train_heads import train_heads
from tests.support.bundle import METHODS
from tests.support.training import extract, job, make_clips


@dataclass(frozen=True)
class Made:
    """Where the runs, fusions and labels of the tests lie.

    Attributes:
        folder: of all of them.
        cache: splits train (48), dev (16) and eval (8).
        runs: the folders of two runs: distributions on 20 bins, and scores alone.
        labels: of dev.
    """

    folder: Path
    cache: Path
    runs: tuple[Path, ...]
    labels: Path

    def fused(self, method: str) -> Path:
        """The folder of a fusion of both runs."""
        return self.folder / "fused" / method


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("bundle")
    cache, labels = folder / "cache", folder / "dev_list.txt"
    for seed, (split, count) in enumerate({"train": 48, "dev": 16, "eval": 8}.items()):
        extract(make_clips(folder, split, count, seed), cache, pad_to_s=1.5)
    jobs = [job("pooling-dist", 1), job("cross-attention-dist", 2, "output.kind=scalar")]
    train_heads(jobs, cache, folder / "runs")
    runs = tuple(folder / "runs" / each.name for each in jobs)
    dev = ClipSet.of_split(cache, "dev")
    rows = zip(dev.ids, dev.mi.tolist(), dev.ta.tolist(), strict=True)
    labels.write_text("".join(f"{clip}.wav,{mi!r},{ta!r}\n" for clip, mi, ta in rows))
    found = Made(folder, cache, runs, labels)
    for method in METHODS:
        fuse(runs, out=found.fused(method), method=method, labels=labels, n_boot=0)
    return found


@pytest.fixture(scope="session")
def ridge_bundle(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of both runs and their ridge fusion; not to be changed."""
    out = tmp_path_factory.mktemp("bundles") / "ridge"
    make_bundle(made.runs, out, made.fused("ridge"), check=False)
    return out


@pytest.fixture
def bundle(ridge_bundle: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(ridge_bundle, tmp_path / "model")
