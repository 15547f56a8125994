"""SongEval: five dimensions of a song from the sixth hidden state of MuQ (Yao et al. 2025, arXiv 2505.10793)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from audiomos_cache.published.catalogue import PUBLISHED, Checkpoint
from audiomos_cache.published.outputs import Scores, head_of
from audiomos_cache.upstream.tensors import read_checkpoint

_HEADS, _ATTENTIONS = 8, 4
_FILE = "model.safetensors"


class SongEvalHead(nn.Module):
    """A feed-forward layer, four self-attentions one after the other, and both pooled."""

    def __init__(self, dim: int, wide: int, targets: tuple[str, ...]) -> None:
        super().__init__()
        self.targets = targets
        self.ffd = nn.Sequential(nn.Linear(dim, wide), nn.ReLU(), nn.Linear(wide, dim))
        self.attn = nn.ModuleList(nn.MultiheadAttention(dim, _HEADS, batch_first=True) for _ in range(_ATTENTIONS))
        self.fc = nn.Linear(2 * dim, len(targets))

    def forward(self, frames: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor) -> Scores:
        """Score songs by all of their frames.

        Args:
            frames: (B, T, dim), songs of one length.
            frame_mask, tokens, token_mask: not used.
        """
        del frame_mask, tokens, token_mask
        wide = self.ffd(frames)
        attended = wide
        for attention in self.attn:
            attended, _ = attention(attended, attended, attended, need_weights=False)
        pooled = torch.cat((attended.mean(dim=1), wide.amax(dim=1)), dim=1)
        scores = self.fc(pooled).tanh() * 2 + 3
        return Scores(dict(zip(self.targets, scores.unbind(dim=1), strict=True)))


def build(tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build the head with these tensors; see `muq_eval.build`."""
    targets = tuple(target.name for target in PUBLISHED["songeval"].targets)
    return head_of("SongEval", tensors, lambda width: SongEvalHead(width("ffd.0", 1), width("ffd.0"), targets))


def read(path: Path) -> Checkpoint:
    """Read the published `model.safetensors`: the file, or the folder that it is in.

    Raises:
        DataError: see `read_checkpoint`.
    """
    file = path / _FILE if path.is_dir() else path
    return Checkpoint(read_checkpoint(file, (), "SongEval"))
