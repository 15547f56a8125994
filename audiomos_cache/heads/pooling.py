"""Poolings: the valid positions of a sequence in, one vector out.

A user's pooling is registered as ours are:

    @register("pooling", "first")
    class FirstFrame(nn.Module):
        def __init__(self, input_size: int) -> None:
            super().__init__()
            self.output_size = input_size

        def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
            return sequence[:, 0]
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.part_configs import NoKeys
from audiomos_cache.registry import register

# Makes a pooling of the width of its sequences; it has `output_size`, the width of its vectors.
MakePooling = Callable[[int], nn.Module]


def width_of(part: nn.Module) -> int:
    """Return the `output_size` of a pooling or temporal part, the width of its output.

    Raises:
        ConfigError: it has none, or one that is not an int.
    """
    width = getattr(part, "output_size", None)
    if not isinstance(width, int):
        raise ConfigError(f"{type(part).__qualname__}: output_size is {width!r}, expected the width of its output")
    return width


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32, or as it is where it is float64: softmax and losses are computed in no less."""
    return x if x.dtype == torch.float64 else x.float()


@register("pooling", "mean")
class MeanPooling(nn.Module):
    """The mean of the valid positions."""

    Config = NoKeys

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = input_size

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        """Average (B, T, D) over the True positions of `mask` (B, T): (B, D)."""
        weights = mask.unsqueeze(-1)
        return torch.where(weights, sequence, 0).sum(dim=1) / weights.sum(dim=1)


@register("pooling", "mean_std")
class MeanStdPooling(nn.Module):
    """Mean and standard deviation of the valid positions, side by side."""

    Config = NoKeys

    EPSILON = 1e-5  # inside the root: a clip of one frame has a finite gradient

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.mean = MeanPooling(input_size)
        self.output_size = 2 * input_size

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        """Pool (B, T, D) over the True positions of `mask` (B, T): (B, 2 D)."""
        mean = self.mean(sequence, mask)
        variance = self.mean((sequence - mean.unsqueeze(1)).square(), mask)
        return torch.cat((mean, (variance + self.EPSILON).sqrt()), dim=1)


@register("pooling", "attentive")
class AttentivePooling(nn.Module):
    """A weighted mean of the valid positions; one linear layer and a softmax over time give the weights."""

    Config = NoKeys

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = input_size
        self.weight = nn.Linear(input_size, 1)

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        """Pool the valid positions of each clip into one vector with learned weights.

        Args:
            sequence: (B, T, D) float.
            mask: (B, T) bool, True = valid, at least one per row.
        Returns:
            (B, D), dtype of `sequence`. Padding never changes the result.
        Source: Ritter-Gutierrez et al. 2025, section II (attentive pooling).
        """
        logits = self.weight(sequence).squeeze(-1).masked_fill(~mask, float("-inf"))
        share = at_least_float32(logits).softmax(dim=1)
        pooled: Tensor = share.to(sequence.dtype).unsqueeze(1) @ sequence
        return pooled.squeeze(1)
