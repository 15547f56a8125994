"""Made-up weights of published heads, by the rule of tests/golden/published_heads.json."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "published_heads.json").read_text())
MUQ_EVAL = Path(__file__).parents[1] / "golden" / "muq_eval"


def made_up(shapes: Mapping[str, list[int]], scale: float) -> dict[str, Tensor]:
    """Draw each tensor from its own name; positions and counters are those of the class."""
    return {name: _tensor(name, shape, scale) for name, shape in shapes.items()}


def _tensor(name: str, shape: list[int], scale: float) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("pos_encoder.pe"):
        return sinusoids(shape[1], shape[2])[None]
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    values = np.float32(scale) * drawn
    is_norm = name.endswith(("norm1.weight", "norm2.weight")) or (
        name.startswith("head.mlp.") and name.endswith("weight") and len(shape) == 1
    )
    if is_norm or name.endswith("running_var"):
        values = 1 + abs(values)
    return torch.from_numpy(values)


def sinusoids(positions: int, width: int) -> Tensor:
    """(positions, width): sine in even columns, cosine in odd ones, base 10000."""
    angles = np.arange(positions)[:, None] / 10_000 ** (np.arange(0, width, 2) / width)
    table = np.empty((positions, width))
    table[:, 0::2], table[:, 1::2] = np.sin(angles), np.cos(angles)
    return torch.from_numpy(table.astype(np.float32))


def frames_of(case: Mapping[str, Any]) -> Tensor:
    """(T, D) of a golden case."""
    drawn = np.random.default_rng(case["seed"]).standard_normal((case["T"], case["D"]), dtype=np.float32)
    return torch.from_numpy(drawn)


@torch.inference_mode()
def scores_of(head: nn.Module, frames: Tensor) -> dict[str, list[float]]:
    """What a head gives for (B, T, D), with masks that say that hardly anything is valid."""
    mask = torch.zeros(frames.shape[:2], dtype=torch.bool)
    found = head(frames, mask, torch.zeros(len(frames), 1, 1), mask[:, :1]).columns()
    return {name: values.tolist() for name, values in found.items()}
