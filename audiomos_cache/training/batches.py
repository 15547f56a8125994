"""Batches of cached features: frames and tokens, padded and masked, in float32."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomos_cache.cache import CacheReader
from audiomos_cache.training.clips import ClipSet
from audiomos_cache.training.frames import FrameSource


@dataclass(frozen=True, slots=True)
class Features:
    """What a head takes, for a batch: masks are True = valid.

    Attributes:
        frames: (B, T, audio_dim), or (B, layers, T, audio_dim) where several are read.
        frame_mask: (B, T).
        tokens: (B, L, text_dim).
        token_mask: (B, L).
    """

    frames: Tensor
    frame_mask: Tensor
    tokens: Tensor
    token_mask: Tensor


class FeatureBatches:
    """Gathers batches of a clip set, on the device that the frames are made for.

    The tokens of the distinct prompts are kept in memory: they are few.
    """

    def __init__(self, clips: ClipSet, layers: Sequence[int], frames: FrameSource) -> None:
        self.clips = clips
        self.layers = tuple(layers)
        self.device = frames.device
        self._frames = frames
        self._tokens: dict[str, NDArray[Any]] = {}

    def gather(self, indices: Sequence[int]) -> Features:
        """Put the clips at `indices` into one padded batch. The next call reuses nothing of what is returned.

        Raises:
            CacheError: a clip's features are damaged; names the clip.
        """
        places = [self.clips.places[index] for index in indices]
        frames = self._frames.gather(places, self.layers)
        tokens = [self._prompt_tokens(reader, i) for reader, i in places]
        padded = np.zeros((len(tokens), max(map(len, tokens)), tokens[0].shape[1]), tokens[0].dtype)
        for row, prompt in zip(padded, tokens, strict=True):
            row[: len(prompt)] = prompt
        return Features(
            frames=frames.squeeze(1) if len(self.layers) == 1 else frames,
            frame_mask=_mask([int(reader.valid_frames[i]) for reader, i in places]).to(self.device),
            tokens=torch.from_numpy(padded).to(self.device).float(),
            token_mask=_mask([len(prompt) for prompt in tokens]).to(self.device),
        )

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
