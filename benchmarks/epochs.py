"""What an epoch takes on a CPU where a head reads all frames, and where their statistics are pooled once.

Three trainings in turns, on features as many as MusicEval's: pooling-dist, which learns what it pools by, and the same
with mean and standard deviation, on all frames and on what stands for them. In the same run, how fast batches are put
together: as float16 bytes a second, and as a share of what copying as many takes, measured before and after each.

.venv/bin/python benchmarks/epochs.py
.venv/bin/python benchmarks/epochs.py --clips 64 --epochs 2 --json
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import torch
from figures import machine
from limits import copy_bytes_per_s
from noise_cache import write_noise_cache
from rich.console import Console
from rich.table import Table

from audiomos_cache.batch import chunks
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.heads.losses import objective_of
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.presets import load_head_config
from audiomos_cache.training.batches import FeatureBatches, epoch_order
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.frame_sources import FramesInMemory, FramesOnDisk, FrameSource
from audiomos_cache.training.preload import PooledFrames
from audiomos_cache.training.trainer import LabelledBatches, Trainer

CPU = torch.device("cpu")
BATCH = 32
READ_AT_ONCE = 8  # batches between two measurements of copying: they see the machine equally busy
MEAN_STD = ("pooling=mean_std",)
NEAR = 1e-5  # relative difference of the losses of a first epoch on all frames and on their statistics, at most


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of an action, and what it returns."""
    start = time.perf_counter()
    found = action()
    return time.perf_counter() - start, found


def trainer_of(clips: ClipSet, frames: FrameSource, overrides: tuple[str, ...]) -> Trainer:
    config = load_head_config("pooling-dist", (*overrides, f"training.batch_size={BATCH}"))[1]
    reader = clips.first_reader
    torch.manual_seed(0)
    head = build_head(config, reader.audio_dim, reader.text_dim)
    return Trainer(config, 0, head, LabelledBatches(FeatureBatches(clips, (0,), frames), objective_of(config)))


def measure_epochs(trainers: dict[str, Trainer], epochs: int) -> dict[str, dict[str, float]]:
    """Train all, an epoch of each in turn; return the median seconds and the first loss of each."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in trainers}
    for epoch in range(1, epochs + 1):
        for name, trainer in trainers.items():
            torch.manual_seed(epoch)  # the same dropout for all
            seconds, (_, loss) = timed(lambda: trainer.train_epoch(epoch))  # noqa: B023 - called at once
            taken[name].append((seconds, loss))
            click.echo(f"epoch {epoch}, {name}: {seconds:.2f} s, loss {loss:.6f}", err=True)
    return {
        name: {"epoch_s": statistics.median(seconds for seconds, _ in each), "loss": each[0][1]}
        for name, each in taken.items()
    }


def measure_reading(clips: ClipSet, frames: FrameSource) -> dict[str, float]:
    """Return bytes a second of putting an epoch's batches together and of copying, and the median of their ratio."""
    batches = chunks(epoch_order(len(clips), 0, 1), BATCH)
    features = FeatureBatches(clips, (0,), frames)
    row_bytes = clips.first_reader.audio_dim * clips.first_reader.dtype.itemsize
    speeds, copies = [], [copy_bytes_per_s(CPU)]
    for some in chunks(batches, READ_AT_ONCE):
        moved = sum(int(features.clips.entries[i][0].valid_frames[features.clips.entries[i][1]])
                    for batch in some for i in batch) * row_bytes  # fmt: skip
        speeds.append(moved / timed(lambda: [None for _ in features.stream(some)])[0])  # noqa: B023
        copies.append(copy_bytes_per_s(CPU))
    copied = [(before + after) / 2 for before, after in pairwise(copies)]
    ratios = [speed / copy for speed, copy in zip(speeds, copied, strict=True)]
    names = {"reading": speeds, "copy": copies, "share": ratios}
    return {name: statistics.median(each) for name, each in names.items()}


@click.command()
@click.option("--clips", "count", type=click.IntRange(BATCH), default=1923, show_default=True)
@click.option("--frames", type=click.IntRange(1), default=750, show_default=True, help="Of each clip; 25 are a second.")
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the features are written for the time being.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def main(count: int, frames: int, epochs: int, folder: Path | None, as_json: bool) -> None:
    """Measure epochs and reading on the CPU."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        reader = CacheReader(write_noise_cache(Path(made) / "cache", {"train": count}, frames), "train")
        clips = ClipSet.of_reader(reader)
        on_disk = FramesOnDisk(CPU)
        pooling_s, pooled = timed(lambda: PooledFrames([reader], (0,), CPU, CPU))
        loading_s, in_memory = timed(lambda: FramesInMemory([reader], (0,), CPU, CPU))
        reading = {"in RAM": measure_reading(clips, in_memory), "on disk": measure_reading(clips, on_disk)}
        found = measure_epochs(
            {
                "attentive, all frames": trainer_of(clips, in_memory, ()),
                "mean_std, all frames": trainer_of(clips, in_memory, MEAN_STD),
                "mean_std, pooled once": trainer_of(clips, pooled, MEAN_STD),
            },
            epochs,
        )
    for name, each in found.items():
        each["first_s"], source = (pooling_s, pooled) if name.endswith("once") else (loading_s, in_memory)
        each["held"] = source.held.nbytes
    gap = abs(found["mean_std, pooled once"]["loss"] / found["mean_std, all frames"]["loss"] - 1)
    if as_json:
        here = machine() | {"torch": torch.__version__, "threads": torch.get_num_threads()}
        click.echo(json.dumps({"machine": here, "epochs": found, "reading": reading, "loss_gap": gap}, indent=1))
        return
    console = Console(width=100)
    console.print(f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}")
    table = Table("head", "read first", "held", "an epoch", title=f"{count} clips of {frames} frames")
    for name, each in found.items():
        table.add_row(name, f"{each['first_s']:.2f} s", f"{each['held'] / 1e6:.0f} MB", f"{each['epoch_s']:.2f} s")
    console.print(table)
    for name, each in reading.items():
        console.print(f"{name}: batches at {each['reading'] / 1e9:.2f} GB/s; copying {each['copy'] / 1e9:.2f} GB/s; "
                      f"share {each['share']:.2f}")  # fmt: skip
    console.print(f"losses of mean_std in the first epoch: differ by {gap:.1e}, {'right' if gap < NEAR else 'WRONG'}")


if __name__ == "__main__":
    main()
