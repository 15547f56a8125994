"""Downstream and output layers: a pooled vector in, one target's score out, with its distribution or logits."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiomos_cache.heads.pooling import at_least_float32
from audiomos_cache.targets import LOWEST, bin_centres


class MlpDownstream(nn.Module):
    """Linear layers with ReLU; dropout after the ReLUs that `dropout_after` names."""

    def __init__(
        self, input_size: int, hidden_sizes: Sequence[int], dropout: float, dropout_after: Sequence[int]
    ) -> None:
        super().__init__()
        sizes = (input_size, *hidden_sizes)
        layers: list[nn.Module] = []
        for i, (narrow, wide) in enumerate(itertools.pairwise(sizes)):
            layers += [nn.Linear(narrow, wide), nn.ReLU()]
            if i in dropout_after:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers)
        self.output_size = sizes[-1]

    def forward(self, vector: Tensor) -> Tensor:
        """Map (B, input_size) to (B, output_size)."""
        out: Tensor = self.layers(vector)
        return out


class LstmDownstream(nn.Module):
    """One step of an LSTM from a zero state, used as a gated layer.

    Source: the published code's LSTM heads, which run over the pooled vector as a sequence of length one.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.output_size = hidden_size

    def forward(self, vector: Tensor) -> Tensor:
        """Map (B, input_size) to (B, hidden_size)."""
        out: Tensor = self.lstm(vector.unsqueeze(1))[0].squeeze(1)
        return out


RANKS = 5  # of an ordinal output: the whole scores 1 to 5


@dataclass(frozen=True, slots=True)
class TargetOutput:
    """What a head predicts of one target (MI or TA).

    Attributes:
        score: (B,), on the 1 to 5 scale.
        dist: (B, bins), rows sum to 1; only from a distribution output.
        logits: (B, ranks - 1), that the score exceeds 1, 2, ...; only from a CORAL output.
    """

    score: Tensor
    dist: Tensor | None = None
    logits: Tensor | None = None


class ScalarOutput(nn.Module):
    """The score itself, unbounded."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, 1)

    def forward(self, features: Tensor) -> TargetOutput:
        """Map (B, input_size) to a score (B,)."""
        return TargetOutput(at_least_float32(self.linear(features)).squeeze(1))


class DistributionOutput(nn.Module):
    """A distribution over score bins; the score is its mean.

    Source: Ritter-Gutierrez et al. 2025, section II (20 bins on 1 to 5).
    """

    centres: Tensor

    def __init__(self, input_size: int, bins: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, bins)
        self.register_buffer("centres", torch.from_numpy(bin_centres(bins)), persistent=False)

    def forward(self, features: Tensor) -> TargetOutput:
        """Map (B, input_size) to dist (B, bins) and its mean (B,)."""
        dist = at_least_float32(self.linear(features)).softmax(dim=1)
        # No matrix product: under autocast that would be one in half precision.
        return TargetOutput((dist * self.centres.to(dist.dtype)).sum(dim=1), dist=dist)


class CoralOutput(nn.Module):
    """Ordinal logits that never increase from one threshold to the next, for any weights.

    The first logit is free; each next one is the previous minus a softplus. The score is 1 plus the sum of the
    probabilities of exceeding 1, 2, ...
    Source: Cao, Mirjalili and Raschka 2020 (CORAL); the softplus form is the published AudioMOS code's.
    """

    def __init__(self, input_size: int, ranks: int = RANKS) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, ranks - 1)

    def forward(self, features: Tensor) -> TargetOutput:
        """Map (B, input_size) to logits (B, ranks - 1) and a score (B,)."""
        raw = at_least_float32(self.linear(features))
        steps = torch.cat((raw[:, :1], -functional.softplus(raw[:, 1:])), dim=1)
        logits = steps.cumsum(dim=1)
        return TargetOutput(LOWEST + logits.sigmoid().sum(dim=1), logits=logits)


OUTPUTS: dict[str, type[nn.Module]] = {
    "scalar": ScalarOutput,
    "distribution": DistributionOutput,
    "coral": CoralOutput,
}
