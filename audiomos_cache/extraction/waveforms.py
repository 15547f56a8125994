"""The audio side of an extraction: batches of clips, decoded in threads ahead of the encoder."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.audio import Audio, decoded_length, fit_length
from audiomos_cache.dataset import Clip
from audiomos_cache.encoders import AudioEncoder
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.sequences import chunks

DECODE_THREADS = 4
BATCHES_AHEAD = 2


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
    decoded: Iterable[tuple[Clip, Audio]], audio: AudioEncoder, options: ExtractionOptions
) -> list[list[tuple[Clip, Audio, NDArray[np.float32]]]]:
    """Bring clips to the length they are encoded at, and group those of equal length."""
    groups: dict[int, list[tuple[Clip, Audio, NDArray[np.float32]]]] = {}
    for clip, sound in decoded:
        own = len(sound.samples) if options.pad_to_s is None else round(options.pad_to_s * audio.sample_rate_hz)
        length = max(own, audio.min_samples)
        groups.setdefault(length, []).append((clip, sound, fit_length(sound.samples, length)))
    return list(groups.values())


def decode_ahead(
    batches: Sequence[Sequence[Clip]], decode_clip: Callable[[Clip], Audio]
) -> Iterator[list[tuple[Clip, "Future[Audio]"]]]:
    """Yield the batches in order, with the decoding of the next ones under way in threads."""
    waiting: deque[list[tuple[Clip, Future[Audio]]]] = deque()
    with ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="decode") as pool:
        try:
            for batch in batches:
                waiting.append([(clip, pool.submit(decode_clip, clip)) for clip in batch])
                if len(waiting) > BATCHES_AHEAD:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
