"""What an extraction of a split has to do, and what it will take: worked out before anything is written."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiomos_cache.audio.decode import Audio, decode
from audiomos_cache.cache.paths import every_file, part_files
from audiomos_cache.cache.publish import Done
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.encoders.base import AudioEncoder
from audiomos_cache.errors import DataError
from audiomos_cache.extraction import preflight
from audiomos_cache.extraction.encoding import encode_clips
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.extraction.waveforms import cut_batches, lengths_of


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of one process on a split.

    Attributes:
        split: its name.
        clips: how many there are in the process's share; all of the split's without shards, or where all are done.
        batches: the clips to encode, those that are encoded together.
        final_bytes: what the finished split takes.
        needed_bytes: what the disk must still hold at most: parts, and beside them the finished file. The features of
            the prompts and the index come to it: some thousandths.
        free_bytes: what it has.
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
    if all(clip.id in done for clip in clips):  # the audio is not even looked at: it may be gone
        frames = {clip_id: file.frames_of(place) for clip_id, (file, place) in done.items()}
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
        preflight.refuse_missing([clip for clip in clips if every or clip.id in todo])
    to_encode, final = sum(frames[clip_id] for clip_id in todo), sum(frames.values()) * frame_bytes
    to_publish = final if todo or part_files(cache, split) else 0  # beside all parts
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
    preflight.refuse_full_disk(cache, plan.needed_bytes, plan.free_bytes)
    return plan


def refuse_together(cache: Path, plans: Sequence[Plan]) -> None:
    """Refuse splits of which each fits on the disk, but not all, before the first is begun.

    Raises:
        CacheError: the finished files and the parts of the largest split do not fit.
    """
    unfinished = [plan for plan in plans if plan.needed_bytes]
    if unfinished:
        finals = sum(plan.final_bytes for plan in unfinished)
        parts = max(plan.needed_bytes - plan.final_bytes for plan in unfinished)
        preflight.refuse_full_disk(cache, finals + max(parts, 0), min(plan.free_bytes for plan in unfinished))


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
