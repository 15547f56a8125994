"""How a clip's audio is joined with its prompt: two sequences in, the vector that TA is predicted from out."""

import torch
from torch import Tensor, nn

from audiomos_cache.heads.pooling import MakePooling, width_of
from audiomos_cache.heads.temporal import MultiheadAttention


class CrossAttention(nn.Module):
    """The prompt's tokens look at the audio; what they find is pooled over the tokens.

    Source: Ritter-Gutierrez et al. 2025, section II. The prompt is the query; LayerNorm follows, without a residual.
    """

    def __init__(
        self,
        audio_size: int,
        text_size: int,
        common_size: int,
        make_pooling: MakePooling,
        *,
        heads: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.audio_projection = nn.Linear(audio_size, common_size)
        self.text_projection = nn.Linear(text_size, common_size)
        self.attention = MultiheadAttention(common_size, heads, dropout)
        self.norm = nn.LayerNorm(common_size)
        self.pooling = make_pooling(common_size)
        self.output_size: int = width_of(self.pooling)

    def forward(self, audio: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """Make of (B, T, audio_size) and (B, L, text_size) vectors (B, output_size)."""
        keys = self.audio_projection(audio)
        found = self.attention(self.text_projection(tokens), keys, frame_mask)
        out: Tensor = self.pooling(self.norm(found), token_mask)
        return out


class Concat(nn.Module):
    """Audio and prompt are pooled separately, concatenated, and projected to the common width."""

    def __init__(
        self, audio_size: int, text_size: int, common_size: int, make_pooling: MakePooling, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        del dropout
        self.audio_pooling = make_pooling(audio_size)
        self.text_pooling = make_pooling(text_size)
        self.projection = nn.Linear(width_of(self.audio_pooling) + width_of(self.text_pooling), common_size)
        self.output_size = common_size

    def forward(self, audio: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """Make of (B, T, audio_size) and (B, L, text_size) vectors (B, output_size)."""
        pooled = (self.audio_pooling(audio, frame_mask), self.text_pooling(tokens, token_mask))
        out: Tensor = self.projection(torch.cat(pooled, dim=1))
        return out


class AudioAlone(nn.Module):
    """TA from the audio alone: the baseline that shows what the prompt adds."""

    def __init__(
        self, audio_size: int, text_size: int, common_size: int, make_pooling: MakePooling, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        del text_size, dropout
        self.audio_pooling = make_pooling(audio_size)
        self.projection = nn.Linear(width_of(self.audio_pooling), common_size)
        self.output_size = common_size

    def forward(self, audio: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """Pool (B, T, audio_size) into (B, output_size); the tokens are ignored."""
        del tokens, token_mask
        out: Tensor = self.projection(self.audio_pooling(audio, frame_mask))
        return out


TEXT_AUDIO: dict[str, type[nn.Module]] = {
    "cross_attention": CrossAttention,
    "decoupled": CrossAttention,
    "concat": Concat,
    "none": AudioAlone,
}
