"""Reading everything in a cache to find what is damaged."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from audiomos_cache.batch import chunks
from audiomos_cache.cache import paths
from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.format import COLUMNS
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cache.stable_file import Buffer
from audiomos_cache.errors import CacheError
from audiomos_cache.progress import Progress as WorkProgress
from audiomos_cache.progress import counted, no_progress

READ_THREADS = max(2, min(8, (os.cpu_count() or 2) // 2))
CLIPS_AT_ONCE = 64

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class FileReport:
    """What is whole and what is damaged in a cache file.

    Attributes:
        path: the file.
        file: None where the file itself cannot be used.
        whole: indices of the clips whose frames and prompt match their hashes.
        damaged: a line for each clip or prompt that does not, or for the file itself.
    """

    path: Path
    file: CacheFile | None = None
    whole: list[int] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class VerifyResult:
    """What `verify` found in a cache.

    Attributes:
        cache: its folder.
        whole: of each split that could be read, how many clips are whole.
        damaged: of each split, a line for each damaged clip, prompt or file; empty where all is whole.
    """

    cache: Path
    whole: Mapping[str, int]
    damaged: Mapping[str, Sequence[str]]

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not any(self.damaged.values())

    def lines(self) -> list[str]:
        """Return a line for each split, and one for each damaged item after it."""
        lines = []
        for split, found in self.damaged.items():
            if split in self.whole:
                lines.append(
                    f"{split}: {counted(self.whole[split], 'clip')} whole, {counted(len(found), 'item')} damaged"
                )
                lines += found
            else:
                lines += [f"{split}: {line}" for line in found]
        return lines

    def __repr__(self) -> str:
        found = "nothing is damaged" if self.ok else "damaged"
        return "\n  ".join([f"VerifyResult of {self.cache}: {found}", *self.lines()])

    def to_dict(self) -> dict[str, Any]:
        """Return values that JSON can hold."""
        damaged = {split: list(lines) for split, lines in self.damaged.items()}
        return {"cache": str(self.cache), "ok": self.ok, "whole": dict(self.whole), "damaged": damaged}

    def raise_if_damaged(self) -> None:
        """Raise CacheError where something is damaged."""
        if count := sum(map(len, self.damaged.values())):
            raise CacheError(f"{self.cache}: {count} damaged items; extract with --repair encodes only what was lost")


def verify(
    cache: str | PathLike[str], split: str | Sequence[str] = (), *, progress: WorkProgress = no_progress
) -> VerifyResult:
    """Read every feature of a cache, and check it against its hash. Nothing is changed.

    Args:
        cache: the cache folder.
        split: the split to read, or several; none means all, finished or not.
        progress: called with (file, done, total) clips.
    Returns:
        What is whole and what is damaged; extract with `repair` encodes only what was lost.
    Raises:
        CacheError: the cache or split does not exist.

    >>> verify("cache/tiny", "dev").ok
    True
    """
    cache = Path(cache)
    whole, damaged = {}, {}
    for name in paths.require_names(cache, [split] if isinstance(split, str) else list(split)):
        try:
            reports = verify_split(cache, name, lambda path, *counts: progress(f"verify {path.name}", *counts))
        except CacheError as error:  # the other splits are still read
            damaged[name] = [str(error)]
        else:
            whole[name] = sum(len(report.whole) for report in reports)
            damaged[name] = [line for report in reports for line in report.damaged]
    return VerifyResult(cache, whole, damaged)


def verify_split(
    cache: Path, split: str, on_clip: Callable[[Path, int, int], None] = lambda _path, _done, _total: None
) -> list[FileReport]:
    """Read every file of a split, finished ones and parts.

    Args:
        cache, split: which.
        on_clip: called with the file and (done, total) of its clips.
    Raises:
        CacheError: the split does not exist, or one of its files is missing.
    """

    def verify(path: Path) -> FileReport:
        return verify_file(path, lambda done, total: on_clip(path, done, total))

    reports: dict[Path, FileReport] = {}
    while left := [path for path in _files(cache, split) if path not in reports]:
        reports |= {path: verify(path) for path in left}
        # Another process may have published parts and removed them in the meantime.
        reports = {path: report for path, report in reports.items() if not report.damaged or path.exists()}
    files = [report.file for report in reports.values() if report.file]
    first = next((file.header.fingerprint for file in files), None)
    for report in reports.values():
        if report.file and first and report.file.header.fingerprint != first:
            report.damaged.append(f"{report.path}: has another fingerprint than {files[0].path}; remove one of them")
    if len(files) == len(reports) and (paths.every_file(cache, split) or not paths.part_files(cache, split)):
        CacheReader(cache, split)
    return list(reports.values())


def _files(cache: Path, split: str) -> list[Path]:
    return paths.every_file(cache, split) + paths.part_files(cache, split)


def verify_file(path: Path, on_clip: Progress = lambda _done, _total: None, *, frames: bool = True) -> FileReport:
    """Read every index column, clip and prompt of a file, finished or part, and check them.

    Args:
        path: the file.
        on_clip: called with (done, total) clips.
        frames: read the clips' frames too; otherwise they are taken to be whole.
    """
    report = FileReport(path)
    try:
        file = CacheFile(path, keep_open=True)  # opened for each clip, it would take a tenth longer
        for name in COLUMNS:
            file.column(name)
        rows = [file.prompt_row(index) for index, _ in enumerate(file.ids)]
        prompts = file.prompts
    except CacheError as error:
        report.damaged.append(str(error))
        return report
    report.file = file
    bad_prompts = set()
    for row in range(len(prompts)):
        try:
            file.read_prompt(row)
        except CacheError as error:
            bad_prompts.add(row)
            report.damaged.append(str(error))
    for index, problem in enumerate(_problems(file) if frames else [""] * len(file)):
        if problem:
            report.damaged.append(problem)
        elif rows[index] not in bad_prompts:
            report.whole.append(index)
        on_clip(index + 1, len(file))
    file.release()
    return report


def _problems(file: CacheFile) -> Iterator[str]:
    """Read every clip, several at once, and yield what is wrong with each; nothing: an empty string."""
    memory = threading.local()

    def read(index: int, buffer: Buffer) -> str:
        out = buffer.take((file.frames_of(index), file.header.audio_dim), file.header.dtype)
        try:
            for layer in file.header.layers:
                file.read_frames(index, out, layer=layer, padding=True)
        except CacheError as error:
            return str(error)
        return ""

    def read_some(indices: Sequence[int]) -> list[str]:
        buffer: Buffer = memory.__dict__.setdefault("buffer", Buffer())
        return [read(index, buffer) for index in indices]

    with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="verify") as pool:
        for window in chunks(range(len(file)), READ_THREADS * CLIPS_AT_ONCE):
            for problems in pool.map(read_some, chunks(window, CLIPS_AT_ONCE)):
                yield from problems
