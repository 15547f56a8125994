"""Batches: clips of different lengths put together, padded and masked; in a mask True is valid.

Training, prediction and scoring put their batches together here, and nowhere else:

    tokens, token_counts = pad_sequences([prompt.tokens for prompt in prompts])
    batch = collate(frames, frame_counts, tokens, token_counts)
    output = head(*batch)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch:
    """What a head takes, for B clips; `head(*batch)` calls it.

    Attributes:
        frames: (B, T, audio_dim) float, or (B, layers, T, audio_dim) for a head that mixes layers.
        frame_mask: (B, T) bool, True = valid, the valid frames first, at least one per clip.
        tokens: (B, L, text_dim) float.
        token_mask: (B, L) bool, True = valid, at least one per clip.
    """

    frames: Tensor
    frame_mask: Tensor
    tokens: Tensor
    token_mask: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.frames, self.frame_mask, self.tokens, self.token_mask))

    def __len__(self) -> int:
        return len(self.frames)


def collate(frames: Tensor, frame_counts: Tensor, tokens: Tensor, token_counts: Tensor) -> Batch:
    """Put a batch together from padded frames and tokens, on the device of the frames.

    Args:
        frames: (B, T, audio_dim) or (B, layers, T, audio_dim), padded with anything finite.
        frame_counts: (B,) int, how many frames of each clip are valid.
        tokens: (B, L, text_dim), padded with anything finite; float16 is widened.
        token_counts: (B,) int.
    """
    device = frames.device
    return Batch(
        frames=frames,
        frame_mask=valid_mask(frame_counts, frames.shape[-2]).to(device),
        tokens=tokens.to(device).float(),
        token_mask=valid_mask(token_counts, tokens.shape[1]).to(device),
    )


def pad_sequences(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad B sequences (L, dim) with zeros: (B, longest, dim), and their lengths (B,)."""
    return pad_sequence(list(sequences), batch_first=True), torch.tensor([len(each) for each in sequences])


def valid_mask(lengths: Tensor, longest: int) -> Tensor:
    """Say which positions of B sequences are valid: (B, longest) bool, on the device of `lengths` (B,)."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def chunks(items: Sequence[T], size: int) -> list[list[T]]:
    """Cut items, in their order, into lists of at most `size`."""
    return [list(items[i : i + size]) for i in range(0, len(items), size)]
