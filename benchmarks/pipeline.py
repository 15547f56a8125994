"""The whole way, command by command: noise as WAV files -> extract -> train-head --plan ensemble8 -> fuse -> answer.

Each command is a process of its own, as a user would run it, so that what it loads, compiles and writes is counted.
In the same run, for comparison, the straightforward way: both encoders in each step, in fp32. Of that a few steps are
measured, and the rest is estimated. On a GPU the encoders are of full size with random weights, on a CPU tiny.

.venv/bin/python benchmarks/pipeline.py
.venv/bin/python benchmarks/pipeline.py --clips 60 --epochs 1 --seconds 4 --json
"""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch
from figures import machine
from full_size import write_muq, write_noise, write_roberta
from rich.console import Console
from rich.table import Table
from steps import seconds
from training import torch_here, with_encoders

from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.jobs import load_plan

PLAN = "ensemble8"
SHARES = {"train": 1923, "dev": 412, "eval": 413}  # MusicEval's
CLIPS = sum(SHARES.values())


def command(*words: object) -> float:
    """Run one of our commands; return its seconds."""
    done: list[subprocess.CompletedProcess[str]] = []
    line = [sys.executable, "-m", "audiomos_cache", *map(str, words)]
    spent = seconds(lambda: done.append(subprocess.run(line, capture_output=True, text=True)), torch.device("cpu"))
    if done[0].returncode:
        raise click.ClickException(f"{' '.join(line)}\n{done[0].stdout[-1000:]}\n{done[0].stderr[-3000:]}")
    for text in done[0].stderr.splitlines():
        if "heads are computed" in text or " epochs, " in text:
            click.echo(text, err=True)
    click.echo(f"{words[0]}: {spent:.1f} s", err=True)
    return spent


def run(folder: Path, clips: int, length_s: float, epochs: int, device: str, more: Sequence[str]) -> dict[str, float]:
    """Run the pipeline in a folder; return the seconds of each stage."""
    splits = {split: max(round(share * clips / CLIPS), 4) for split, share in SHARES.items()}
    encoders: tuple[object, ...]
    if device == "cuda":
        encoders = ("--audio-encoder", write_muq(folder / "muq"), "--text-encoder", write_roberta(folder / "roberta"))
    else:
        encoders = ("--audio-encoder", "muq-tiny", "--text-encoder", "roberta-tiny")
    manifest = write_noise(folder, splits, length_s)
    chosen = [word for split in splits for word in ("--split", split)]
    stages = {}
    stages["extract"] = command(
        "extract", "--data", manifest, *chosen, "--cache", folder / "cache", *encoders, "--pad-to", length_s,
        "--device", device, *more,
    )  # fmt: skip
    stages["train-head"] = command(
        "train-head", "--cache", folder / "cache", "--plan", PLAN, "--set", f"training.max_epochs={epochs}",
        f"--set=training.patience={epochs}", "--out", folder / "runs", "--device", device,
    )  # fmt: skip
    names = [job.name for job in load_plan(PLAN)]
    stages["predict"] = command(
        "predict", folder / "runs" / names[0], "--cache", folder / "cache", "--split", "eval",
        "--out", folder / "predicted.jsonl", "--device", device,
    )  # fmt: skip
    stages["fuse"] = command(
        "fuse", *(folder / "runs" / name for name in names), "--method", "ridge", "--labels", manifest,
        "--out", folder / "fused",
    )  # fmt: skip
    answers = len((folder / "fused" / "answer.txt").read_text().splitlines())
    if answers != splits["eval"]:
        raise click.ClickException(f"{answers} answers, expected one for each of {splits['eval']} clips")
    return stages


def straightforward(cache: Path, epochs: int, device: torch.device) -> dict[str, float]:
    """Measure steps with the encoders inside, and reckon what all epochs of the plan take that way."""
    counts = {split: len(CacheReader(cache, split)) for split in SHARES}
    config = load_plan(PLAN)[0].config
    step, size = with_encoders("transformer-dist", ClipSet.of_split(cache, "train"), device, steps=5)
    clip = step / size
    # Validation, and the prediction at the end, take the encoders' share of a step; that is nearly all of it.
    heads = len(load_plan(PLAN))
    steps = heads * epochs * math.ceil(counts["train"] / config.training.batch_size) * config.training.batch_size
    return {
        "step": step,
        "batch": size,
        "training": steps * clip,
        "validation": heads * (epochs * counts["dev"] + counts["eval"]) * clip,
    }


@click.command()
@click.option("--clips", type=click.IntRange(16), help=f"In all splits. [default: {CLIPS} on a GPU, 60 on a CPU]")
@click.option("--seconds", "length_s", type=float, help="Of each clip. [default: 30 on a GPU, 4 on a CPU]")
@click.option("--epochs", type=click.IntRange(1), help="Of each head. [default: 30 on a GPU, 1 on a CPU]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: cuda if there is]")
@click.option("--folder", type=click.Path(path_type=Path), help="Where all is written for the time being.")
@click.option("--extract", "more", multiple=True, metavar="WORD", help="More words for extract; repeat.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(
    clips: int | None, length_s: float | None, epochs: int | None, device: str | None, folder: Path | None,
    more: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Measure the pipeline, and reckon the straightforward way."""
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    gpu = on.type == "cuda"
    clips, epochs, length_s = (
        clips or (CLIPS if gpu else 60),
        epochs or (30 if gpu else 1),
        length_s or (30.0 if gpu else 4.0),
    )
    with tempfile.TemporaryDirectory(dir=folder) as made:
        stages = run(Path(made), clips, length_s, epochs, on.type, more)
        other = straightforward(Path(made) / "cache", epochs, on)
    total, estimated = sum(stages.values()), other["training"] + other["validation"]
    result: dict[str, Any] = {
        "machine": machine() | torch_here(on), "clips": clips, "seconds_each": length_s, "epochs": epochs,
        "stages_s": stages, "total_s": total, "straightforward": other, "ratio": estimated / total,
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(result, indent=1))
        return
    table = Table(title=f"{clips} clips of {length_s:g} s, eight heads, {epochs} epochs; {result['machine']['device']}",
                  title_justify="left")  # fmt: skip
    for column in ("stage", "seconds", "share"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, spent in stages.items():
        table.add_row(name, f"{spent:.1f}", f"{spent / total:.0%}")
    table.add_section()
    table.add_row("all", f"{total:.1f}", "")
    table.add_row(f"encoders inside, estimated from {1000 * other['step']:.0f} ms a step of {other['batch']}",
                  f"{estimated:.0f}", f"{estimated / total:.0f} x")  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
