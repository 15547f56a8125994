"""Batches of cached features: read into reused buffers, masked, in float32."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomos_cache.cache import CacheReader
from audiomos_cache.training.clips import ClipSet


@dataclass(frozen=True, slots=True)
class Features:
    """What a head takes, for a batch: frames (B, T, audio_dim), tokens (B, L, text_dim), masks True = valid."""

    frames: Tensor
    frame_mask: Tensor
    tokens: Tensor
    token_mask: Tensor

    def to(self, device: torch.device) -> "Features":
        """Move to a device."""
        return Features(
            self.frames.to(device), self.frame_mask.to(device), self.tokens.to(device), self.token_mask.to(device)
        )


class FeatureBatches:
    """Gathers batches of a clip set from the cache. Only frames that come from audio are read.

    The tokens of the distinct prompts are kept in memory: they are few.
    """

    def __init__(self, clips: ClipSet) -> None:
        self.clips = clips
        self._frames = np.empty((0, 0, clips.first_reader.audio_dim), clips.first_reader.dtype)
        self._tokens: dict[str, NDArray[Any]] = {}

    def gather(self, indices: Sequence[int]) -> Features:
        """Read the clips at `indices` into one padded batch. The next call reuses nothing of what is returned.

        Raises:
            CacheError: a clip's features are damaged; names the clip.
        """
        lengths = [int(reader.valid_frames[i]) for reader, i in self._places(indices)]
        frames = self._buffer(len(indices), max(lengths))
        for row, (reader, i) in zip(frames, self._places(indices), strict=True):
            read = len(reader.read_frames(i, row))
            row[read:] = 0
        tokens = [self._prompt_tokens(reader, i) for reader, i in self._places(indices)]
        padded = np.zeros((len(tokens), max(map(len, tokens)), tokens[0].shape[1]), np.float32)
        for row, prompt in zip(padded, tokens, strict=True):
            row[: len(prompt)] = prompt
        return Features(
            frames=torch.from_numpy(frames).to(torch.float32, copy=True),
            frame_mask=_mask(lengths),
            tokens=torch.from_numpy(padded),
            token_mask=_mask([len(prompt) for prompt in tokens]),
        )

    def _places(self, indices: Sequence[int]) -> Iterator[tuple[CacheReader, int]]:
        return (self.clips.places[index] for index in indices)

    def _buffer(self, rows: int, length: int) -> NDArray[Any]:
        """Return contiguous (rows, length, audio_dim) out of one allocation that grows as needed."""
        dim = self._frames.shape[-1]
        if self._frames.size < rows * length * dim:
            self._frames = np.empty((rows, length, dim), self._frames.dtype)
        return self._frames.reshape(-1)[: rows * length * dim].reshape(rows, length, dim)

    def _prompt_tokens(self, reader: CacheReader, index: int) -> NDArray[Any]:
        text = reader.prompt(index)
        if text not in self._tokens:
            self._tokens[text] = reader.read_prompt(index).tokens
        return self._tokens[text]


def epoch_order(clips: int, seed: int, epoch: int) -> list[int]:
    """Return the order of the clips in an epoch; it depends on seed and epoch alone."""
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(clips).tolist()
    return order


def _mask(lengths: Sequence[int]) -> Tensor:
    return torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
