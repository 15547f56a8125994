"""What it costs to open a file of very many clips, measured in a process of its own."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from figures import Figure, seconds
from samples import FRAME_BYTES, SPLIT, write_many_clips

from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.reader import CacheReader

CLIPS = 2_000_000


def measure_open(folder: Path, runs: int) -> list[Figure]:
    """Write a file of 2,000,000 clips and open it."""
    path = folder / f"{SPLIT}.h5"
    folder.mkdir()
    spent = seconds(lambda: write_many_clips(path, CLIPS))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        times, grown = pool.submit(_open, folder, runs).result()
    written = f"{CLIPS:,} clips, written in {spent:.0f} s"
    per_clip = {name: size / CLIPS for name, size in grown.items()}
    return [
        Figure("open", tuple(time * 1e3 for time in times), "ms", 50, at_most=True, detail=written),
        Figure("memory: opened", (per_clip["opened"],), "B/clip", 64, at_most=True),
        Figure("memory: and read for training", (per_clip["read"],), "B/clip", 64, at_most=True, detail="no ids"),
        Figure("memory: and ids", (per_clip["ids"],), "B/clip", None, detail="a Python string each"),
        Figure("index on disk", (path.stat().st_size / CLIPS - FRAME_BYTES,), "B/clip", None, detail="ids and all"),
    ]


def _open(folder: Path, runs: int) -> tuple[list[float], dict[str, int]]:
    """Return how long opening takes each time, and by how much memory has grown since before at each stage."""
    path = folder / f"{SPLIT}.h5"
    times = [seconds(lambda: CacheFile(path)) for _ in range(runs + 1)][1:]
    before = _own_memory()
    reader = CacheReader(folder, SPLIT)
    grown = {"opened": _own_memory() - before}
    assert len(reader.mi) == len(reader.ta) == len(reader.valid_frames) == len(reader)
    assert reader.prompt(len(reader) - 1)
    assert len(reader.read_frames(len(reader) - 1)) == 1
    grown["read"] = _own_memory() - before
    assert len(reader.ids) == len(reader)
    grown["ids"] = _own_memory() - before
    return times, grown


def _own_memory() -> int:
    """Return the bytes that this process holds, without what is the page cache's."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024
