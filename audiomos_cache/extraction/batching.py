"""Batches of clips, decoded in threads ahead of the encoder, and batches of prompts, each distinct one once."""

import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from audiomos_cache.audio.decode import Audio, decoded_length
from audiomos_cache.batch import chunks
from audiomos_cache.cache.format import CachedPrompt
from audiomos_cache.dataset.clip import Clip, in_other_letters
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.errors import EncoderError, first_five
from audiomos_cache.extraction.options import ExtractionOptions, not_finite
from audiomos_cache.files import exists

log = logging.getLogger(__name__)


BATCHES_AHEAD = 2

T = TypeVar("T")
U = TypeVar("U")


def decode_threads(device: torch.device) -> int:
    """Return how many threads decode: few with an encoder on the CPU, as many as help with one on a GPU.

    Python runs one at a time of the steps between reading, scaling and hashing: beyond eight they hinder each other.
    """
    cores = os.cpu_count() or 1
    return max(1, min(8, cores // 2)) if device.type == "cuda" else min(2, cores)


def lengths_of(clips: Sequence[Clip], audio: AudioEncoder, options: ExtractionOptions) -> list[int]:
    """Return how many samples each clip will be encoded at, according to the files' headers."""
    if options.pad_to_s is not None:
        return [round(options.pad_to_s * audio.sample_rate_hz)] * len(clips)
    rate, most = audio.sample_rate_hz, options.max_seconds
    return [decoded_length(clip.path, rate, most) if exists(clip.path) else 0 for clip in clips]


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
    for item, clip_audio in decoded:
        own = clip_audio.length if options.pad_to_s is None else round(options.pad_to_s * audio.sample_rate_hz)
        groups.setdefault(max(own, audio.min_samples), []).append((item, clip_audio))
    return groups


def decode_ahead(
    batches: Iterable[Sequence[T]], decode_one: Callable[[T], U], threads: int
) -> Generator[list[tuple[T, "Future[U]"]]]:
    """Yield the batches in order, with the decoding of the next ones under way in threads."""
    pending: deque[list[tuple[T, Future[U]]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for batch in batches:
                pending.append([(each, pool.submit(decode_one, each)) for each in batch])
                if len(pending) > BATCHES_AHEAD:
                    yield pending.popleft()
            while pending:
                yield pending.popleft()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def prompt_batches(text: TextEncoder, prompts: Iterable[str], batch_size: int) -> list[list[str]]:
    """Cut the distinct prompts into batches of one number of tokens each, so that none is padded for another.

    Args:
        text: the encoder, which counts the tokens.
        prompts: in any order; those of a batch keep it.
        batch_size: prompts in a batch, at most.
    """
    by_length: dict[int, list[str]] = {}
    for prompt in dict.fromkeys(prompts):
        by_length.setdefault(text.count_tokens(prompt), []).append(prompt)
    return [batch for same in by_length.values() for batch in chunks(same, batch_size)]


def encode_prompts(
    text: TextEncoder, clips: Sequence[Clip], todo: set[str], options: ExtractionOptions
) -> dict[str, CachedPrompt]:
    """Encode each distinct prompt of the clips to do once, in batches of equal length.

    Returns:
        The features by prompt; with `on_error` "skip" without those that are not finite.
    Raises:
        EncoderError: a prompt's features are not finite, with `on_error` "stop".
    """
    needed = {clip.prompt for clip in clips if clip.id in todo}
    encoded = {}
    cut = []
    prompts = (clip.prompt for clip in clips if clip.prompt is not None)
    for batch in prompt_batches(text, prompts, options.batch_size):
        if needed.isdisjoint(batch):
            continue
        for prompt, features in zip(batch, text.encode(batch), strict=True):
            dtype = getattr(torch, options.dtype)
            tokens, pad_vector = features.tokens.to(dtype).numpy(), features.pad_vector.to(dtype).numpy()
            if not (np.isfinite(tokens).all() and np.isfinite(pad_vector).all()):
                if options.on_error == "stop":
                    raise EncoderError(
                        f"prompt {prompt!r}: {not_finite(text.name, options.dtype)}; leave its clips out with "
                        "--on-error skip"
                    )
                continue
            encoded[prompt] = CachedPrompt(prompt, tokens, pad_vector)
            if features.cut:
                cut.append(repr(prompt))
    if foreign := [repr(prompt) for prompt in encoded if in_other_letters(prompt)]:
        log.warning("prompts mostly in other letters than Latin, expected English: %s", first_five(foreign))
    if cut:
        log.warning("prompts longer than %d tokens, the rest is cut: %s", text.max_tokens, first_five(cut))
    return encoded
