"""Setting what is damaged aside, so that an extraction encodes again what was lost, and only that."""

from dataclasses import replace
from pathlib import Path

from audiomos_cache.cache import store
from audiomos_cache.cache.file import CacheFile
from audiomos_cache.cache.fingerprint import Fingerprint
from audiomos_cache.cache.publish import copy_clips, publish_checked
from audiomos_cache.cache.verify import FileReport, verify_file
from audiomos_cache.errors import CacheError, FormatVersionError


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
    paths = store.every_file(cache, split) + store.part_files(cache, split)
    for path in paths:
        _refuse_foreign(path, fingerprint)
    damaged = []
    for path in paths:
        report = verify_file(path)
        if report.damaged:
            damaged += report.damaged
            _save_whole_clips(cache, split, report)
            store.set_aside(path)
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
    final = store.part_path(cache, split, (report.file.ids[place] for place in report.whole))
    if not final.exists():
        store.make_parts_folder(cache, split)
        temporary = store.temporary_path(final)
        sources = [(report.file, place) for place in report.whole]
        copy_clips(temporary, replace(report.file.header, complete=False, file_index=0, file_count=1), sources)
        publish_checked(temporary, final)
