"""What is refused before an extraction encodes its first clip."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import xxhash

from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.fingerprint import Fingerprint
from audiomos_cache.cache.format import CachedClip
from audiomos_cache.cache.paths import all_names, part_files, split_files
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.errors import CacheError, DataError, first_five
from audiomos_cache.units import gigabytes


def refuse_other_fingerprint(cache: Path, fingerprint: Fingerprint, overwritten: Collection[str] = ()) -> None:
    """Refuse to mix features of different fingerprints in one cache folder, finished or not.

    Splits that are about to be overwritten may have another.
    """
    for split in (split for split in all_names(cache) if split not in overwritten):
        for path in split_files(cache, split)[:1] + part_files(cache, split)[:1]:
            try:
                found = CacheFile(path).header.fingerprint
            except CacheError:
                if path.exists():
                    raise
                continue  # a part, published by another process since it was listed
            found.require(fingerprint, str(path), "give another --cache, or the options that this one was made with")


def refuse_changes(cache: Path, clips: Sequence[Clip], done: Mapping[str, tuple[CacheFile, int]]) -> None:
    """Refuse to go on in a cache whose finished clips are no longer what the dataset says."""
    split = clips[0].split
    wanted = {clip.id: clip for clip in clips}
    gone = sorted(done.keys() - wanted.keys())
    if gone:
        raise CacheError(
            f"{cache}: split {split!r} holds clips that the dataset does not list: {first_five(gone)}; "
            "give another --cache, or --overwrite to extract the split again"
        )
    changed = []
    for clip_id, (file, place) in done.items():
        was, now = file.clip(place), wanted[clip_id]
        labels = (np.nan if now.mi is None else now.mi, np.nan if now.ta is None else now.ta)
        if now.prompt is not None and was.prompt != now.prompt:
            changed.append(f"{clip_id} (prompt)")
        elif (was.system, was.prompt_id) != (now.system, now.prompt_id):
            changed.append(
                f"{clip_id} (system, prompt id {was.system}, {was.prompt_id}, now {now.system}, {now.prompt_id})"
            )
        elif not np.array_equal((was.mi, was.ta), labels, equal_nan=True):
            changed.append(f"{clip_id} (MI, TA {was.mi:g}, {was.ta:g}, now {labels[0]:g}, {labels[1]:g})")
        elif _audio_changed(now.path, file, was):
            changed.append(f"{clip_id} (audio)")
    if changed:
        raise CacheError(
            f"{cache}: split {split!r} was extracted before the dataset changed: {first_five(changed)}; "
            "give another --cache, or --overwrite to extract the split again"
        )


def _audio_changed(path: Path, file: CacheFile, was: CachedClip) -> bool:
    """Say whether an audio file that was touched since its features were written has other content."""
    try:
        status = path.stat()
        # A copy may keep an old time of its content, but not of its inode.
        touched = max(status.st_mtime_ns, status.st_ctime_ns) > file.path.stat().st_mtime_ns
        return touched and xxhash.xxh3_128_digest(path.read_bytes()) != was.audio_hash
    except OSError:
        return False  # the audio may be deleted once its features are cached


def refuse_other_batches(files: Sequence[CacheFile], batch_size: int) -> None:
    """Refuse a shard whose batches are not those of the shards before it: some clips would be nobody's."""
    for file in files:
        if file.header.batch_size not in (0, batch_size):
            raise CacheError(
                f"{file.path}: its shard has batches of {file.header.batch_size} clips, this one of {batch_size}; "
                f"give --batch-size {file.header.batch_size} to every shard of the split"
            )


def refuse_missing(clips: Sequence[Clip]) -> None:
    """Name all audio files and prompts that are not there, before the first clip is encoded."""
    missing = [str(clip.path) for clip in clips if not clip.path.exists()]
    if missing:
        raise DataError(
            f"split {clips[0].split!r}: audio files that the list names are missing: {first_five(missing)}; "
            "put them there, or leave them out with --on-error skip"
        )
    bare = [f"{clip.id} ({clip.prompt_id})" for clip in clips if clip.prompt is None]
    if bare:
        raise DataError(
            f"split {clips[0].split!r}: no prompt for {first_five(bare)}; "
            "add them to the prompt list, or leave the clips out with --on-error skip"
        )


def refuse_full_disk(cache: Path, needed: int, free: int) -> None:
    """Refuse to start where `needed` bytes do not fit into the `free` ones."""
    if needed > free:
        raise CacheError(
            f"{cache}: {gigabytes(free)} free on the disk, up to {gigabytes(needed)} needed while extracting; "
            "free some, or give a --cache on another disk"
        )
