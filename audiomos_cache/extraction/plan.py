"""What an extraction of a split has to do, and what it will take: worked out before anything is written."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiomos_cache.audio import decode
from audiomos_cache.cache.writer import Done
from audiomos_cache.dataset import Clip
from audiomos_cache.encoders import AudioEncoder
from audiomos_cache.extraction import preflight
from audiomos_cache.extraction.encoding import encode_clips
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.extraction.waveforms import cut_batches, lengths_of


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of one process on a split.

    Attributes:
        split: its name.
        clips: how many there are in the process's share; all of the split's without shards.
        batches: the clips to encode, those that are encoded together.
        final_bytes: what the finished split takes.
        needed_bytes: what the disk must still hold at most: parts, and beside them the finished file.
        free_bytes: what it has.
        frames: how many the clips to encode have.
    """

    split: str
    clips: int
    batches: tuple[tuple[Clip, ...], ...]
    final_bytes: int
    needed_bytes: int
    free_bytes: int
    frames: int

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
    free = shutil.disk_usage(_existing(cache)).free
    frame_bytes = len(audio.layers) * audio.dim * np.dtype(options.dtype).itemsize
    if all(clip.id in done for clip in clips):  # the audio is not even looked at: it may be gone
        stored = sum(file.frames_of(place) for file, place in done.values())
        return Plan(clips[0].split, len(clips), (), stored * frame_bytes, 0, free, 0)
    lengths = lengths_of(clips, audio, options)
    batches = cut_batches(clips, lengths, options.batch_size)
    if options.shard:
        batches = batches[options.shard.index - 1 :: options.shard.count]
    left = (tuple(clip for clip in batch if clip.id not in done) for batch in batches)
    left_batches = tuple(batch for batch in left if batch)
    todo = {clip.id for batch in left_batches for clip in batch}
    if todo and options.on_error == "stop":
        # Shards cut the same batches only where all of them see the lengths of all clips.
        every = options.shard and options.pad_to_s is None
        preflight.refuse_missing([clip for clip in clips if every or clip.id in todo])
    frames = {clip.id: audio.frames_for(length) for clip, length in zip(clips, lengths, strict=True)}
    share = [clip.id for batch in batches for clip in batch]
    own, final = (sum(frames[clip_id] for clip_id in ids) for ids in (todo, share))
    plan = Plan(
        split=clips[0].split,
        clips=len(share),
        batches=left_batches,
        final_bytes=final * frame_bytes,
        needed_bytes=(own + final) * frame_bytes if todo else 0,
        free_bytes=free,
        frames=own,
    )
    preflight.refuse_full_disk(cache, plan.needed_bytes, plan.free_bytes)
    return plan


def estimate_seconds(plan: Plan, audio: AudioEncoder, options: ExtractionOptions, *, warm_up: bool) -> float:
    """Estimate how long the clips' audio will take, from the time that the first batch takes to decode and encode.

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
        decoded = [(clip, decode(clip.path, audio.sample_rate_hz, options.max_seconds)) for clip in plan.batches[0]]
        return sum(done[1].shape[1] for _, done in encode_clips(decoded, audio, options) if isinstance(done, tuple))

    if warm_up:
        encode()
    start = time.perf_counter()
    frames = encode()
    return (time.perf_counter() - start) / max(frames, 1) * plan.frames


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest of those it lies in that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
