"""How long fusing takes, without cross-validation: 14 members on as many clips as MusicEval has in all.

Greedy alone is cross-validated, because it chooses its number of steps so. A machine that does other work shows in the
wall time; the processor time next to it, of all threads, does not.

.venv/bin/python benchmarks/fusion.py
.venv/bin/python benchmarks/fusion.py --members 8 --clips 413 --json
"""

import json
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import click
import numpy as np
from figures import machine
from rich.console import Console
from rich.table import Table

from audiomos_cache.dataset.labels import Labels
from audiomos_cache.evaluation.predictions import Predictions, write_predictions
from audiomos_cache.fusion.align import join_members
from audiomos_cache.fusion.base import FittedFusion, Fusion, fusion_class
from audiomos_cache.fusion.fitting import fit as fit_fusion
from audiomos_cache.fusion.folds import Folds
from audiomos_cache.fusion.fuse import fuse
from audiomos_cache.registry import known
from audiomos_cache.targets import gaussian_distribution

MEMBERS, CLIPS, FIT_CLIPS, SYSTEMS, BINS = 14, 2748, 412, 31, 20
AT_MOST_S = 2.0


@dataclass(frozen=True)
class Seconds:
    """What something took, the median of some runs: on the wall, and of all processors together."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} ({self.cpu:.2f})"


@dataclass(frozen=True)
class FusingTimes:
    """How long a method takes.

    Attributes:
        method: how is blended.
        in_memory: to fit it on all clips, and to apply it to them.
        with_files: what `fuse` does: reading files of 412 clips and fitting it on them, reading files of all clips and
            applying it to them, and writing the results.
    """

    method: str
    in_memory: Seconds
    with_files: Seconds


def make_members(members: int, clips: int) -> tuple[list[Predictions], Labels]:
    """Make up labels, and members that know them but for noise, with distributions."""
    random = np.random.default_rng(0)
    ids = tuple(f"audiomos2025-track1-S{n % SYSTEMS:03d}_P{n // SYSTEMS:03d}" for n in range(clips))
    mi, ta = random.uniform(1, 5, (2, clips))

    def member() -> Predictions:
        scores = [(each + random.normal(0, 0.4, clips)).clip(1, 5) for each in (mi, ta)]
        return Predictions.build(ids, *scores, *(gaussian_distribution(each, BINS, 0.35) for each in scores))

    return [member() for _ in range(members)], Labels(ids, tuple(clip[20:24] for clip in ids), mi, ta)


def time_fusing(members: int = MEMBERS, clips: int = CLIPS, runs: int = 3) -> list[FusingTimes]:
    """Measure each method that is installed, fitted on all clips and applied to them."""
    logging.getLogger("audiomos_cache").setLevel(logging.ERROR)  # it warns of what made-up files do not say
    made, labels = make_members(members, clips)
    methods = [method for method in known("fusion") if method != "lightgbm" or find_spec("lightgbm")]
    with tempfile.TemporaryDirectory() as folder:
        fit, apply = ([Path(folder) / split / f"{n}.jsonl" for n in range(members)] for split in ("fit", "apply"))
        for fit_path, apply_path, predictions in zip(fit, apply, made, strict=True):
            write_predictions(fit_path, predictions.take(labels.ids[:FIT_CLIPS]))
            write_predictions(apply_path, predictions)
        labels_path = Path(folder) / "list.txt"
        rows = zip(labels.ids[:FIT_CLIPS], labels.mi.tolist(), labels.ta.tolist(), strict=False)
        labels_path.write_text("".join(f"{clip},{mi},{ta}\n" for clip, mi, ta in rows))

        def with_files(method: str) -> None:
            folds = 5 if method == "greedy" else 0
            out = Path(folder) / "out"
            fuse(fit, out=out, method=method, labels=labels_path, apply=apply, folds=folds, n_boot=0, overwrite=True)

        return [
            FusingTimes(
                method,
                _median_of(partial(_fuse_in_memory, method, made, labels), runs),
                _median_of(partial(with_files, method), runs),
            )
            for method in methods
        ]


def _fuse_in_memory(method: str, made: Sequence[Predictions], labels: Labels) -> None:
    names = [str(number) for number in range(len(made))]
    _, members = join_members(made, names)
    found = fusion_class(method)
    if issubclass(found, FittedFusion):
        fusion: Fusion = fit_fusion(found, members, labels, Folds.by("prompt", labels))
    else:
        fusion = found(names)
    fusion.apply(members)


def _median_of(work: Callable[[], None], runs: int) -> Seconds:
    def once() -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        return time.perf_counter() - wall, time.process_time() - cpu

    taken = [once() for _ in range(runs)]
    return Seconds(*(median(each) for each in zip(*taken, strict=True)))


@click.command()
@click.option("--members", type=click.IntRange(1), default=MEMBERS, show_default=True)
@click.option("--clips", type=click.IntRange(10), default=CLIPS, show_default=True)
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Of which the median counts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(members: int, clips: int, runs: int, as_json: bool) -> None:
    """Measure how long fusing takes."""
    times = time_fusing(members, clips, runs)
    if as_json:
        click.echo(json.dumps({"machine": machine(), "fusing": [asdict(each) for each in times]}, indent=1))
        return
    table = Table(
        title=f"{members} members x {clips} clips: s (of all processors); at most {AT_MOST_S:g}", title_justify="left"
    )
    for column in ("method", "fit and apply", "with files"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for each in times:
        table.add_row(each.method, str(each.in_memory), str(each.with_files))
    Console().print(table)


if __name__ == "__main__":
    main()
