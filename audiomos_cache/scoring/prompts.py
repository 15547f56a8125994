"""Prompts as tokens, each encoded once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audiomos_cache.batch import chunks
from audiomos_cache.encoders.base import TextEncoder
from audiomos_cache.extraction.transfer import on_own_stream

MOST_KEPT = 1024  # prompts; of 128 tokens and 768 dimensions, 200 MB


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """One prompt.

    Attributes:
        tokens: (L, dim) in the dtype that features are stored in, on the CPU.
        cut: whether the prompt was longer than the encoder's most tokens.
        finite: whether the tokens are.
    """

    tokens: Tensor
    cut: bool
    finite: bool


class Prompts:
    """The prompts met last, encoded in batches of one number of tokens: a prompt never sees another's padding.

    Args:
        text: the encoder.
        dtype: that features are stored in.
        batch_size: prompts encoded at once.
        device: where the encoder is.
    """

    def __init__(self, text: TextEncoder, dtype: torch.dtype, batch_size: int, device: torch.device) -> None:
        self._text, self._dtype, self._batch_size, self._device = text, dtype, batch_size, device
        self._known: dict[str, PromptTokens] = {}

    def encode(self, prompts: Iterable[str]) -> dict[str, PromptTokens]:
        """Return the tokens of each distinct prompt; what is known is not encoded again."""
        wanted = dict.fromkeys(prompts)
        by_length: dict[int, list[str]] = {}
        for prompt in wanted:
            if prompt not in self._known:
                by_length.setdefault(self._text.count_tokens(prompt), []).append(prompt)
        if by_length:
            with on_own_stream(self._device):  # fetching tokens does not wait for the audio encoder
                for same in by_length.values():
                    for batch in chunks(same, self._batch_size):
                        self._encode(batch)
        # Those asked for now come last, and are kept longest.
        found = {prompt: self._known.pop(prompt) for prompt in wanted}
        self._known |= found
        for oldest in list(self._known)[: max(0, len(self._known) - MOST_KEPT)]:
            del self._known[oldest]
        return found

    def _encode(self, batch: Sequence[str]) -> None:
        for prompt, features in zip(batch, self._text.encode(batch), strict=True):
            tokens = features.tokens.to(self._dtype)
            self._known[prompt] = PromptTokens(tokens, features.cut, bool(tokens.isfinite().all()))
