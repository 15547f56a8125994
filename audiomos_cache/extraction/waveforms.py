"""The audio side of an extraction: batches of clips, decoded in threads ahead of the encoder."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from audiomos_cache.audio.decode import Audio, decoded_length
from audiomos_cache.batch import chunks
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.encoders.base import AudioEncoder
from audiomos_cache.extraction.options import ExtractionOptions

BATCHES_AHEAD = 2

T = TypeVar("T")
U = TypeVar("U")


def decode_threads(device: torch.device) -> int:
    """Return how many threads decode: few beside an encoder on the CPU, as many as help beside one on a GPU.

    Python runs one at a time of the steps between reading, scaling and hashing: beyond eight they hinder each other.
    """
    cores = os.cpu_count() or 1
    return max(1, min(8, cores // 2)) if device.type == "cuda" else min(2, cores)


def lengths_of(clips: Sequence[Clip], audio: AudioEncoder, options: ExtractionOptions) -> list[int]:
    """Return how many samples each clip will be encoded at, as far as the files' headers tell."""
    if options.pad_to_s is not None:
        return [round(options.pad_to_s * audio.sample_rate_hz)] * len(clips)
    return [decoded_length(clip.path, audio.sample_rate_hz, options.max_seconds) for clip in clips]


def cut_batches(clips: Sequence[Clip], lengths: Sequence[int], batch_size: int) -> list[list[Clip]]:
    """Cut a split into batches of one length each."""
    by_length: dict[int, list[Clip]] = {}
    for clip, length in zip(clips, lengths, strict=True):
        by_length.setdefault(length, []).append(clip)
    return [batch for length in sorted(by_length) for batch in chunks(by_length[length], batch_size)]


def group_by_length(
    decoded: Iterable[tuple[T, Audio]], audio: AudioEncoder, options: ExtractionOptions
) -> dict[int, list[tuple[T, Audio]]]:
    """Group clips by the number of samples that they are encoded at."""
    groups: dict[int, list[tuple[T, Audio]]] = {}
    for clip, sound in decoded:
        own = sound.length if options.pad_to_s is None else round(options.pad_to_s * audio.sample_rate_hz)
        groups.setdefault(max(own, audio.min_samples), []).append((clip, sound))
    return groups


def decode_ahead(
    batches: Iterable[Sequence[T]], decode_one: Callable[[T], U], threads: int
) -> Generator[list[tuple[T, "Future[U]"]]]:
    """Yield the batches in order, with the decoding of the next ones under way in threads."""
    waiting: deque[list[tuple[T, Future[U]]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for batch in batches:
                waiting.append([(each, pool.submit(decode_one, each)) for each in batch])
                if len(waiting) > BATCHES_AHEAD:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
