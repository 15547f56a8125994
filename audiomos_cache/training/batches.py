"""Batches of cached features: frames and tokens, padded and masked, in float32."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from audiomos_cache.batch import chunks, valid_mask
from audiomos_cache.cache.format import CachedPrompt
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.errors import CacheError, ConfigError
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.frame_sources import FramesInMemory, FrameSource
from audiomos_cache.training.gpu_batches import Features, ResidentClips
from audiomos_cache.training.pooled_statistics import PooledFrames, stand_ins
from audiomos_cache.training.prefetch import features_ahead

EVAL_SIZE = 32
RESIDENT_EVAL_SIZE = 128  # on a GPU that holds all features there is room for more
UPSTREAM_EVAL_SIZE = 16  # the published code's; with its quirks a score depends on it


class FeatureBatches:
    """Gathers batches of a clip set, on the device that the frames are made for.

    The prompts' features are kept in memory: they are few.

    Args:
        clips: whose features.
        layers: which of the stored layers.
        frames: where the frames come from. Where they are `PooledFrames`, the tokens are pooled once, too.
        upstream: make batches as the published code does, for heads with `compat: upstream`: clips with the frames
            from their padding, tokens padded with what the text encoder gives at padding, 16 of them at once where
            nothing is learned.
    Attributes:
        clips: in the order of the batches: that of their ids, whatever order a list has them in.
    Raises:
        ConfigError: `upstream`, and the clips were not padded to one length. CacheError: a clip has no frame.
    """

    def __init__(self, clips: ClipSet, layers: Sequence[int], frames: FrameSource, *, upstream: bool = False) -> None:
        self.clips = clips.by_id()
        self.layers = tuple(layers)
        self.device = frames.device
        self._frames = frames
        self._upstream = upstream
        self._prompts: dict[str, CachedPrompt] = {}
        _refuse_clips_without_frames(clips)
        if upstream:
            _refuse_own_lengths(clips)

    @property
    def eval_size(self) -> int:
        """How many clips to take at once where nothing is learned."""
        if self._upstream:
            return UPSTREAM_EVAL_SIZE
        return EVAL_SIZE if self.resident is None else RESIDENT_EVAL_SIZE

    @cached_property
    def resident(self) -> ResidentClips | None:
        """The clips on the GPU, where they are held there; not `upstream`, where a score depends on the padding."""
        if self._upstream or not isinstance(self._frames, FramesInMemory) or not self._frames.on_gpu:
            return None
        prompts = [self._prompt(reader, index) for reader, index in self.clips.places]
        return ResidentClips(self.clips.places, prompts, self.layers, self._frames)

    def stream(self, batches: Sequence[list[int]]) -> Iterator[Features]:
        """Gather batches one after the other; each may write over the one before.

        Where they come to a GPU from outside, the next is on its way while one is computed.
        """
        if self.device.type == "cuda" and self.resident is None:
            yield from features_ahead(self.gather, batches, self.device)
        else:
            for indices in batches:
                yield self.gather(indices, reuse=True)

    def gather(self, indices: Sequence[int], *, reuse: bool = False) -> Features:
        """Put the clips at `indices` into one padded batch.

        Args:
            indices: at least one.
            reuse: let the next call that says so, of any clip set with the same frames, write over what is returned.
        Raises:
            CacheError: a clip's features are damaged; names the clip.
        """
        if self.resident is not None:
            return self.resident.gather(torch.tensor(indices, device=self.device))
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
            frame_mask=_mask([int(self._frames.counts(r, padding=self._upstream)[i]) for r, i in places]).to(
                self.device
            ),
            tokens=torch.from_numpy(tokens).to(self.device).float(),
            token_mask=_mask(lengths).to(self.device),
        )

    def not_finite(self, indices: Sequence[int]) -> list[str]:
        """Name those of the clips at `indices` whose frames or tokens hold NaN or infinity."""
        found = []
        for batch in chunks(indices, EVAL_SIZE):
            features = self.gather(batch)
            fine = [each.flatten(1).isfinite().all(dim=1) for each in (features.frames, features.tokens)]
            found += [self.clips.ids[i] for i, ok in zip(batch, (fine[0] & fine[1]).tolist(), strict=True) if not ok]
        return found

    def _prompt(self, reader: CacheReader, index: int) -> CachedPrompt:
        text = reader.prompt(index)
        if text not in self._prompts:
            prompt = self._prompts[text] = reader.read_prompt(index)
            if not len(prompt.tokens):
                raise CacheError(f"{reader.cache}: the prompt {text!r} has no tokens, expected at least one")
            if isinstance(self._frames, PooledFrames):  # a head has one pooling for both
                self._prompts[text] = replace(prompt, tokens=stand_ins(prompt.tokens))
        return self._prompts[text]


def epoch_order(clips: int, seed: int, epoch: int) -> list[int]:
    """Return the order of the clips in an epoch; it depends on seed and epoch alone."""
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(clips).tolist()
    return order


def _refuse_clips_without_frames(clips: ClipSet) -> None:
    """Refuse, once for all batches, what a head could not pool."""
    for (reader, index), clip_id in zip(clips.places, clips.ids, strict=True):
        if not reader.valid_frames[index]:
            raise CacheError(f"{reader.cache}, clip {clip_id}: no frames, expected at least one; extract it again")


def _refuse_own_lengths(clips: ClipSet) -> None:
    """Refuse clips that were encoded at their own lengths: the published code pads every clip to 30 s first."""
    stored = {int(reader.frames[index]) for reader, index in clips.places}
    if len(stored) > 1:
        raise ConfigError(
            f"compat: upstream: the clips of {clips.name} have from {min(stored)} to {max(stored)} frames, expected "
            "one number for all, as from audio that was padded; extract with --pad-to 30"
        )


def _mask(lengths: Sequence[int]) -> Tensor:
    return valid_mask(torch.tensor(lengths), max(lengths))
