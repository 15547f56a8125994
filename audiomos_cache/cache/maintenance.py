"""Whole caches: join them, set damaged files aside, describe what they hold."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.cache import paths as cache_paths
from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.format import Header, hash_list
from audiomos_cache.cache.paths import require_names, split_names
from audiomos_cache.cache.publish import (
    BYTES_PER_FILE,
    Done,
    copy_clips,
    publish_checked,
    publish_split,
    require_one_fingerprint,
    split_and_parts,
)
from audiomos_cache.cache.reader import open_cache
from audiomos_cache.cache.verify import FileReport, verify_file
from audiomos_cache.errors import (
    ArgumentError,
    CacheError,
    FormatVersionError,
    OutputExistsError,
    first_five,
    paths_of,
    quoted,
)
from audiomos_cache.files import real_path
from audiomos_cache.progress import Progress, counted, no_progress


@dataclass(slots=True)
class MergedSplit:
    """A merged split: its number of clips, and its files."""

    split: str
    clips: int
    files: list[Path]


@dataclass(frozen=True)
class MergeResult:
    """What `merge` made: the folder, and each split."""

    out: Path
    splits: tuple[MergedSplit, ...]

    def lines(self) -> list[str]:
        """Return a line for each split."""
        return [
            f"{each.split}: {counted(each.clips, 'clip')} in {', '.join(map(str, each.files))}" for each in self.splits
        ]

    def __repr__(self) -> str:
        return "\n  ".join([f"MergeResult in {self.out}", *self.lines()])

    def to_dict(self) -> dict[str, Any]:
        """Return values that JSON can hold."""
        splits = {each.split: {"clips": each.clips, "files": list(map(str, each.files))} for each in self.splits}
        return {"out": str(self.out), "splits": splits}


@dataclass(slots=True)
class _List:
    """The clips of one dataset's list of a split, gathered from shards.

    Attributes:
        header: of the first file.
        done: where each clip's features are: id -> (file, index in it).
        skipped: reasons of clips that were left out.
    """

    header: Header
    done: dict[str, tuple[CacheFile, int]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def left_out(self) -> tuple[tuple[str, str], ...]:
        return tuple((clip_id, reason) for clip_id, reason in self.skipped.items() if clip_id not in self.done)


def merge(
    caches: str | PathLike[str] | Sequence[str | PathLike[str]],
    out: str | PathLike[str],
    *,
    bytes_per_file: int = BYTES_PER_FILE,
    progress: Progress = no_progress,
) -> MergeResult:
    """Join caches, or the shards of one, into a new cache; the merged ones stay as they are.

    Shards of one dataset give what a single extraction of it with the same number of threads gives, byte for byte.
    Clips of different datasets come one after the other, in the order of `caches`.

    Args:
        caches: a cache folder, or several, finished or not, of one fingerprint.
        out: the folder of the new cache.
        bytes_per_file: a split is cut into several files where it is larger.
        progress: called with (split, done, total) clips.
    Raises:
        CacheError: different fingerprints, a clip that two sources have, clips that none has, damaged features.
        ArgumentError: a folder that is given twice. OutputExistsError: `out` has the split already, with other content.

    >>> merge(["cache/tiny"], "cache/joined")
    MergeResult in cache/joined
      dev: 8 clips in cache/joined/dev.h5
      eval: 8 clips in cache/joined/eval.h5
      train: 16 clips in cache/joined/train.h5
    """
    sources, out = paths_of("caches", caches), Path(out)
    if real_path(out) in [real_path(source) for source in sources]:
        raise OutputExistsError(f"{out}: is one of the caches to merge, which stay as they are; give another --out")
    resolved = [real_path(source) for source in sources]
    if twice := [str(source) for index, source in enumerate(sources) if resolved.index(real_path(source)) < index]:
        raise ArgumentError(f"given more than once: {first_five(twice)}; give each cache once")
    names = _names(sources)
    files = {name: [split_and_parts(source, name) for source in sources] for name in names}
    there = [split_and_parts(out, name) for name in cache_paths.all_names(out)]
    every = [file for own in (*chain(*files.values()), *there) for file in own]
    require_one_fingerprint(every, "only caches of one fingerprint can be merged")
    lists = {name: _gather(name, sources, files[name]) for name in names}  # all refusals come before the first write
    merged = []
    for name in names:
        with cache_paths.locked_split(out, name) as sure:
            if sure:
                cache_paths.clear_temporaries(out, name)
            paths = _publish(out, name, lists[name], bytes_per_file, progress)
        merged.append(MergedSplit(name, sum(len(each.done) for each in lists[name]), paths))
    return MergeResult(out, tuple(merged))


def _names(sources: Sequence[Path]) -> list[str]:
    """Return all splits that the sources have. A shard that had no clips to do leaves its lock file alone."""
    names = {name for source in sources for name in cache_paths.all_names(source)}
    for source in sources:
        if not names or not (cache_paths.all_names(source) or any(source.glob("*.lock"))):
            raise CacheError(f"{source}: no split in it, expected one, finished or not; give folders of extract")
    return sorted(names)


def _gather(split: str, sources: Sequence[Path], files: Sequence[Sequence[CacheFile]]) -> list[_List]:
    """Collect the clips of each dataset's list, refusing clips that come twice and clips that are missing."""
    lists: dict[str, _List] = {}
    origin: dict[str, Path] = {}
    twice = []
    for source, own in zip(sources, files, strict=True):
        for file in own:
            gathered = lists.setdefault(file.header.list_hash, _List(file.header))
            gathered.skipped |= dict(file.header.skipped)
            for index, clip_id in enumerate(file.ids):
                if origin.setdefault(clip_id, source) != source:
                    twice.append(f"{clip_id} ({origin[clip_id]}, {source})")
                gathered.done[clip_id] = (file, index)
    if twice:
        raise CacheError(
            f"split {quoted(split)}: clips that are in two caches: {first_five(twice)}; leave one cache out"
        )
    for gathered in lists.values():
        missing = gathered.header.list_length - len(gathered.done) - len(gathered.left_out())
        if missing:
            raise CacheError(
                f"split {quoted(split)}: {missing} of {gathered.header.list_length} clips are in none of the caches; "
                "give the folders of all shards, or run extract again where it was interrupted"
            )
    return list(lists.values())


def _publish(out: Path, split: str, lists: Sequence[_List], bytes_per_file: int, progress: Progress) -> list[Path]:
    """Write a split's files, its clips in the order of their datasets' lists, one dataset after the other."""
    order: dict[str, int] = {}
    before = 0
    for gathered in lists:
        positions = {i: int(file.column("clips/position")[index]) for i, (file, index) in gathered.done.items()}
        order |= {clip_id: before + positions[clip_id] for clip_id in sorted(positions, key=positions.__getitem__)}
        before += gathered.header.list_length
    hashes = [gathered.header.list_hash for gathered in lists]
    header = replace(
        lists[0].header,
        skipped=tuple(pair for gathered in lists for pair in gathered.left_out()),
        list_hash=hashes[0] if len(hashes) == 1 else hash_list(hashes),
        list_length=before,
    )
    done = {clip_id: where for gathered in lists for clip_id, where in gathered.done.items()}
    _refuse_other_content(out, split, done)
    return publish_split(
        out, header, order, done, bytes_per_file=bytes_per_file,
        progress=lambda finished, total: progress(f"merge {split}", finished, total),
    )  # fmt: skip


def _refuse_other_content(out: Path, split: str, done: Done) -> None:
    """Refuse to write where clips would be lost. Those that are in `done` too may be of an interrupted merge."""
    for file in split_and_parts(out, split):
        others = []
        for index, clip_id in enumerate(file.ids):
            other, its_index = done.get(clip_id, (None, 0))
            if other is None or not _same(file, index, other, its_index):
                others.append(clip_id)
        if others:
            raise OutputExistsError(
                f"{file.path}: exists already and holds other clips: {first_five(others)}; give another --out"
            )


def _same(file: CacheFile, index: int, other: CacheFile, its_index: int) -> bool:
    """Return whether two files have the same clip: labels, prompt and features; its position in a list may differ."""
    clips = [replace(each.clip(at), position=0) for each, at in ((file, index), (other, its_index))]
    prompts = [
        each.column("text/feature_hash")[each.prompt_row(at)].tobytes()
        for each, at in ((file, index), (other, its_index))
    ]
    return repr(clips[0]) == repr(clips[1]) and prompts[0] == prompts[1]  # as strings, since NaN labels are not equal


def set_damaged_aside(cache: Path, split: str, fingerprint: Fingerprint) -> list[str]:
    """Move damaged files of a split out of the way, after saving their whole clips in a part.

    An extraction that follows encodes only the clips that were lost. Call with the lock held.

    Args:
        cache, split: which.
        fingerprint: what the extraction will write.
    Returns:
        A line for each damaged item.
    Raises:
        CacheError: a file is whole, and of another format version or fingerprint; nothing has been moved then.
    """
    paths = cache_paths.every_file(cache, split) + cache_paths.part_files(cache, split)
    for path in paths:
        _refuse_foreign(path, fingerprint)
    damaged = []
    for path in paths:
        report = verify_file(path)
        if report.damaged:
            damaged += report.damaged
            _save_whole_clips(cache, split, report)
            cache_paths.set_aside(path)
    return damaged


def _refuse_foreign(path: Path, fingerprint: Fingerprint) -> None:
    """Refuse a file that is not damaged but another version's, or made by other encoders or options."""
    try:
        found = CacheFile(path).header.fingerprint
    except FormatVersionError:
        raise
    except CacheError:
        return
    found.require(fingerprint, str(path), "repair with the options that this cache was made with")


def _save_whole_clips(cache: Path, split: str, report: FileReport) -> None:
    if report.file is None or not report.whole:
        return
    final = cache_paths.part_path(cache, split, (report.file.ids[index] for index in report.whole))
    if not final.exists():
        cache_paths.make_parts_folder(cache, split)
        temporary = cache_paths.temporary_path(final)
        sources = [(report.file, index) for index in report.whole]
        copy_clips(temporary, replace(report.file.header, complete=False, file_index=0, file_count=1), sources)
        publish_checked(temporary, final)


def describe_cache(cache: Path) -> dict[str, Any]:
    """Describe every split of a cache, finished or not.

    Returns:
        `fingerprint`, `fingerprint_fields`, `encoders`, `layers`, and per split its counts, hours, bytes, files and
        skipped clips, with `complete` and `of`, the number of clips in the dataset's list.
    Raises:
        CacheError: the folder holds no split, a damaged file, or splits of different fingerprints.
    """
    names = require_names(cache)
    finished = open_cache(cache) if split_names(cache) else {}
    files = {name: finished[name].files if name in finished else split_and_parts(cache, name) for name in names}
    first = files[names[0]][0]
    for file in (file for own in files.values() for file in own):
        file.header.fingerprint.require(first.header.fingerprint, str(file.path), "extract both again")
    return {
        "cache": str(cache),
        "fingerprint": first.header.fingerprint.digest,
        "fingerprint_fields": first.header.fingerprint.fields,
        "encoders": first.header.provenance,
        "layers": list(first.header.layers),
        "splits": {name: _describe_split(own, complete=name in finished) for name, own in files.items()},
    }


def _describe_split(files: Sequence[CacheFile], *, complete: bool) -> dict[str, Any]:
    done = {clip_id for file in files for clip_id in file.ids}
    skipped = {clip_id: reason for file in files for clip_id, reason in file.header.skipped if clip_id not in done}
    return {
        "complete": complete,
        "clips": sum(map(len, files)),
        "of": files[0].header.list_length,
        "systems": len({system for file in files for system in file.systems}),
        "prompts": len({prompt for file in files for prompt in file.prompts}),
        "hours": float(sum(file.column("clips/duration_s").sum() for file in files)) / 3600,
        "labelled": sum(int(np.isfinite(file.column("clips/mi")).sum()) for file in files),
        "skipped": [list(pair) for pair in skipped.items()],
        "files": [str(file.path) for file in files],
        "bytes": sum(file.path.stat().st_size for file in files),
    }
