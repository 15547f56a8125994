"""Batches of clips of different lengths, padded and masked; in a mask True is valid.

Training, prediction and scoring make their batches here, and nowhere else:

    tokens, token_counts = pad_sequences([prompt.tokens for prompt in prompts])
    batch = collate(frames, frame_counts, tokens, token_counts)
    check_masks(batch)  # where it is not known that every clip has frames and a prompt
    output = head(*batch)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
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
    """Make a batch of padded frames and tokens, on the device of the frames.

    What is elsewhere is copied there without waiting for the device; where everything is on the device already, nothing
    waits for it either.

    Args:
        frames: (B, T, audio_dim) or (B, layers, T, audio_dim), padded with anything finite.
        frame_counts: (B,) int, how many frames of each clip are valid.
        tokens: (B, L, text_dim), padded with anything finite; float16 is widened.
        token_counts: (B,) int.
    """
    device = frames.device
    return Batch(
        frames=frames,
        frame_mask=_sent(valid_mask(frame_counts, frames.shape[-2]), device),
        tokens=_sent(tokens, device).float(),
        token_mask=_sent(valid_mask(token_counts, tokens.shape[1]), device),
    )


def check_masks(batch: Batch) -> None:
    """Refuse a clip without anything valid, which a head would give NaN for.

    It reads the masks, which has to wait for a GPU, so heads do not do it themselves: call it on batches that you make
    by hand. Clips in a cache are checked when the cache is opened.

    Raises:
        ValueError: a clip without a valid frame or token; names its row.
    """
    for mask, what in ((batch.frame_mask, "frame"), (batch.token_mask, "token")):
        if empty := (~mask.any(dim=1)).nonzero().flatten().tolist():
            raise ValueError(f"row {empty[0]} of the batch has no valid {what}; every clip needs at least one")


def pad_sequences(sequences: Sequence[Tensor], padding: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Pad sequences to the length of the longest.

    Args:
        sequences: B of them, (L, dim) each.
        padding: what to pad each with, B of (dim,); None: zeros.
    Returns:
        (B, longest, dim), and their lengths (B,).
    """
    lengths = torch.tensor([len(each) for each in sequences])
    padded = pad_sequence(list(sequences), batch_first=True)
    if padding is not None:
        own = valid_mask(lengths, padded.shape[1]).unsqueeze(-1)
        padded = torch.where(own, padded, torch.stack(list(padding)).unsqueeze(1))
    return padded, lengths


def valid_mask(lengths: Tensor, longest: int) -> Tensor:
    """Return which positions of B sequences are valid: (B, longest) bool, on the device of `lengths` (B,)."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def chunks(items: Sequence[T], size: int) -> list[list[T]]:
    """Divide items, in their order, into lists of at most `size`."""
    return list(batched(items, size))


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Give lists of `size` items, taken when they are needed; the last may be shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to a device, without waiting for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
