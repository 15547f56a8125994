"""MADB: eleven small transformers over the mean frame, one for each dimension (arXiv 2607.06929)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from audiomos_cache.errors import BundleError, first_five
from audiomos_cache.published.catalogue import PUBLISHED, Checkpoint
from audiomos_cache.published.outputs import Scores, head_of
from audiomos_cache.upstream.tensors import read_checkpoint

_POSITIONS, _DIM = 8, 256
_UNUSED = ("transformer_encoder.head.weight", "transformer_encoder.head.bias")
_NAMES = {
    "transformer_encoder.input_linear.": "widen.",
    "transformer_encoder.pos_encoder.pe": "positions",
    "transformer_encoder.transformer_encoder.layers.": "layers.",
    "head.mlp.": "mlp.",
}


class MadbHead(nn.Module):
    """One dimension: the mean frame, as eight vectors that attend to each other, then a regressor.

    The attention is over the eight vectors of a clip; clips do not see each other.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.widen = nn.Linear(dim, _POSITIONS * _DIM)
        self.register_buffer("positions", torch.zeros(1, _POSITIONS, _DIM))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(_DIM, nhead=8, dim_feedforward=_DIM, batch_first=True) for _ in range(2)
        )
        self.mlp = nn.Sequential(
            *(nn.Linear(_POSITIONS * _DIM, 256), nn.ReLU(), nn.BatchNorm1d(256), nn.Identity()),
            *(nn.Linear(256, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Identity()),
            nn.Linear(64, 1),
        )

    def forward(self, mean: Tensor) -> Tensor:
        """Turn mean frames (B, dim) into scores (B,)."""
        x = self.widen(mean).unflatten(1, (_POSITIONS, _DIM)) + self.positions
        for layer in self.layers:
            x = layer(x)
        score: Tensor = self.mlp(x.flatten(1)).squeeze(1)
        return score


class MadbHeads(nn.ModuleDict):
    """The dimensions side by side."""

    def __init__(self, dim: int, targets: tuple[str, ...]) -> None:
        super().__init__({name: MadbHead(dim) for name in targets})

    def forward(self, frames: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor) -> Scores:
        """Score tracks by the mean of all of their frames.

        Args:
            frames: (B, T, dim), tracks of one length.
            frame_mask, tokens, token_mask: not used.
        """
        del frame_mask, tokens, token_mask
        mean = frames.mean(dim=1)
        return Scores({name: head(mean) for name, head in self.items()})


def build(tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build the heads with these tensors; see `muq_eval.build`."""
    targets = tuple(target.name for target in PUBLISHED["madb"].targets)
    return head_of("MADB", tensors, lambda width: MadbHeads(width(f"{targets[0]}.widen", 1), targets))


def read(path: Path) -> Checkpoint:
    """Read the published files, one for each dimension, in the folder or below it.

    Raises:
        BundleError: some are missing, or one has an unknown tensor. DataError: see `read_checkpoint`.
    """
    paths = [path / each for each in PUBLISHED["madb"].files]
    if path.is_dir() and not paths[0].is_file():
        paths = [path / each.name for each in paths]
    if missing := [each.name for each in paths if not each.is_file()]:
        raise BundleError(f"{path}: missing: {first_five(missing)}; expected MADB's {len(paths)} files")
    head = {}
    for target, file in zip(PUBLISHED["madb"].targets, paths, strict=True):
        for name, tensor in read_checkpoint(file, ("state_dict",), "MADB").items():
            if name in _UNUSED:
                continue
            start = next((start for start in _NAMES if name.startswith(start)), None)
            if start is None:
                raise BundleError(f"{file}: unknown: {name}; expected one of MADB's heads")
            head[f"{target.name}.{_NAMES[start]}{name.removeprefix(start)}"] = tensor
    return Checkpoint(head)
