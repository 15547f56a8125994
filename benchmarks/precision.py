"""What bfloat16 does to what a head learns: SRCC on clips that it was not trained on, over seeds, against float32.

The signal is planted: MI is the same in all frames of a clip; besides, each frame is of one of three kinds and gives
how well that kind is played, and the prompt names the kind whose value is the TA.

.venv/bin/python benchmarks/precision.py
.venv/bin/python benchmarks/precision.py --seeds 2 --clips 200 --epochs 8 --presets cross-attention-dist
"""

import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from figures import machine
from rich.console import Console
from rich.table import Table
from training import torch_here

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.cache.file_writer import write_file
from audiomos_cache.cache.format import CachedClip, CachedPrompt, Header, hash_rows
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.evaluation.metrics import compute_metrics
from audiomos_cache.heads.presets import load_head_config
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.execution import Execution, Precision
from audiomos_cache.training.frame_sources import FramesInMemory
from audiomos_cache.training.loop import predictions_of, run_head, train

DIM, TEXT_DIM, MOST_FRAMES, KINDS = 256, 64, 100, 3
NOISE = 0.2
DTYPE = np.dtype("<f2")


def write_planted(folder: Path, splits: dict[str, int]) -> Path:
    """Write a cache of clips whose features hold their labels."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    heard, value, *kind_of_frame = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0][: 2 + KINDS]
    kind_of_token = rng.normal(size=(KINDS, TEXT_DIM))
    prompts = [
        CachedPrompt(f"kind {kind}", np.repeat(vector[None], 3, axis=0).astype(DTYPE), np.zeros(TEXT_DIM, DTYPE))
        for kind, vector in enumerate(kind_of_token)
    ]
    fingerprint = Fingerprint.of({"audio_encoder": {"class": "Planted"}, "dtype": "float16"})
    for split, clips in splits.items():
        records, frames = [], []
        for i in range(clips):
            mi, values = rng.uniform(1, 5), rng.uniform(-1, 1, KINDS)
            named, count = i % KINDS, int(rng.integers(MOST_FRAMES // 2, MOST_FRAMES + 1))
            kinds = rng.permutation(np.arange(count) % KINDS)
            signal = 1.5 * np.array(kind_of_frame)[kinds] + values[kinds, None] * value + (mi - 3) / 2 * heard
            frames.append((signal * 4 + rng.normal(0, NOISE, (count, DIM))).astype(DTYPE)[None])
            records.append(
                CachedClip(f"S{i % 8:03d}_{split}{i:04d}", f"S{i % 8:03d}", f"P{named}", f"kind {named}", mi,
                           3 + 2 * values[named], count / 25, bytes(16), count, count, (hash_rows(frames[-1][0]),),
                           (hash_rows(np.empty(0, DTYPE)),), i)
            )  # fmt: skip
        header = Header(split, fingerprint, DIM, TEXT_DIM, (0,), list_hash="0" * 32, list_length=clips)
        whole = replace(header, complete=True, split_hash="0" * 32)
        write_file(folder / f"{split}.h5", whole, records, prompts, frames)
    return folder


def measure(
    preset: str, epochs: int, seed: int, precision: Precision, splits: list[FeatureBatches]
) -> tuple[float, float]:
    """Train a head; return the utterance SRCC of MI and of TA of its best-loss checkpoint on the test split."""
    config = load_head_config(preset, (f"training.max_epochs={epochs}", "training.batch_size=16", "dropout=0.1"))[1]
    execution = Execution(precision)
    trained = train(config, seed, splits[0], splits[1], execution=execution)
    trained.head.load_state_dict(trained.bests["loss"].weights)
    predictions = predictions_of(run_head(trained.head, splits[2], execution), splits[2])
    scores = compute_metrics(predictions, splits[2].clips.labels)
    return scores.utt_mi.srcc, scores.utt_ta.srcc


@click.command()
@click.option("--presets", default="transformer-dist,cross-attention-dist,pooling-dist", show_default=True)
@click.option("--seeds", type=click.IntRange(2), default=5, show_default=True)
@click.option("--clips", type=click.IntRange(16), default=640, show_default=True, help="To train on.")
@click.option("--epochs", type=click.IntRange(1), default=15, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: cuda if there is]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(presets: str, seeds: int, clips: int, epochs: int, device: str | None, as_json: bool) -> None:
    """Train each preset with several seeds in both precisions."""
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as made:
        cache = write_planted(Path(made) / "cache", {"train": clips, "dev": clips // 4, "test": clips // 4})
        readers = [CacheReader(cache, split) for split in ("train", "dev", "test")]
        frames = FramesInMemory(readers, (0,), held_on=on, device=on)
        splits = [FeatureBatches(ClipSet.of_reader(reader), (0,), frames) for reader in readers]
        for preset in presets.split(","):
            for precision in ("fp32", "bf16"):
                found = [measure(preset, epochs, seed, precision, splits) for seed in range(1, seeds + 1)]
                for target, values in zip(("MI", "TA"), zip(*found, strict=True), strict=True):
                    rows.append({"preset": preset, "precision": precision, "target": target, "srcc": values})
                click.echo(f"{preset} {precision}", err=True)
    if as_json:
        click.echo(json.dumps({"machine": machine() | torch_here(on), "rows": rows}, indent=1))
        return
    table = Table(title=f"Test SRCC over {seeds} seeds, mean and standard deviation", title_justify="left")
    for column in ("preset", "target", "fp32", "bf16", "difference"):
        table.add_column(column)
    for target in ("MI", "TA"):
        for preset in presets.split(","):
            both = [
                row["srcc"]
                for precision in ("fp32", "bf16")
                for row in rows
                if (row["preset"], row["precision"], row["target"]) == (preset, precision, target)
            ]
            shown = [f"{statistics.mean(each):.4f} ± {statistics.stdev(each):.4f}" for each in both]
            table.add_row(preset, target, *shown, f"{statistics.mean(both[1]) - statistics.mean(both[0]):+.4f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
