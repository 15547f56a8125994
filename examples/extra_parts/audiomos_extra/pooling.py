"""Dual-resolution attentive statistics pooling, after DRASP (arXiv 2508.21407)."""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from audiomos_cache.heads.parts import PartConfig
from audiomos_cache.heads.pooling import MeanStdPooling
from audiomos_cache.registry import register


@register("pooling", "drasp")
class DualResolutionPooling(nn.Module):
    """Mean and deviation of a whole clip, blended with those of its segments weighted by attention.

    The coarse view keeps the overall impression, the fine one the segments that stand out; a learned share blends
    them.
    """

    class Config(PartConfig):
        """Keys of the pooling."""

        segment: int = Field(25, ge=1, description="frames in a segment")
        attention_dim: int = Field(128, ge=1)

    capturable = True  # as a CUDA graph: computes with torch alone
    EPSILON = 1e-5  # inside the root: a clip of one segment has a finite gradient

    def __init__(self, input_size: int, segment: int, attention_dim: int) -> None:
        super().__init__()
        self.segment = segment
        self.output_size = 2 * input_size
        self.coarse = MeanStdPooling(input_size)
        self.hidden = nn.Linear(input_size, attention_dim)
        self.weight = nn.Linear(attention_dim, 1, bias=False)
        self.share = nn.Parameter(torch.zeros(()))  # of the coarse view; starts at one half

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        """Pool (B, T, D) over the True positions of `mask` (B, T), which come first: (B, 2 D)."""
        share = self.share.sigmoid()
        return share * self.coarse(sequence, mask) + (1 - share) * self._fine(sequence, mask)

    def _fine(self, sequence: Tensor, mask: Tensor) -> Tensor:
        """Return attentive mean and deviation of the segments' means, (B, 2 D)."""
        short = -sequence.shape[1] % self.segment
        counted = functional.pad(mask, (0, short)).unflatten(1, (-1, self.segment)).unsqueeze(-1)  # (B, S, segment, 1)
        frames = functional.pad(sequence, (0, 0, 0, short)).unflatten(1, (-1, self.segment))
        frames = torch.where(counted, frames, 0)
        means = frames.sum(dim=2) / counted.sum(dim=2).clamp(min=1)  # (B, S, D)
        logits = self.weight(self.hidden(means).tanh()).float()
        shares = logits.masked_fill(~counted.any(dim=2), float("-inf")).softmax(dim=1).to(means.dtype)
        mean = (shares * means).sum(dim=1)
        variance = (shares * (means - mean.unsqueeze(1)).square()).sum(dim=1)
        return torch.cat((mean, (variance + self.EPSILON).sqrt()), dim=1)
