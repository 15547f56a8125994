"""Poolings: the valid positions of a sequence in, one vector out."""

import torch
from torch import Tensor, nn


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32, or as it is where it is float64: softmax and losses are computed in no less."""
    return x if x.dtype == torch.float64 else x.float()


class MeanPooling(nn.Module):
    """The mean of the valid positions."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = input_size

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        """Average (B, T, D) over the True positions of `mask` (B, T): (B, D)."""
        weights = mask.unsqueeze(-1)
        return torch.where(weights, sequence, 0).sum(dim=1) / weights.sum(dim=1)


class MeanStdPooling(nn.Module):
    """Mean and standard deviation of the valid positions, side by side."""

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


class AttentivePooling(nn.Module):
    """A weighted mean of the valid positions; one linear layer and a softmax over time give the weights."""

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


Pooling = MeanPooling | MeanStdPooling | AttentivePooling

POOLINGS: dict[str, type[Pooling]] = {
    "attentive": AttentivePooling,
    "mean": MeanPooling,
    "mean_std": MeanStdPooling,
}
