"""Batches of a clip set that is wholly on the device: always of one shape, and made there, without the host."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audiomos_cache.batch import valid_mask
from audiomos_cache.cache.format import CachedPrompt
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.training.frame_sources import FramesInMemory, rows_to_take


@dataclass(frozen=True, slots=True)
class Features:
    """What a head takes, for a batch: masks are True = valid.

    Attributes:
        frames: (B, T, audio_dim), or (B, layers, T, audio_dim) where several are read; float.
        frame_mask: (B, T).
        tokens: (B, L, text_dim).
        token_mask: (B, L).
    """

    frames: Tensor
    frame_mask: Tensor
    tokens: Tensor
    token_mask: Tensor


class ResidentClips:
    """The frames and tokens of N clips, on the device.

    All batches have as many frames as the longest clip and as many tokens as the longest prompt, so that the work on
    them can be recorded once. Masks hide what is too much.

    Args:
        places: reader and index in it of each clip.
        prompts: of each clip.
        layers: which of the stored layers.
        frames: they are held where the batches are made.
    """

    def __init__(
        self,
        places: Sequence[tuple[CacheReader, int]],
        prompts: Sequence[CachedPrompt],
        layers: Sequence[int],
        frames: FramesInMemory,
    ) -> None:
        device = frames.device
        self._frames, self._several = frames, len(layers) > 1
        lengths = torch.tensor([int(frames.counts(reader)[index]) for reader, index in places])
        self._longest = int(lengths.max())
        self._lengths = lengths.to(device)
        self._first = frames.first_rows(places, layers).to(device)
        rows = {prompt.text: row for row, prompt in enumerate({each.text: each for each in prompts}.values())}
        distinct = list({each.text: each for each in prompts}.values())
        tokens = [torch.from_numpy(prompt.tokens) for prompt in distinct]
        self._tokens = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True).to(device)
        self._token_counts = torch.tensor([len(each) for each in tokens]).to(device)
        self._prompt = torch.tensor([rows[each.text] for each in prompts]).to(device)

    def gather(self, clips: Tensor) -> Features:
        """Put clips together.

        Args:
            clips: (B,) int64 on the device.
        Returns:
            Frames (B, T, D) as they are stored, T that of the longest clip of all, and tokens (B, L, text_dim),
            L likewise; zero beyond each clip's own.
        """
        lengths, prompts = self._lengths[clips], self._prompt[clips]
        rows = rows_to_take(self._first[clips], lengths, self._longest, self._frames.nothing)
        frames = self._frames.held.index_select(0, rows.flatten()).view(*rows.shape, -1)
        return Features(
            frames=frames if self._several else frames.squeeze(1),
            frame_mask=valid_mask(lengths, self._longest),
            tokens=self._tokens[prompts].float(),
            token_mask=valid_mask(self._token_counts[prompts], self._tokens.shape[1]),
        )
