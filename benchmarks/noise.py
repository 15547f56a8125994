"""What more and more noise does to MI: the mean of each system, clip by clip the same noise, louder.

A model of music impression must not like noise. White noise also fills the bands that a low-passed clip has lost, which
may make it resemble another clip; shaped noise has the clip's own spectrum, with random phases. Needs a dataset and a
bundle, such as those that the demo makes:

audiomos-cache demo --out demo
.venv/bin/python benchmarks/noise.py --data demo/data --split test --bundle demo/model
"""

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from audiomos_cache.dataset.clip import Clip
from audiomos_cache.dataset.loading import load_dataset
from audiomos_cache.scoring.scorer import Scorer

SNRS_DB = (30.0, 20.0, 10.0, 0.0)


def with_noise(samples: NDArray[np.float32], snr_db: float | None, kind: str, seed: int) -> NDArray[np.float32]:
    """Add noise to (n,) samples, so many dB below them; None: none."""
    if snr_db is None:
        return samples
    noise = np.random.default_rng(seed).standard_normal(len(samples))
    if kind == "shaped":
        phases = np.exp(1j * np.angle(np.fft.rfft(noise)))
        noise = np.fft.irfft(abs(np.fft.rfft(samples)) * phases, len(samples))
    power = np.mean(samples.astype(np.float64) ** 2) / np.mean(noise**2) / 10 ** (snr_db / 10)
    return np.asarray(samples + noise * np.sqrt(power), np.float32)


def mean_mi(scorer: Scorer, clips: list[Clip], snr_db: float | None, kind: str) -> dict[str, float]:
    """Return the mean MI of each system's clips, with noise."""
    found = defaultdict(list)
    for index, clip in enumerate(clips):
        samples, rate = soundfile.read(clip.path, dtype="float32", always_2d=True)
        (score,) = scorer.score([with_noise(samples.mean(axis=1), snr_db, kind, index)], sample_rate=rate)
        found[clip.system].append(score.mi)
    return {system: float(np.mean([mi for mi in each if mi is not None])) for system, each in sorted(found.items())}


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A dataset that extract takes.")
@click.option("--split", default="test", show_default=True)
@click.option("--bundle", required=True)
@click.option("--noise", "kind", type=click.Choice(["shaped", "white"]), default="white", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(data: Path, split: str, bundle: str, kind: str, as_json: bool) -> None:
    """Score a split with more and more noise."""
    scorer = Scorer(bundle)
    (clips,) = load_dataset(data, (split,)).values()
    levels = (None, *SNRS_DB)
    means = {level: mean_mi(scorer, list(clips), level, kind) for level in levels}
    systems = list(means[None])
    rises = [
        (system, after, means[after][system] - means[before][system])
        for system in systems
        for before, after in pairwise(levels)
        if means[after][system] > means[before][system]
    ]
    if as_json:
        click.echo(json.dumps({"means": {str(level): each for level, each in means.items()}, "rises": rises}))
    else:
        table = Table(title=f"mean MI of {len(clips)} clips of {split}, by system, {kind} noise", title_justify="left")
        for column in ("system", "as it is", *(f"{snr:g} dB SNR" for snr in SNRS_DB)):
            table.add_column(column, justify="left" if column == "system" else "right")
        for system in systems:
            table.add_row(system, *(f"{means[level][system]:.3f}" for level in levels))
        Console(width=110).print(table)
    for system, level, rise in rises:
        click.echo(f"{system}: noise at {level:g} dB raises the mean MI by {rise:.4f}", err=True)
    if rises:
        raise click.ClickException(f"more noise raised a system's mean MI {len(rises)} times")


if __name__ == "__main__":
    main()
