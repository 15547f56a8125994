"""Downstream layers: a pooled vector in, the features of the output layer out."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn


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
