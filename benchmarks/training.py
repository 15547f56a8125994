"""How long heads take to train: the simple way, ours, and what the machine could do at best, all in one run.

Features are made up, as long as MusicEval's: 1,923 clips of 30 s to train on and 412 to validate. The numbers of the
ways are compared first: gradients in bf16 with those in fp32, steps as a CUDA graph with steps that are not.

.venv/bin/python benchmarks/training.py --encoders
.venv/bin/python benchmarks/training.py --presets pooling-dist --train 64 --dev 16 --json
"""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import click
import torch
from baseline import encoding_step
from figures import machine
from noise_cache import write_noise_cache
from rich.console import Console
from steps import as_table, limits, measure, ms, seconds

from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.heads.presets import load_head_config, preset_names
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.execution import Precision, choose_precision
from audiomos_cache.training.jobs import HeadJob
from audiomos_cache.training.preload import open_frames
from audiomos_cache.training.train_heads import train_heads

ON_CPU = ("pooling-dist",)


def whole_runs(cache: Path, preset: str, epochs: int, device: str, precision: Precision) -> list[float]:
    """Train two seeds for some epochs, with all that is written; return the seconds of each."""
    config = load_head_config(preset, (f"training.max_epochs={epochs}", f"training.patience={epochs}"))[1]
    jobs = [HeadJob(f"{preset}-seed{seed}", config, seed) for seed in (1, 2)]
    with tempfile.TemporaryDirectory() as out:
        results = train_heads(jobs, cache, Path(out), device=device, precision=precision, compiling="on")
    return [result.seconds or 0.0 for result in results]


def with_encoders(preset: str, clips: ClipSet, device: torch.device, *, steps: int) -> tuple[float, int]:
    """Measure steps with both encoders inside, in fp32: of full size on a GPU, tiny on a CPU; (seconds, batch)."""
    from straightforward import inside_encoders

    config = load_head_config(preset)[1]
    size = config.training.batch_size if device.type == "cuda" else 2
    encode, dims = inside_encoders(device)
    step = encoding_step(config, clips, encode, dims, device)
    indices = list(range(size))
    step(indices)
    return seconds(lambda: step(indices), device, steps), size


@click.command()
@click.option("--presets", help="Some of them, with commas.  [default: all on a GPU, pooling-dist on a CPU]")
@click.option("--train", "train_clips", type=click.IntRange(64), default=1923, show_default=True)
@click.option("--dev", "dev_clips", type=click.IntRange(2), default=412, show_default=True)
@click.option("--frames", type=click.IntRange(1), default=750, show_default=True, help="Of each clip; 25 are a second.")
@click.option("--epochs", type=click.IntRange(0), default=30, show_default=True, help="Of the whole run; 0: none.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: cuda if there is]")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]))
@click.option("--compile/--no-compile", "compiled", default=None, help="[default: on a GPU]")
@click.option("--encoders", is_flag=True, help="Measure steps with the encoders inside, too.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the features are written for the time being.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(
    presets: str | None, train_clips: int, dev_clips: int, frames: int, epochs: int, device: str | None,
    precision: Precision | None, compiled: bool | None, encoders: bool, folder: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure training steps of presets, and a whole run of the first."""
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    gpu = on.type == "cuda"
    chosen = presets.split(",") if presets else preset_names() if gpu else list(ON_CPU)
    precision = choose_precision(precision, on)
    best = limits(on)
    result: dict[str, Any] = {"machine": machine() | torch_here(on), "limits": best, "clips": train_clips}
    with tempfile.TemporaryDirectory(dir=folder) as made:
        cache = write_noise_cache(Path(made) / "cache", {"train": train_clips, "dev": dev_clips}, frames)
        clips = ClipSet.of_reader(CacheReader(cache, "train"))
        result["load_s"] = seconds(lambda: open_frames([clips.first_reader], (0,), on, "auto"), on)
        features = FeatureBatches(clips, (0,), open_frames([clips.first_reader], (0,), on, "auto"))
        found = []
        for preset in chosen:
            found.append(
                measure(preset, clips, features, precision, best, compiled=gpu if compiled is None else compiled)
            )
            click.echo(f"{preset}: {ms(found[-1].best)}", err=True)
        del features
        if encoders:
            spent, size = with_encoders(chosen[0], clips, on, steps=3)
            result["encoders_inside"] = {"preset": chosen[0], "batch": size, "seconds": spent}
        if epochs:
            result["whole_run_s"] = whole_runs(cache, chosen[0], epochs, on.type, precision)
    result["steps"] = [dataclasses.asdict(each) | {"best": each.best, "right": each.right} for each in found]
    if as_json:
        click.echo(json.dumps(result, indent=1))
        return
    console = Console(width=120)
    products = ", ".join(f"{name} {best[name] / 1e12:.1f}" for name in ("fp32", "bf16"))
    console.print(f"{result['machine']['device']}, torch {torch.__version__}")
    console.print(f"copy {best['copy'] / 1e9:.0f} GB/s, matrix products {products} TFLOP/s")
    console.print(
        as_table(found, f"One training step, 32 clips of {frames} frames, in an epoch of {train_clips} clips")
    )
    if encoders:
        console.print(f"a step with the encoders inside, {result['encoders_inside']['batch']} clips, fp32: {ms(spent)}")
    if epochs:
        first, second = result["whole_run_s"]
        console.print(f"{chosen[0]}, {epochs} epochs with validation and all files: {first:.1f} s, compiling included; "
                      f"the next seed {second:.1f} s")  # fmt: skip


def torch_here(device: torch.device) -> dict[str, Any]:
    """Say what computed the heads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {"torch": torch.__version__, "device": name}


if __name__ == "__main__":
    main()
