"""Temporal layers, a sequence of frames in, a sequence of the same length out; and the attention they are made of."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from audiomos_cache.heads.part_configs import BiLstmConfig, NoKeys, TransformerConfig
from audiomos_cache.registry import register


class MultiheadAttention(nn.Module):
    """Multi-head attention whose keys may be padded.

    The parameters and their initial values are those of `torch.nn.MultiheadAttention`.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"attention over {dim} dimensions cannot be split into {heads} heads")
        self.heads = heads
        self.dropout = dropout
        self.in_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        """Let each query position look at the valid key positions of its clip.

        Args:
            query: (B, Q, D) float.
            keys: (B, T, D) float, also the values.
            key_mask: (B, T) bool, True = valid, at least one per row.
        Returns:
            (B, Q, D).
        """
        q, k, v = (
            projected.reshape(*projected.shape[:2], self.heads, -1).transpose(1, 2)  # (B, heads, T, D / heads)
            for projected in self._projections(query, keys)
        )
        attended = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=key_mask[:, None, None, :], dropout_p=self.dropout if self.training else 0.0
        )
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out

    def _projections(self, query: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
        """Project the queries, keys and values: few large products are faster than many."""
        weight, bias, dim = self.in_proj.weight, self.in_proj.bias, query.shape[-1]
        if query is keys:
            return functional.linear(query, weight, bias).chunk(3, dim=-1)
        pair = functional.linear(keys, weight[dim:], bias[dim:])
        return functional.linear(query, weight[:dim], bias[:dim]), *pair.chunk(2, dim=-1)


def sinusoidal_positions(length: int, dim: int, like: Tensor) -> Tensor:
    """Return the fixed position vectors of a transformer: (length, dim), sines at even, cosines at odd columns.

    Args:
        length: number of positions.
        dim: width, even.
        like: gives device and dtype; the angles are computed in float64.
    Source: Vaswani et al. 2017, section 3.5.
    """
    position = torch.arange(length, device=like.device, dtype=torch.float64)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2, device=like.device, dtype=torch.float64) * (-math.log(10000.0) / dim))
    angles = position * rate
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).to(like.dtype)


@register("temporal", "none")
class NoTemporal(nn.Module):
    """Hands the encoder's frames on as they are."""

    Config = NoKeys

    def __init__(self, input_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        del dropout
        self.output_size = input_size

    def forward(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Return `frames` (B, T, D) unchanged."""
        del frame_mask
        return frames


class TransformerLayer(nn.Module):
    """One post-norm transformer layer: attention, then a ReLU feed-forward block."""

    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiheadAttention(dim, heads, dropout)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D); rows at invalid positions are finite but mean nothing."""
        frames = self.norm1(frames + self.dropout(self.attention(frames, frames, frame_mask)))
        hidden = self.linear2(self.dropout(functional.relu(self.linear1(frames))))
        out: Tensor = self.norm2(frames + self.dropout(hidden))
        return out


@register("temporal", "transformer")
class TransformerTemporal(nn.Module):
    """Sinusoidal positions, then transformer layers over the valid frames.

    Source: Ritter-Gutierrez et al. 2025, section II.
    """

    Config = TransformerConfig

    def __init__(self, input_size: int, layers: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.output_size = input_size
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(TransformerLayer(input_size, heads, feedforward, dropout) for _ in range(layers))

    def forward(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Relate the valid frames of each clip to each other.

        Args:
            frames: (B, T, D) float.
            frame_mask: (B, T) bool, True = valid, at least one per row.
        Returns:
            (B, T, D).
        """
        frames = self.dropout(self.with_positions(frames))
        for layer in self.layers:
            frames = layer(frames, frame_mask)
        return frames

    def with_positions(self, frames: Tensor) -> Tensor:
        """Add to the frames (B, T, D) their positions."""
        return frames + sinusoidal_positions(frames.shape[1], frames.shape[2], frames)


@register("temporal", "bilstm")
class BiLstmTemporal(nn.Module):
    """A bidirectional LSTM over the valid frames; both directions together are as wide as an input of even width."""

    Config = BiLstmConfig

    def __init__(self, input_size: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.output_size = input_size // 2 * 2
        self.lstm = nn.LSTM(
            input_size,
            input_size // 2,
            num_layers=layers,
            dropout=dropout if layers > 1 else 0.0,
            batch_first=True,
            bidirectional=True,
        )

    def forward(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, output_size); the backward direction starts at each clip's last valid frame.

        Args:
            frames: (B, T, D) float.
            frame_mask: (B, T) bool, True = valid, the valid frames first.
        """
        lengths = frame_mask.sum(dim=1).cpu()
        packed = pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False)
        out: Tensor = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=frames.shape[1])[0]
        return out
