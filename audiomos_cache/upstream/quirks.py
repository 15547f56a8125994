"""The published code's three quirks, for `compat: upstream`, in subclasses of our parts with the same tensors.

1. Positions are added to a batch of one clip alone.
2. The pooling of the cross-attention's output takes the padding and leaves the tokens out.
3. Frames of padding are treated like all others, in attention and in pooling.

So a clip's scores depend on its batch, and on what it is padded with. docs/from-the-original.md shows by how much.
Source: Ritter-Gutierrez et al. 2025, published code (models/base_models.py, models/roberta_transformer.py).
"""

import math

import torch
from torch import Tensor, nn

from audiomos_cache.heads.outputs import DistributionOutput
from audiomos_cache.heads.pooling import AttentivePooling, at_least_float32
from audiomos_cache.heads.temporal import TransformerTemporal
from audiomos_cache.heads.text_audio import CrossAttention
from audiomos_cache.targets import HIGHEST, LOWEST


def float32_positions(length: int, dim: int) -> Tensor:
    """Return the positions as the published code computes them: (length, dim), in float32 on the CPU."""
    position = torch.arange(length, dtype=torch.float32, device="cpu")[:, None]
    rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32, device="cpu") * (-math.log(10000.0) / dim))
    angles = position * rate
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


def float32_bin_centres(bins: int) -> Tensor:
    """Return the bin centres as the published code computes them: (bins,), in float32 on the CPU."""
    return torch.linspace(LOWEST, HIGHEST, bins, dtype=torch.float32, device="cpu")


class UpstreamTransformerTemporal(TransformerTemporal):
    """A transformer over all frames, padding included, that knows positions in a batch of one clip alone."""

    def forward(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Relate all frames of each clip to each other; arguments as of `TransformerTemporal`."""
        return super().forward(frames, torch.ones_like(frame_mask))

    def with_positions(self, frames: Tensor) -> Tensor:
        """Add to the frames (B, T, D) their positions if B is 1."""
        if len(frames) > 1:
            return frames
        return frames + float32_positions(frames.shape[1], frames.shape[2]).to(frames)


class UnmaskedPooling(AttentivePooling):
    """Attentive pooling of all positions, padding included."""

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        """Pool (B, T, D), whatever `mask` (B, T) is: (B, D)."""
        return super().forward(sequence, torch.ones_like(mask))


class PaddingPooling(AttentivePooling):
    """Attentive pooling of the padding; a row without padding is averaged."""

    MASKED = -1e9  # finite: where all logits are masked, all positions count alike

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        """Pool (B, T, D) over the False positions of `mask` (B, T), or over all of a row that has none: (B, D)."""
        logits = at_least_float32(self.weight(sequence).squeeze(-1)).masked_fill(mask, self.MASKED)
        pooled: Tensor = logits.softmax(dim=1).to(sequence.dtype).unsqueeze(1) @ sequence
        return pooled.squeeze(1)


class UpstreamCrossAttention(CrossAttention):
    """The prompt's tokens and their padding look at all frames; what the padding finds is pooled."""

    def forward(self, audio: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """Make of (B, T, audio_size) and (B, L, text_size) vectors (B, output_size)."""
        return super().forward(audio, torch.ones_like(frame_mask), tokens, token_mask)


class UpstreamDistributionOutput(DistributionOutput):
    """A distribution whose mean is taken over bin centres rounded to float32; only visible in float64."""

    def __init__(self, input_size: int, bins: int) -> None:
        super().__init__(input_size, bins)
        self.centres = float32_bin_centres(bins)


_QUIRKS: dict[type[nn.Module], type[nn.Module]] = {
    TransformerTemporal: UpstreamTransformerTemporal,
    AttentivePooling: UnmaskedPooling,
    CrossAttention: UpstreamCrossAttention,
    DistributionOutput: UpstreamDistributionOutput,
}


def as_published(part: type[nn.Module]) -> type[nn.Module]:
    """Return the part of the same tensors that computes as the published code does, quirks included."""
    return _QUIRKS.get(part, part)
