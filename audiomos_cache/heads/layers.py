"""Which of the encoder's stored layers a head looks at: one of them, or a learned mixture of all."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.pooling import at_least_float32


def layers_to_read(setting: str | int, stored: Sequence[int]) -> tuple[int, ...]:
    """Return which of a cache's layers a head reads.

    Args:
        setting: `HeadConfig.layers`: "only", "weighted", or a layer's number.
        stored: numbers of the cache's layers, ascending.
    Raises:
        ConfigError: the cache does not hold that layer, or holds several where "only" expects one.
    """
    held = f"the cache holds layer{'s' if len(stored) > 1 else ''} {', '.join(map(str, stored))}"
    if setting == "only" and len(stored) > 1:
        example = stored[len(stored) // 2]
        raise ConfigError(f"layers: {held}; name one of them (--set layers={example}), or weighted")
    if setting in ("only", "weighted"):
        return tuple(stored)
    if setting not in stored:
        raise ConfigError(f"layers: there is no {setting}; {held}")
    return (int(setting),)


class OneLayer(nn.Module):
    """Hands the frames of a single layer on as they are."""

    def forward(self, frames: Tensor) -> Tensor:
        """Return `frames` (B, T, D) unchanged."""
        return frames


class WeightedLayers(nn.Module):
    """A weighted mean of several layers' frames; the weights are learned, alike for all clips, and equal at first.

    Source: Yang et al. 2021 (SUPERB, arXiv 2105.01051): a weighted sum of hidden states, as in s3prl's featurizer.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count))

    def forward(self, frames: Tensor) -> Tensor:
        """Mix the layers of each clip.

        Args:
            frames: (B, K, T, D) float, K layers.
        Returns:
            (B, T, D), dtype of `frames`.
        Raises:
            ValueError: frames of another number of layers.
        """
        if frames.dim() != 4 or frames.shape[1] != len(self.weight):
            raise ValueError(f"frames are {tuple(frames.shape)}, expected (B, {len(self.weight)}, T, D): one per layer")
        mixed = self.shares().to(frames.dtype) @ frames.flatten(2)  # (B, T * D), without a copy of the frames
        return mixed.reshape(len(frames), *frames.shape[2:])

    def shares(self) -> Tensor:
        """Return how much each layer counts: (K,), positive, sums to 1."""
        return at_least_float32(self.weight).softmax(dim=0)
