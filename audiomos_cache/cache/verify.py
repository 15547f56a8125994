"""Reading everything in a cache to find what is damaged, and setting it aside so that it can be extracted again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from audiomos_cache.cache import store
from audiomos_cache.cache.file import CacheFile
from audiomos_cache.cache.writer import copy_clips
from audiomos_cache.errors import CacheError


@dataclass(slots=True)
class FileReport:
    """What is whole and what is damaged in a cache file.

    Attributes:
        path: the file.
        file: None where the file itself cannot be used.
        whole: places of the clips whose frames and prompt match their hashes.
        damaged: a line for each clip or prompt that does not, or for the file itself.
    """

    path: Path
    file: CacheFile | None = None
    whole: list[int] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def verify_file(path: Path, on_clip: Callable[[int, int], None] = lambda _done, _total: None) -> FileReport:
    """Read every clip and prompt of a file, finished or part, and check them.

    Args:
        path: the file.
        on_clip: told (done, total) clips.
    """
    report = FileReport(path)
    try:
        report.file = file = CacheFile(path)
    except CacheError as error:
        report.damaged.append(str(error))
        return report
    bad_prompts = set()
    for row in range(len(file.prompts)):
        try:
            file.read_prompt(row)
        except CacheError as error:
            bad_prompts.add(row)
            report.damaged.append(str(error))
    for place in range(len(file)):
        try:
            file.read_frames(place, padding=True)
        except CacheError as error:
            report.damaged.append(str(error))
        else:
            if int(file.arrays["clips/prompt_row"][place]) not in bad_prompts:
                report.whole.append(place)
        on_clip(place + 1, len(file))
    return report


def set_damaged_aside(cache: Path, split: str) -> list[str]:
    """Move damaged files of a split out of the way, after saving their whole clips in a part.

    An extraction that follows encodes only the clips that were lost. Call with the lock held.

    Returns:
        A line for each damaged item.
    """
    damaged = []
    for path in store.every_file(cache, split) + store.part_files(cache, split):
        report = verify_file(path)
        if report.damaged:
            damaged += report.damaged
            _save_whole_clips(cache, split, report)
            store.set_aside(path)
    return damaged


def _save_whole_clips(cache: Path, split: str, report: FileReport) -> None:
    if report.file is None or not report.whole:
        return
    final = store.part_path(cache, split, (report.file.ids[place] for place in report.whole))
    if not final.exists():
        store.make_parts_folder(cache, split)
        temporary = final.with_suffix(store.TEMPORARY)
        sources = [(report.file, place) for place in report.whole]
        copy_clips(temporary, report.file.header, sources, complete=False)
        store.publish(temporary, final)
