"""How long MuQ takes for a clip: a random one of full size, as `extract` and `score` run it, clip by clip.

Besides the time on the clock, the processor's time divided by the threads that compute: where a machine does other work
too, it is nearer to the time on a quiet one.

.venv/bin/python benchmarks/encoder.py                     # on two CPU cores: some two minutes
.venv/bin/python benchmarks/encoder.py --device cuda
"""

import json
import statistics
import time

import click
import torch
from extraction import full_encoders
from figures import machine
from scoring import wait

from audiomos_cache.encoders.base import Precision


@click.command()
@click.option("--seconds", "length", type=float, default=30.0, show_default=True, help="Of the clip.")
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--precision", type=click.Choice(["fp16", "bf16", "fp32"]), help="[default: fp16 on a GPU, fp32 on a CPU]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
def main(length: float, runs: int, device: str, precision: Precision | None, as_json: bool) -> None:
    """Encode a clip of noise, once without counting it."""
    precision = precision or ("fp16" if device == "cuda" else "fp32")
    audio, _ = full_encoders(device, precision)
    waveform = torch.randn(1, round(length * audio.sample_rate_hz), device=device) * 0.1
    taken: dict[str, list[float]] = {"on the clock": [], "of the processor, by threads": []}
    threads = torch.get_num_threads()
    for run in range(runs + 1):
        clock, processor = time.perf_counter(), time.process_time()
        audio.encode(waveform)
        wait(audio.device)
        if run:
            taken["on the clock"].append(time.perf_counter() - clock)
            taken["of the processor, by threads"].append((time.process_time() - processor) / threads)
    facts = machine() | {"torch": torch.__version__, "device": device, "precision": precision, "threads": threads,
                         "seconds": length, "runs": runs}  # fmt: skip
    if as_json:
        click.echo(json.dumps({"machine": facts, "taken_s": taken}, indent=1))
        return
    click.echo(f"a clip of {length:g} s, {audio.name}, {precision}, {device}, {threads} threads, {runs} runs")
    for name, spent in taken.items():
        click.echo(f"seconds {name}: median {statistics.median(spent):.1f}, {min(spent):.1f} to {max(spent):.1f}")


if __name__ == "__main__":
    main()
