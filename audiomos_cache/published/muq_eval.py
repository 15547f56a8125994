"""MuQ-Eval-A1: attentive pooling and two small regressors (Zhu and Li 2026, arXiv 2603.22677; its code is MIT).

Both of its heads hear the audio alone. Its encoder lies in the same checkpoint.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from audiomos_cache.encoders.muq_weights import weights_without_config
from audiomos_cache.errors import BundleError, first_five, quoted
from audiomos_cache.published.catalogue import Checkpoint
from audiomos_cache.published.outputs import Scores, head_of
from audiomos_cache.upstream.tensors import read_checkpoint
from audiomos_cache.yaml_files import read_mapping

_ENCODER = "encoder.encoder."
_POOLING = "encoder.pooling.attention"
_TARGETS = {"MI": "mi", "TA": "ta_without_prompt"}
_FILES = ("model_state_dict.pt", "model_state_dict.safetensors", "best_model.pt")
_WRAPPERS = ("model_state", "model_state_dict", "state_dict")
# What its configs say of the model, section by section, as released.
_CONFIG: dict[str, dict[str, object]] = {
    "data": {"sample_rate": 24_000, "clip_samples": 240_000},
    "model": {"encoder": "muq", "tuning_mode": "frozen", "pooling": "attention", "head_layers": 2},
    "loss": {"type": "mse"},
}


class MuQEvalHead(nn.Module):
    """Attention over frames, one vector of it for both regressors; its tensors have the names of the checkpoint."""

    def __init__(self, dim: int, attention: int, hidden: int) -> None:
        super().__init__()
        pooling = nn.Sequential(nn.Linear(dim, attention), nn.Tanh(), nn.Linear(attention, 1))
        self.encoder = nn.ModuleDict({"pooling": nn.ModuleDict({"attention": pooling})})
        self.heads = nn.ModuleDict(
            {
                name: nn.ModuleDict(
                    {"mlp": nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, 1))}
                )
                for name in _TARGETS
            }
        )

    def forward(self, frames: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor) -> Scores:
        """Score clips by all of their frames, those of padding too, as it was trained.

        Args:
            frames: (B, T, dim).
            frame_mask, tokens, token_mask: not used.
        """
        del frame_mask, tokens, token_mask
        share = self.get_submodule(_POOLING)(frames).softmax(dim=1)  # (B, T, 1)
        pooled = (frames * share).sum(dim=1)
        return Scores(
            {target: self.get_submodule(f"heads.{name}.mlp")(pooled).squeeze(1) for name, target in _TARGETS.items()}
        )


def build(tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build the head with these tensors, whose shapes say its widths.

    Raises:
        BundleError: a tensor is missing, unknown, or of a shape that does not fit the others.
    """
    return head_of(
        "MuQ-Eval-A1",
        tensors,
        lambda width: MuQEvalHead(width(f"{_POOLING}.0", 1), width(f"{_POOLING}.0"), width("heads.MI.mlp.0")),
    )


def read(path: Path) -> Checkpoint:
    """Read the published checkpoint: a folder with `model_state_dict.pt` and its configs, or the file alone.

    Raises:
        BundleError: LoRA weights; a config that says another model; no such file. DataError: see `read_checkpoint`.
        EncoderError: the MuQ inside is none.
    """
    if path.is_dir():
        _check_configs(path)
        found = [path / name for name in _FILES if (path / name).is_file()]
        if not found:
            raise BundleError(f"{path}: none of {', '.join(_FILES)} in it, expected the published MuQ-Eval-A1")
        path = found[0]
    found_tensors = read_checkpoint(path, _WRAPPERS, "MuQ-Eval")
    tensors = {name.removeprefix("module."): each for name, each in found_tensors.items()}
    if len(tensors) < len(found_tensors):
        twins = sorted(name for name in found_tensors if f"module.{name}" in found_tensors)
        raise BundleError(f"{path}: holds {first_five(twins)} with and without module., expected each tensor once")
    if lora := sorted(name for name in tensors if "lora" in name.lower() or ".base_layer." in name):
        raise BundleError(
            f"{path}: holds {first_five(lora)}: LoRA changes the encoder (MuQ-Eval-A3a), and these heads are for a "
            "frozen MuQ; give MuQ-Eval-A1"
        )
    if bins := sorted(name for name in tensors if name.endswith("bin_centers")):
        raise BundleError(f"{path}: holds {first_five(bins)}: ordinal bins (MuQ-Eval-A3a), expected MuQ-Eval-A1")
    is_muq = f"{_ENCODER}model."
    muq = {name.removeprefix(_ENCODER): each for name, each in tensors.items() if name.startswith(is_muq)}
    head = {name: each for name, each in tensors.items() if not name.startswith(is_muq)}
    return Checkpoint(head, weights_without_config(muq, str(path)) if muq else None)


def _check_configs(folder: Path) -> None:
    """Refuse a folder whose configs are of another model; a checkpoint alone comes without them."""
    content: dict[str, Any] = {}
    for name in ("base.yaml", "config.yaml"):
        if (folder / name).is_file():
            read = read_mapping(folder / name, "keys such as model, data, loss", BundleError, "download it again")
            for section, values in read.items():
                content[section] = {**content.get(section, {}), **values} if isinstance(values, dict) else values
    for section, expected in _CONFIG.items():
        found = content.get(section, {})
        for key, value in expected.items():
            if isinstance(found, dict) and found.get(key, value) != value:
                raise BundleError(
                    f"{folder}: its config has {section}.{key} {quoted(found[key])}, expected {quoted(value)} as "
                    "MuQ-Eval-A1 was released with"
                )
