"""Temporal layers: a sequence of frames in, a sequence of the same length out."""

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from audiomos_cache.heads.attention import MultiheadAttention, sinusoidal_positions


class NoTemporal(nn.Module):
    """Hands the encoder's frames on as they are."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
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


class TransformerTemporal(nn.Module):
    """Sinusoidal positions, then transformer layers over the valid frames.

    Source: Ritter-Gutierrez et al. 2025, section II.
    """

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


class BiLstmTemporal(nn.Module):
    """A bidirectional LSTM over the valid frames; both directions together are as wide as an input of even width."""

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
