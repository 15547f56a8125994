"""Made-up weights in the files of a published head, to try out what reads them without a network."""

from os import PathLike
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from audiomos_cache.encoders.base import seed_weights
from audiomos_cache.encoders.muq import build_muq
from audiomos_cache.encoders.tiny import TINY_MUQ_CONFIG
from audiomos_cache.published.muq_eval import MuQEvalHead

_SEED = 15
_CONFIG: dict[str, Any] = {"defaults": ["base"], "experiment": {"name": "A1_frozen_mlp"}, "loss": {"type": "mse"}}
_BASE: dict[str, Any] = {
    "data": {"sample_rate": 24_000, "clip_samples": 240_000},
    "model": {"encoder": "muq", "tuning_mode": "frozen", "pooling": "attention", "head_layers": 2},
    "loss": {"type": "ordinal_ce"},
}


def make_muq_eval(
    folder: str | PathLike[str],
    *,
    encoder: nn.Module | None = None,
    hidden: int = 32,
    prefix: str = "",
) -> Path:
    """Write a checkpoint in the files of MuQ-Eval-A1, with seeded random weights: its scores mean nothing.

    Args:
        folder: to make, or to write into.
        encoder: the `muq.MuQ` inside; None: that of `muq-tiny`.
        hidden: width of the two regressors; 256 as released.
        prefix: of all names, such as `module.`.
    Returns:
        The folder, with `config.yaml`, `base.yaml` and `model_state_dict.pt`.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if encoder is None:
        encoder = build_muq(TINY_MUQ_CONFIG)
        seed_weights(encoder, _SEED)
    head = MuQEvalHead(int(encoder.config.encoder_dim), 128, hidden)  # type: ignore[union-attr, arg-type]
    seed_weights(head, _SEED)
    with torch.no_grad():
        for name in ("MI", "TA"):
            head.get_parameter(f"heads.{name}.mlp.3.bias").fill_(3.0)  # so that scores lie in the middle of the scale
    tensors = {f"encoder.encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    tensors |= head.state_dict()
    torch.save({prefix + name: tensor.clone() for name, tensor in tensors.items()}, path / "model_state_dict.pt")
    for name, content in (("config.yaml", _CONFIG), ("base.yaml", _BASE)):
        (path / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
