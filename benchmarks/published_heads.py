"""What the published heads cost beside the encoder: one clip, a random MuQ of full size and heads of published size.

Seconds of the processor, encoder and heads in turns in one run, so that other work on the machine changes the ratio
little; and the memory of an encoding, beside what `MuQEncoder.working_bytes` expects of it.

.venv/bin/python benchmarks/published_heads.py                    # on two CPU cores: about two minutes
.venv/bin/python benchmarks/published_heads.py --seconds 120 --runs 1
"""

import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import torch
from full_size import FULL_MUQ_CONFIG
from torch import nn

from audiomos_cache.encoders.muq import MuQEncoder, build_muq
from audiomos_cache.published import madb, muq_eval, songeval
from audiomos_cache.published.catalogue import PUBLISHED

_DIM, _WIDE, _HIDDEN = 1024, 4096, 256


def heads() -> dict[str, nn.Module]:
    """Return heads of published size with random weights."""
    songeval_targets, madb_targets = (
        tuple(target.name for target in PUBLISHED[name].targets) for name in ("songeval", "madb")
    )
    made = {
        "muq-eval-a1": muq_eval.MuQEvalHead(_DIM, 128, _HIDDEN),
        "songeval": songeval.SongEvalHead(_DIM, _WIDE, songeval_targets),
        "madb": madb.MadbHeads(_DIM, madb_targets),
    }
    return {name: head.eval().requires_grad_(False) for name, head in made.items()}


def processor_seconds(work: Callable[[], object]) -> float:
    """Return what some work takes of all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def peak_bytes() -> int:
    """Return the most memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@click.command()
@click.option("--seconds", "length", type=float, default=30.0, show_default=True, help="Of the clip.")
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True)
def main(length: float, runs: int) -> None:
    """Encode a clip of noise and score it, once without counting it."""
    with TemporaryDirectory() as folder:
        encoder = MuQEncoder(build_muq(FULL_MUQ_CONFIG), name="muq-random", source=str(Path(folder)), revision="none")
    made, mask, token = heads(), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, 1)
    waveform = torch.randn(1, round(length * encoder.sample_rate_hz)) * 0.1
    taken: dict[str, list[float]] = {name: [] for name in ("encoder", *made)}
    before = peak_bytes()
    for run in range(runs + 1):
        frames = torch.empty(0)

        def encode() -> None:
            nonlocal frames
            frames = encoder.encode(waveform)[0]

        spent = {"encoder": processor_seconds(encode)}
        if not run:
            memory = peak_bytes() - before
        with torch.inference_mode():
            for name, head in made.items():
                spent[name] = processor_seconds(partial(head, frames, mask, token, mask))
        if run:
            for name, each in spent.items():
                taken[name].append(each)
    click.echo(f"a clip of {length:g} s, fp32, cpu, {torch.get_num_threads()} threads, {runs} runs")
    whole = statistics.median(taken["encoder"])
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        click.echo(f"{name}: {median:.2f} s of the processor, {median / whole:.4f} of the encoder")
    together = statistics.median(sum(taken[name][run] for name in made) for run in range(runs))
    click.echo(f"all heads: {together:.2f} s of the processor, {together / whole:.4f} of the encoder")
    click.echo(
        f"memory of the encoding: {memory / 1e9:.2f} GB, expected {encoder.working_bytes(waveform.shape[1]) / 1e9:.2f}"
    )


if __name__ == "__main__":
    main()
