"""How long heads take to train: the plain way, ours, and what the machine could do at best, all in one run.

Features are made up, as long as MusicEval's: 1,923 clips of 30 s to train on and 412 to validate. The numbers of the
ways are compared first: gradients in bf16 with those in fp32, recorded steps with steps that are not.

.venv/bin/python benchmarks/training.py --encoders
.venv/bin/python benchmarks/training.py --presets pooling-dist --train 64 --dev 16 --json
"""

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from figures import machine
from noise_cache import write_noise_cache
from plain import encoding_step, plain_step
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from audiomos_cache.cache import CacheReader
from audiomos_cache.config import HeadConfig
from audiomos_cache.heads import build_head
from audiomos_cache.limits import matmul_flops
from audiomos_cache.presets import load_head_config, preset_names
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.clips import ClipSet
from audiomos_cache.training.computing import Computing, Precision, choose_precision
from audiomos_cache.training.epoch import Trainer
from audiomos_cache.training.job import HeadJob
from audiomos_cache.training.limits import copy_bytes_per_s
from audiomos_cache.training.preload import open_frames
from audiomos_cache.training.targeted import TargetedBatches, objective_of
from audiomos_cache.training.train_head import train_heads

ON_CPU = ("pooling-dist",)
SURE = 0.99  # cosine of the gradients in two precisions, at least
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
NEAR = 0.01  # relative difference of losses, at most


@dataclasses.dataclass(frozen=True, slots=True)
class Steps:
    """Seconds of one training step of a preset.

    Attributes:
        plain: as one would write it down first, in fp32.
        ours: a step of an epoch, gathered and all, in `precision`, not compiled.
        compiled: the same, compiled; `compiling` are the seconds that this took.
        limit: what its arithmetic, `flops`, takes at the speed of the largest matrix product in that precision.
        gather: what putting its features together takes; `copy` is what copying as many bytes takes.
        cosine: of the gradients of one batch in `precision` and in fp32; `loss_gap`: relative, likewise.
        recorded_gap: relative, of the losses of steps that are recorded and steps that are not.
    """

    preset: str
    precision: str
    plain: float
    ours: float
    compiled: float | None
    compiling: float | None
    flops: float
    limit: float
    gather: float
    copy: float
    cosine: float
    loss_gap: float
    recorded_gap: float | None

    @property
    def best(self) -> float:
        return min(self.ours, self.compiled or self.ours)

    @property
    def right(self) -> bool:
        return self.cosine > SURE and self.loss_gap < NEAR and (self.recorded_gap or 0.0) < NEAR


def synchronized(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(action: Callable[[], object], device: torch.device, runs: int = 1) -> float:
    """Return the median of what an action takes."""
    taken = []
    for _ in range(runs):
        start = synchronized(device)
        action()
        taken.append(synchronized(device) - start)
    return statistics.median(taken)


def limits(device: torch.device) -> dict[str, float]:
    """Measure floating-point operations a second of a large matrix product, and bytes a second of a copy."""
    speeds = {name: matmul_flops(device, DTYPES[name]) for name in DTYPES}
    return speeds | {"copy": copy_bytes_per_s(device)}


def step_flops(config: HeadConfig, targeted: TargetedBatches) -> float:
    """Count the arithmetic of a step on the first batch: matrix products and attention, forward and backward."""
    reader = targeted.clips.first_reader
    device = targeted.features.device
    head = build_head(config, reader.audio_dim, reader.text_dim).to(device)
    indices = list(range(config.training.batch_size))
    features = targeted.features.gather(indices)
    precise = Computing("bf16" if device.type == "cuda" else "fp32")
    with FlopCounterMode(display=False) as counter, precise.autocast(device):
        output = head.compute(features.frames, features.frame_mask, features.tokens, features.token_mask)
        targeted.loss(output, indices).backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())


def compare_precisions(config: HeadConfig, targeted: TargetedBatches, precision: Precision) -> tuple[float, float]:
    """Return the cosine of a batch's gradients in two precisions, and the relative difference of the losses."""
    reader = targeted.clips.first_reader
    device = targeted.features.device
    indices = list(range(config.training.batch_size))
    features = targeted.features.gather(indices)
    found = []
    for each in ("fp32", precision):
        torch.manual_seed(0)
        head = build_head(still(config), reader.audio_dim, reader.text_dim).to(device).train()
        with Computing(each).autocast(device):
            loss = targeted.loss(head.compute(features.frames, features.frame_mask, features.tokens,
                                              features.token_mask), indices)  # fmt: skip
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad.flatten() for p in head.parameters() if p.grad is not None]
        found.append((torch.cat(gradients), loss.item()))
    (a, loss_a), (b, loss_b) = found
    return torch.cosine_similarity(a, b, dim=0).item(), abs(loss_a - loss_b) / loss_a


def still(config: HeadConfig) -> HeadConfig:
    """Return a head without dropout."""
    return config.model_copy(update={"dropout": 0.0})


def trainer_of(config: HeadConfig, targeted: TargetedBatches, computing: Computing) -> Trainer:
    torch.manual_seed(0)
    reader = targeted.clips.first_reader
    head = build_head(config, reader.audio_dim, reader.text_dim).to(targeted.features.device)
    return Trainer(config, 0, head, targeted, computing)


def compare_recorded(config: HeadConfig, targeted: TargetedBatches, precision: Precision) -> float:
    """Return the relative difference of an epoch's loss with steps recorded and not, without dropout."""
    losses = [
        trainer_of(still(config), targeted, Computing(precision, recorded=recorded)).train_epoch(1)[1]
        for recorded in (True, False)
    ]
    return abs(losses[0] - losses[1]) / losses[1]


def measure(
    preset: str,
    clips: ClipSet,
    features: FeatureBatches,
    precision: Precision,
    best: dict[str, float],
    *,
    compiled: bool,
) -> Steps:
    """Measure a preset."""
    config = load_head_config(preset)[1]
    device, size = features.device, config.training.batch_size
    targeted = TargetedBatches(features, objective_of(config))
    steps = -(-len(clips) // size)
    flops = step_flops(config, targeted)
    cosine, loss_gap = compare_precisions(config, targeted, precision)
    plain = plain_step(config, clips, device)
    batches = [list(range(start, start + size)) for start in range(0, min(len(clips), 6 * size), size)]
    for batch in batches[:2]:
        plain(batch)
    plain_s = statistics.median(seconds(lambda: plain(batch), device) for batch in batches[1:])  # noqa: B023
    trainer = trainer_of(config, targeted, Computing(precision))
    trainer.train_epoch(1)
    ours = min(seconds(lambda: trainer.train_epoch(epoch), device) for epoch in (2, 3)) / steps  # noqa: B023
    compiled_s = compiling = None
    if compiled:
        trainer = trainer_of(config, targeted, Computing(precision, compiled=True))
        first = seconds(lambda: trainer.train_epoch(1), device)
        compiled_s = min(seconds(lambda: trainer.train_epoch(epoch), device) for epoch in (2, 3)) / steps  # noqa: B023
        compiling = first - compiled_s * steps
    row_bytes = clips.first_reader.audio_dim * 2
    moved = size * int(clips.first_reader.valid_frames.max()) * row_bytes
    gather = min(seconds(lambda: _gather_all(features, batches), device) for _ in range(3)) / len(batches)
    return Steps(
        preset, precision, plain_s, ours, compiled_s, compiling, flops, flops / best[precision], gather,
        moved / best["copy"],
        cosine, loss_gap, compare_recorded(config, targeted, precision) if features.resident else None,
    )  # fmt: skip


def _gather_all(features: FeatureBatches, batches: list[list[int]]) -> None:
    for _ in features.stream(batches):
        pass


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


def as_table(found: Sequence[Steps], title: str) -> Table:
    """Lay out a line for each preset; "reading" is the speed of putting batches together as a share of copying."""
    table = Table(title=title, title_justify="left")
    for name in (
        "preset",
        "in",
        "plain",
        "ours",
        "compiled",
        "x plain",
        "limit",
        "of limit",
        "reading",
        "compile",
        "right",
    ):
        table.add_column(name, justify="left" if name in ("preset", "in") else "right", no_wrap=True)
    for each in found:
        table.add_row(
            each.preset, each.precision, _ms(each.plain), _ms(each.ours), _ms(each.compiled),
            f"{each.plain / each.best:.1f}", _ms(each.limit), f"{each.limit / each.best:.2f}",
            f"{each.copy / each.gather:.2f}",
            "" if each.compiling is None else f"{each.compiling:.1f} s", "yes" if each.right else "NO",
        )  # fmt: skip
    return table


def _ms(value: float | None) -> str:
    return "" if value is None else f"{1000 * value:.1f} ms"


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
            click.echo(f"{preset}: {_ms(found[-1].best)}", err=True)
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
        console.print(
            f"a step with the encoders inside, {result['encoders_inside']['batch']} clips, fp32: {_ms(spent)}"
        )
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
