"""How close the cache comes to what the machine can do: each ratio is to a limit measured in turns with it.

.venv/bin/python benchmarks/cache_io.py --clips 300
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

import click
import numpy as np
from figures import Figure, Trial, in_turns, machine, ratios, seconds
from limits import copy_from_memory, forget, read_in_order, write_whole
from numpy.typing import NDArray
from opening import measure_open
from rich.console import Console
from rich.table import Table
from samples import DIM, DTYPE, MOST_FRAMES, PROMPTS, SPLIT, Sample

from audiomos_cache.cache import paths
from audiomos_cache.cache.file_writer import write_file
from audiomos_cache.cache.parts import CLIPS_PER_PART, write_part
from audiomos_cache.cache.publish import done_clips, publish_split, split_and_parts
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cache.verify import verify_file

BATCH = 32
BATCHES_PER_RUN = 8
ONE_WRITE = "one write"

Fill = Callable[[int, NDArray[Any]], None]


def measure_parts(sample: Sample, folder: Path, runs: int) -> list[Figure]:
    """Publish a part of 256 clips; in turns, write as many bytes in one file."""
    cache, whole = folder / "part", folder / "whole"
    records, frames = sample.records[:CLIPS_PER_PART], sample.frames[:CLIPS_PER_PART]
    final = paths.part_path(cache, SPLIT, [clip.id for clip in records])
    cache.mkdir()
    paths.make_parts_folder(cache, SPLIT)
    content = np.concatenate(frames, axis=1)

    def not_read_back() -> None:
        temporary = paths.temporary_path(final)
        write_file(temporary, sample.header, records, PROMPTS, frames)
        paths.publish(temporary, final)

    trials: dict[str, Trial] = {
        ONE_WRITE: _making(whole, lambda: write_whole(whole, content)),
        "part": _making(final, lambda: write_part(cache, sample.header, records, PROMPTS, frames)),
        "part, not read back": _making(final, not_read_back),
    }
    return ratios(in_turns(trials, runs), ONE_WRITE, content.nbytes, {"part": 0.5, "part, not read back": None})


def measure_publish(sample: Sample, folder: Path, runs: int) -> list[Figure]:
    """Make `folder`/cache/train.h5 of parts; in turns, write as many bytes in one file."""
    parts, cache, whole = folder / "parts", folder / "cache", folder / "whole"
    parts.mkdir()
    for start in range(0, len(sample.records), CLIPS_PER_PART):
        chosen = slice(start, start + CLIPS_PER_PART)
        write_part(parts, sample.header, sample.records[chosen], PROMPTS, sample.frames[chosen])
    order = {record.id: record.position for record in sample.records}

    def publish() -> float:
        shutil.rmtree(cache, ignore_errors=True)
        shutil.copytree(parts, cache)
        os.sync()
        done = done_clips(split_and_parts(cache, SPLIT))
        return seconds(lambda: publish_split(cache, sample.header, order, done))

    trials: dict[str, Trial] = {
        ONE_WRITE: _making(whole, lambda: write_whole(whole, sample.content)),
        "publish": publish,
    }
    taken = in_turns(trials, runs)
    shutil.rmtree(parts)
    return ratios(taken, ONE_WRITE, sample.content.nbytes, {"publish": 0.25})


def measure_gather(sample: Sample, cache: Path, runs: int) -> list[Figure]:
    """Gather random clips into a padded batch; in turns, copy the same ones from memory."""
    reader = CacheReader(cache, SPLIT)
    out = np.zeros((BATCH, MOST_FRAMES, DIM), DTYPE)

    def read(index: int, row: NDArray[Any]) -> None:
        row[len(reader.read_frames(index, row)) :] = 0

    def copy(index: int, row: NDArray[Any]) -> None:
        copy_from_memory(sample.frames[index][0], row)

    def repeated(fill: Fill, threads: Callable[..., Iterable[object]] = map) -> Trial:
        rng = np.random.default_rng(1)  # the same clips for all

        def trial() -> float:
            batches = rng.integers(len(reader), size=(BATCHES_PER_RUN, BATCH)).tolist()
            return seconds(lambda: [list(threads(fill, indices, out)) for indices in batches])

        return trial

    def halves(fill: Fill, indices: Sequence[int], rows: NDArray[Any]) -> Iterable[object]:
        return pool.map(lambda k: list(map(fill, indices[k::2], rows[k::2])), range(2))

    with ThreadPoolExecutor(2) as pool:
        trials = {
            "copy": repeated(copy),
            "gather, 1 thread": repeated(read),
            "gather, 2 threads": repeated(read, pool.map),
            "gather, 2 threads, 16 rows each": repeated(read, halves),
            "copy, 2 threads": repeated(copy, pool.map),
        }
        taken = in_turns(trials, runs)
    goals = {
        "gather, 1 thread": 0.45,
        "gather, 2 threads": 0.7,
        "gather, 2 threads, 16 rows each": 0.7,
        "copy, 2 threads": None,
    }
    return ratios(taken, "copy", BATCHES_PER_RUN * out.nbytes, goals)


def measure_verify(path: Path, runs: int) -> list[Figure]:
    """Verify a finished file; in turns, read it from its begin to its end."""

    def verify() -> None:
        if verify_file(path).damaged:
            raise click.ClickException(f"{path}: damaged")

    def cold(action: Callable[[], None]) -> Trial:
        def trial() -> float:
            forget(path)
            return seconds(action)

        return trial

    def in_order() -> None:
        read_in_order(path)

    warm: dict[str, Trial] = {"one read": lambda: seconds(in_order), "verify, warm": lambda: seconds(verify)}
    size = path.stat().st_size
    figures = ratios(in_turns(warm, runs), "one read", size, {"verify, warm": 0.6})
    if forget(path):
        taken = in_turns({"one read": cold(in_order), "verify, cold": cold(verify)}, runs)
        figures += ratios(taken, "one read", size, {"verify, cold": 0.6})
    return figures


def _making(path: Path, action: Callable[[], None]) -> Trial:
    """Return a trial of an action that makes a new file, which is removed before."""

    def trial() -> float:
        path.unlink(missing_ok=True)
        os.sync()
        return seconds(action)

    return trial


def print_table(figures: Sequence[Figure], caption: str) -> None:
    table = Table("what", "median", "min", "max", "unit", "goal", "met", "detail", caption=caption)
    for column in table.columns[1:4]:
        column.justify = "right"
    for figure in figures:
        goal = "" if figure.goal is None else f"{'<=' if figure.at_most else '>='} {figure.goal:g}"
        met = {None: "", True: "yes", False: "NO"}[figure.met]
        numbers = (f"{value:.3g}" for value in (figure.median, min(figure.values), max(figure.values)))
        table.add_row(figure.name, *numbers, figure.unit, goal, met, figure.detail)
    Console(width=None if os.isatty(1) else 120).print(table)


@click.command
@click.option("--clips", default=1000, show_default=True, type=click.IntRange(min=BATCH), help="About 1 MB each.")
@click.option("--folder", type=click.Path(path_type=Path), help="On the disk to measure; by default a temporary one.")
@click.option("--runs", default=7, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--json", "json_to", type=click.File("w"), help="Write the figures there too; - for stdout, without the table."
)
@click.option("--no-open", is_flag=True, help="Leave out the file of 2,000,000 clips, which takes half a minute.")
def main(clips: int, folder: Path | None, runs: int, json_to: TextIO | None, no_open: bool) -> None:
    """Measure how close the cache comes to what this machine can do."""
    where = machine()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(dir=folder, prefix="cache_io-") as name:
        work = Path(name)
        click.echo(f"making {clips} clips in memory", err=True)
        sample = Sample(clips)
        stages: dict[str, Callable[[], list[Figure]]] = {
            "parts": lambda: measure_parts(sample, work, runs),
            "publishing": lambda: measure_publish(sample, work, runs),
            "gathering": lambda: measure_gather(sample, work / "cache", runs),
            "verifying": lambda: measure_verify(work / "cache" / f"{SPLIT}.h5", runs),
        }
        if not no_open:
            stages["opening"] = lambda: measure_open(work / "many", runs)
        for title, measure in stages.items():
            click.echo(f"measuring {title}", err=True)
            figures += measure()
    if json_to:
        json.dump({"machine": where, "clips": clips, "figures": [f.as_json() for f in figures]}, json_to, indent=2)
        json_to.write("\n")
    if json_to is None or json_to.name != "<stdout>":
        print_table(figures, f"{where['cores']} cores, load {where['load'][0]:.1f} before; each clip about 1 MB")


if __name__ == "__main__":
    main()
