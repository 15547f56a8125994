"""Scaled dot-product attention between two masked sequences, and sinusoidal positions."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


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
