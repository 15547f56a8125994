"""Batches of cached features: frames and tokens, padded and masked, in float32."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiomos_cache.cache import CachedPrompt, CacheReader
from audiomos_cache.errors import ConfigError
from audiomos_cache.training.clips import ClipSet
from audiomos_cache.training.frames import FrameSource

EVAL_SIZE = 32
UPSTREAM_EVAL_SIZE = 16  # the published code's; with its quirks a score depends on it


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

    The prompts' features are kept in memory: they are few.

    Args:
        clips: whose features.
        layers: which of the stored layers.
        frames: where the frames come from.
        upstream: make batches as the published code does, for heads with `compat: upstream`: clips with the frames
            from their padding, tokens padded with what the text encoder gives at padding, 16 of them at once where
            nothing is learned.
    Attributes:
        clips: in the order of the batches: that of their ids, whatever order a list has them in.
        eval_size: how many clips to take at once where nothing is learned.
    Raises:
        ConfigError: `upstream`, and the clips were not padded to one length.
    """

    def __init__(self, clips: ClipSet, layers: Sequence[int], frames: FrameSource, *, upstream: bool = False) -> None:
        self.clips = clips.by_id()
        self.layers = tuple(layers)
        self.device = frames.device
        self.eval_size = UPSTREAM_EVAL_SIZE if upstream else EVAL_SIZE
        self._frames = frames
        self._upstream = upstream
        self._prompts: dict[str, CachedPrompt] = {}
        if upstream:
            _refuse_own_lengths(clips)

    def gather(self, indices: Sequence[int], *, reuse: bool = False) -> Features:
        """Put the clips at `indices` into one padded batch.

        Args:
            indices: at least one.
            reuse: let the next call that says so, of any clip set with the same frames, write over what is returned.
        Raises:
            CacheError: a clip's features are damaged; names the clip.
        """
        places = [self.clips.places[index] for index in indices]
        frames = self._frames.gather(places, self.layers, padding=self._upstream, reuse=reuse)
        prompts = [self._prompt(reader, i) for reader, i in places]
        lengths = [len(prompt.tokens) for prompt in prompts]
        tokens = np.zeros((len(prompts), max(lengths), prompts[0].tokens.shape[1]), prompts[0].tokens.dtype)
        for row, prompt, length in zip(tokens, prompts, lengths, strict=True):
            row[:length] = prompt.tokens
            if self._upstream:
                row[length:] = prompt.pad_vector
        return Features(
            frames=frames.squeeze(1) if len(self.layers) == 1 else frames,
            frame_mask=_mask([int((r.frames if self._upstream else r.valid_frames)[i]) for r, i in places]).to(
                self.device
            ),
            tokens=torch.from_numpy(tokens).to(self.device).float(),
            token_mask=_mask(lengths).to(self.device),
        )

    def _prompt(self, reader: CacheReader, index: int) -> CachedPrompt:
        text = reader.prompt(index)
        if text not in self._prompts:
            self._prompts[text] = reader.read_prompt(index)
        return self._prompts[text]


def epoch_order(clips: int, seed: int, epoch: int) -> list[int]:
    """Return the order of the clips in an epoch; it depends on seed and epoch alone."""
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(clips).tolist()
    return order


def _refuse_own_lengths(clips: ClipSet) -> None:
    """Refuse clips that were encoded at their own lengths: the published code pads every clip to 30 s first."""
    stored = {int(reader.frames[index]) for reader, index in clips.places}
    if len(stored) > 1:
        raise ConfigError(
            f"compat: upstream: the clips of {clips.name} have from {min(stored)} to {max(stored)} frames, expected "
            "one number for all, as from audio that was padded; extract with --pad-to 30"
        )


def _mask(lengths: Sequence[int]) -> Tensor:
    return torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
