"""How long evaluation and fusion take on one core; evaluation compared with what it takes without matrix products.

.venv/bin/python benchmarks/evaluate.py
.venv/bin/python benchmarks/evaluate.py --runs 1 --json
"""

import json
import os
from collections.abc import Callable

import click
import numpy as np
from figures import Figure, machine, seconds
from fusion import AT_MOST_S, MEMBERS, time_fusing
from fusion import CLIPS as FUSED
from rich.console import Console
from rich.table import Table
from scipy import stats
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from audiomos_cache.dataset.labels import Labels
from audiomos_cache.evaluation.bootstrap import bootstrap_intervals, draw_systems
from audiomos_cache.evaluation.comparison import compare
from audiomos_cache.evaluation.metrics import Points, points_of, scores_of
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.targets import VIEWS

CLIPS, SYSTEMS, RESAMPLES = 413, 31, 10_000
LOOPED = 20  # resamples of the loop over scipy, whose time is scaled to all of them


def made_up(seed: int) -> tuple[Predictions, Labels]:
    """Make labels and predictions of as many clips and systems as the challenge's test split has."""
    rng = np.random.default_rng(seed)
    ids = [f"S{number % SYSTEMS:03d}_P{number:03d}" for number in range(CLIPS)]
    system = np.arange(CLIPS) % SYSTEMS
    qualities = (rng.normal(3, 0.7, SYSTEMS)[system] + rng.normal(0, 0.6, CLIPS) for _ in range(2))
    mi, ta = (np.clip(quality, 1, 5).round(1) for quality in qualities)
    predictions = Predictions.build(ids, mi + rng.normal(0, 0.5, CLIPS), ta + rng.normal(0, 0.5, CLIPS))
    return predictions, Labels(tuple(ids), tuple(clip[:4] for clip in ids), mi, ta)


def measure_evaluation(runs: int) -> list[Figure]:
    """Compute all sixteen numbers with their intervals; and compare two predictions by both tests."""
    predictions, labels = made_up(1)
    points = points_of(predictions, labels)
    other = {view: Points(0.9 * each.predicted + 0.3, each.truth, each.system) for view, each in points.items()}

    def numbers() -> None:
        found = points_of(predictions, labels)
        scores_of(found)
        bootstrap_intervals(found, RESAMPLES)

    looped = RESAMPLES / LOOPED * seconds(lambda: loop_over_scipy(points, draw_systems(LOOPED, SYSTEMS, 0)))
    what = f"{CLIPS} clips, {SYSTEMS} systems, {RESAMPLES:,} resamples"
    return [
        timed("16 numbers and intervals", numbers, runs, 5, what),
        timed("comparison of two", lambda: compare(points, other, RESAMPLES), runs, None, f"{what} and swaps"),
        Figure("16 numbers, a loop over scipy", (looped,), "s", None, detail=f"{LOOPED} resamples, scaled up"),
    ]


def loop_over_scipy(points: dict[str, Points], counts: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    """Compute the sixteen numbers of resamples whose clips are really repeated."""
    for row in counts.astype(int):
        for view in VIEWS:
            times = row[points[view].system]
            x, y = np.repeat(points[view].predicted, times), np.repeat(points[view].truth, times)
            np.mean((x - y) ** 2)
            for measure in (stats.pearsonr, stats.spearmanr, stats.kendalltau):
                measure(x, y)


def timed(name: str, action: Callable[[], object], runs: int, goal: float | None, detail: str) -> Figure:
    """Measure an action after one run that does not count."""
    action()
    return Figure(name, tuple(seconds(action) for _ in range(runs)), "s", goal, at_most=True, detail=detail)


def measure_fusing(runs: int) -> list[Figure]:
    """Fuse without cross-validation, which only greedy needs; with the reading of files, see `fusion.py`."""
    what = f"{MEMBERS} members, {FUSED:,} clips, in memory"
    return [
        Figure(f"fuse by {times.method}", (times.in_memory.wall,), "s", AT_MOST_S, at_most=True, detail=what)
        for times in time_fusing(runs=runs)
    ]


MEASUREMENTS = (measure_evaluation, measure_fusing)


def as_table(figures: list[Figure]) -> Table:
    """Lay out a line for each figure."""
    table = Table(title="On one core", title_justify="left")
    for column in ("what", "median", "min", "max", "goal", "detail"):
        table.add_column(column, justify="left" if column in ("what", "detail") else "right")
    for figure in figures:
        times = (f"{value:.2f} {figure.unit}" for value in (figure.median, min(figure.values), max(figure.values)))
        goal = "" if figure.goal is None else f"< {figure.goal:g} {figure.unit}{'' if figure.met else ' !'}"
        table.add_row(figure.name, *times, goal, figure.detail)
    return table


@click.command()
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(runs: int, as_json: bool) -> None:
    """Measure evaluation and fusing on one core; a few minutes."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with threadpool_limits(1):
        figures = [figure for measure in MEASUREMENTS for figure in measure(runs)]
    if as_json:
        click.echo(json.dumps({"machine": machine(), "figures": [figure.as_json() for figure in figures]}, indent=1))
    else:
        Console(width=120).print(as_table(figures))
        click.echo(f"load: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
