"""The text side of an extraction: each distinct prompt once."""

import logging
from collections.abc import Sequence

import numpy as np
import torch

from audiomos_cache.batch import chunks
from audiomos_cache.cache.format import CachedPrompt
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.encoders.base import TextEncoder
from audiomos_cache.errors import EncoderError, first_five
from audiomos_cache.extraction.options import ExtractionOptions

log = logging.getLogger(__name__)


def encode_prompts(
    text: TextEncoder, clips: Sequence[Clip], todo: set[str], options: ExtractionOptions
) -> dict[str, CachedPrompt]:
    """Encode each distinct prompt of the clips to do once, in batches of equal length.

    Returns:
        The prompts' features by text; with `on_error` "skip" without those that are not finite.
    Raises:
        EncoderError: a prompt's features are not finite, with `on_error` "stop".
    """
    needed = {clip.prompt for clip in clips if clip.id in todo}
    by_length: dict[int, list[str]] = {}
    for prompt in dict.fromkeys(clip.prompt for clip in clips if clip.prompt is not None):
        by_length.setdefault(text.count_tokens(prompt), []).append(prompt)
    encoded = {}
    cut = []
    for prompts in by_length.values():
        for batch in chunks(prompts, options.batch_size):
            if needed.isdisjoint(batch):
                continue
            for prompt, features in zip(batch, text.encode(batch), strict=True):
                dtype = getattr(torch, options.dtype)
                tokens, pad_vector = features.tokens.to(dtype).numpy(), features.pad_vector.to(dtype).numpy()
                if not (np.isfinite(tokens).all() and np.isfinite(pad_vector).all()):
                    if options.on_error == "stop":
                        raise EncoderError(
                            f"prompt {prompt!r}: {text.name} gives NaN or Inf as {options.dtype}; "
                            "leave its clips out with --on-error skip"
                        )
                    continue
                encoded[prompt] = CachedPrompt(prompt, tokens, pad_vector)
                if features.cut:
                    cut.append(repr(prompt))
    if cut:
        log.warning("prompts longer than %d tokens, the rest is cut: %s", text.max_tokens, first_five(cut))
    return encoded
