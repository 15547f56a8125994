"""Fusions of a clip's audio with its prompt: two sequences in, the vector that TA is predicted from out."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from audiomos_cache.heads.pooling import POOLINGS, Pooling
from audiomos_cache.heads.temporal import MultiheadAttention


class CrossAttentionFusion(nn.Module):
    """The prompt's tokens look at the audio; what they find is pooled over the tokens.

    Source: Ritter-Gutierrez et al. 2025, section II. Text is the query; LayerNorm follows, without a residual.
    """

    poolings: Mapping[str, type[Pooling]] = POOLINGS

    def __init__(
        self, audio_size: int, text_size: int, common_size: int, heads: int, dropout: float, pooling: str
    ) -> None:
        super().__init__()
        self.audio_projection = nn.Linear(audio_size, common_size)
        self.text_projection = nn.Linear(text_size, common_size)
        self.attention = MultiheadAttention(common_size, heads, dropout)
        self.norm = nn.LayerNorm(common_size)
        self.pooling = self.poolings[pooling](common_size)
        self.output_size = self.pooling.output_size

    def forward(self, audio: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """Fuse (B, T, audio_size) with (B, L, text_size) into (B, output_size)."""
        keys = self.audio_projection(audio)
        found = self.attention(self.text_projection(tokens), keys, frame_mask)
        out: Tensor = self.pooling(self.norm(found), token_mask)
        return out


class ConcatFusion(nn.Module):
    """Audio and prompt are pooled apart, put side by side, and projected to the common width."""

    def __init__(self, audio_size: int, text_size: int, common_size: int, pooling: str) -> None:
        super().__init__()
        self.audio_pooling = POOLINGS[pooling](audio_size)
        self.text_pooling = POOLINGS[pooling](text_size)
        self.projection = nn.Linear(self.audio_pooling.output_size + self.text_pooling.output_size, common_size)
        self.output_size = common_size

    def forward(self, audio: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """Fuse (B, T, audio_size) with (B, L, text_size) into (B, output_size)."""
        pooled = (self.audio_pooling(audio, frame_mask), self.text_pooling(tokens, token_mask))
        out: Tensor = self.projection(torch.cat(pooled, dim=1))
        return out


class NoFusion(nn.Module):
    """TA from the audio alone: the baseline that shows what the prompt adds."""

    def __init__(self, audio_size: int, common_size: int, pooling: str) -> None:
        super().__init__()
        self.audio_pooling = POOLINGS[pooling](audio_size)
        self.projection = nn.Linear(self.audio_pooling.output_size, common_size)
        self.output_size = common_size

    def forward(self, audio: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """Pool (B, T, audio_size) into (B, output_size); the tokens are not looked at."""
        del tokens, token_mask
        out: Tensor = self.projection(self.audio_pooling(audio, frame_mask))
        return out
