"""The plan of an extraction, before anything is written: its batches, disk space and time, and what is refused."""

import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.audio.decode import Audio, decode
from audiomos_cache.audio.source import read_source
from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.format import CachedClip
from audiomos_cache.cache.paths import all_names, every_file, part_files, split_files
from audiomos_cache.cache.publish import Done
from audiomos_cache.dataset.clip import Clip, ClipAudio
from audiomos_cache.encoders.base import AudioEncoder
from audiomos_cache.errors import CacheError, DataError, first_five, quoted
from audiomos_cache.extraction.batching import cut_batches, lengths_of
from audiomos_cache.extraction.encoding import encode_clips
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.files import exists
from audiomos_cache.progress import gigabytes


def refuse_other_fingerprint(
    cache: Path, fingerprint: Fingerprint, overwritten: Collection[str] = (), repaired: Collection[str] = ()
) -> None:
    """Refuse to mix features of different fingerprints in one cache folder, finished or not.

    Splits that are about to be overwritten may have another; those that are about to be repaired may be unreadable.
    """
    for split in (split for split in all_names(cache) if split not in overwritten):
        for path in split_files(cache, split)[:1] + part_files(cache, split)[:1]:
            try:
                found = CacheFile(path).header.fingerprint
            except CacheError:
                if path.exists() and split not in repaired:
                    raise
                continue  # a part, published by another process since it was listed
            found.require(fingerprint, str(path), "give another --cache, or the options that this one was made with")


def refuse_changes(cache: Path, clips: Sequence[Clip], done: Mapping[str, tuple[CacheFile, int]]) -> None:
    """Refuse to continue a cache whose finished clips are no longer what the dataset contains."""
    split = clips[0].split
    listed = {clip.id: clip for clip in clips}
    gone = sorted(done.keys() - listed.keys())
    if gone:
        raise CacheError(
            f"{cache}: split {quoted(split)} holds clips that the dataset does not list: {first_five(gone)}; "
            "give another --cache, or --overwrite to extract the split again"
        )
    changed = []
    for clip_id, (file, row) in done.items():
        was, now = file.clip(row), listed[clip_id]
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
            f"{cache}: split {quoted(split)} was extracted before the dataset changed: {first_five(changed)}; "
            "give another --cache, or --overwrite to extract the split again"
        )


def _audio_changed(path: ClipAudio, file: CacheFile, was: CachedClip) -> bool:
    """Return whether an audio file that was touched since its features were written has other content."""
    try:
        status = path.stat()
        # A copy may keep an old time of its content, but not of its inode.
        touched = max(status.st_mtime_ns, status.st_ctime_ns) > file.path.stat().st_mtime_ns
        return touched and xxhash.xxh3_128_digest(read_source(path)) != was.audio_hash
    except (OSError, DataError):
        return False  # the audio may be deleted once its features are cached


def refuse_other_batches(files: Sequence[CacheFile], batch_size: int) -> None:
    """Refuse a shard whose batches are not those of the shards before it: no shard would encode some of the clips."""
    for file in files:
        if file.header.batch_size not in (0, batch_size):
            raise CacheError(
                f"{file.path}: its shard has batches of {file.header.batch_size} clips, this one of {batch_size}; "
                f"give --batch-size {file.header.batch_size} to every shard of the split"
            )


def refuse_missing(clips: Sequence[Clip]) -> None:
    """Refuse clips without audio file or prompt, all in one message, before the first clip is encoded."""
    missing = [str(clip.path) for clip in clips if not exists(clip.path)]
    if missing:
        raise DataError(
            f"split {quoted(clips[0].split)}: audio files that the list names are missing: {first_five(missing)}; "
            "add them, or leave them out with --on-error skip"
        )
    bare = [f"{clip.id} ({clip.prompt_id})" for clip in clips if clip.prompt is None]
    if bare:
        raise DataError(
            f"split {quoted(clips[0].split)}: no prompt for {first_five(bare)}; "
            "add them to the prompt list, or leave the clips out with --on-error skip"
        )


def refuse_full_disk(cache: Path, needed: int, free: int) -> None:
    """Refuse to start where `needed` bytes do not fit into the `free` ones."""
    if needed > free:
        raise CacheError(
            f"{cache}: {gigabytes(free)} free on the disk, up to {gigabytes(needed)} needed while extracting; "
            "free some, or give a --cache on another disk"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of one process on a split.

    Attributes:
        split: its name.
        clips: how many there are in the process's share; all of the split's without shards, or where all are done.
        batches: the clips to encode, those that are encoded together.
        final_bytes: what the finished split takes.
        needed_bytes: what is needed on the disk at most: for parts, and next to them the finished file. The features
            of the prompts and the index need some thousandths more.
        free_bytes: what is free.
        frames: how many the clips to encode have.
        frames_of: how many each clip of the split has, by id.
    """

    split: str
    clips: int
    batches: tuple[tuple[Clip, ...], ...]
    final_bytes: int
    needed_bytes: int
    free_bytes: int
    frames: int
    frames_of: Mapping[str, int]

    @property
    def typical_batch(self) -> tuple[Clip, ...]:
        """One of the batches, of a middle length; they are in the order of their lengths."""
        return self.batches[len(self.batches) // 2]

    @property
    def todo(self) -> set[str]:
        """Ids of the clips to encode."""
        return {clip.id for batch in self.batches for clip in batch}


def plan_split(clips: Sequence[Clip], cache: Path, done: Done, audio: AudioEncoder, options: ExtractionOptions) -> Plan:
    """Work out what is to be done, and refuse what cannot be.

    Batches are cut from the whole split before what is done, or belongs to another shard, is taken out.

    Raises:
        DataError: audio files or prompts are missing, with `on_error` "stop". CacheError: the disk is too full.
    """
    split = clips[0].split
    frame_bytes = len(audio.layers) * audio.dim * np.dtype(options.dtype).itemsize
    batches: list[tuple[Clip, ...]] = []
    share = len(clips)
    if all(clip.id in done for clip in clips):  # the audio is not read: it may be deleted by now
        frames = {clip_id: file.frames_of(row) for clip_id, (file, row) in done.items()}
    else:
        lengths = lengths_of(clips, audio, options)
        frames = {clip.id: audio.frames_for(length) for clip, length in zip(clips, lengths, strict=True)}
        own = cut_batches(clips, lengths, options.batch_size)
        if options.shard:
            own = own[options.shard.index - 1 :: options.shard.count]
        share = sum(map(len, own))
        left = (tuple(clip for clip in batch if clip.id not in done) for batch in own)
        batches = [batch for batch in left if batch]
    todo = {clip.id for batch in batches for clip in batch}
    if todo and options.on_error == "stop":
        # Shards cut the same batches only where all of them see the lengths of all clips.
        every = options.shard and options.pad_to_s is None
        refuse_missing([clip for clip in clips if every or clip.id in todo])
    to_encode, final = sum(frames[clip_id] for clip_id in todo), sum(frames.values()) * frame_bytes
    to_publish = final if todo or part_files(cache, split) else 0  # next to all parts
    freed = sum(path.stat().st_size for path in every_file(cache, split)) if options.overwrite else 0
    plan = Plan(
        split=split,
        clips=share,
        batches=tuple(batches),
        final_bytes=final,
        needed_bytes=to_encode * frame_bytes + to_publish,
        free_bytes=shutil.disk_usage(_existing(cache)).free + freed,
        frames=to_encode,
        frames_of=frames,
    )
    refuse_full_disk(cache, plan.needed_bytes, plan.free_bytes)
    return plan


def refuse_together(cache: Path, plans: Sequence[Plan]) -> None:
    """Refuse splits of which each fits on the disk, but not all, before the first is begun.

    Raises:
        CacheError: the finished files and the parts of the largest split do not fit.
    """
    left = [plan for plan in plans if plan.needed_bytes]
    if left:
        finals = sum(plan.final_bytes for plan in left)
        parts = max(plan.needed_bytes - plan.final_bytes for plan in left)
        refuse_full_disk(cache, finals + max(parts, 0), min(plan.free_bytes for plan in left))


def estimate_seconds(plan: Plan, audio: AudioEncoder, options: ExtractionOptions, *, warm_up: bool) -> float:
    """Estimate how long the clips' audio will take, from the time that one batch takes to decode and encode.

    Args:
        plan: what is to be done.
        audio, options: how.
        warm_up: encode the batch once before it is timed; the first one on a GPU is slow.
    Raises:
        DataError: a clip of that batch is bad.
    """
    if not plan.batches:
        return 0.0

    def encode() -> int:
        decoded = list(_decodable(plan.typical_batch, audio, options))
        return sum(done[1].shape[1] for _, done in encode_clips(decoded, audio, options) if isinstance(done, tuple))

    if warm_up:
        encode()
    start = time.perf_counter()
    frames = encode()
    return (time.perf_counter() - start) / max(frames, 1) * plan.frames


def _decodable(batch: Sequence[Clip], audio: AudioEncoder, options: ExtractionOptions) -> Iterator[tuple[Clip, Audio]]:
    """Decode clips; bad ones are left out where the extraction would leave them out."""
    for clip in batch:
        try:
            yield clip, decode(clip.path, audio.sample_rate_hz, options.max_seconds)
        except DataError:
            if options.on_error == "stop":
                raise


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest of those it lies in that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
