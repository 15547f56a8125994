"""The weights of a MuQ and its config: read from a folder or taken from another checkpoint, checked, compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from audiomos_cache.encoders.base import Identity, hash_tensors
from audiomos_cache.errors import EncoderError, quoted
from audiomos_cache.files import read_json, require_file

HUB_ID = "OpenMuQ/MuQ-large-msd-iter"
LICENCE = "CC-BY-NC-4.0"
SAMPLE_RATE_HZ = 24_000
CONFIG, WEIGHTS = "config.json", "model.safetensors"
# The parts whose weights decide a frame; the rest of a checkpoint serves pre-training.
_PARTS = ("model.conv.", "model.conformer.layers.", "model.conformer.layer_norm.")
_COUNTER = "num_batches_tracked"
# What decides a frame and is no weight.
_CONFORMER_KEYS = ("hidden_act", "layer_norm_eps", "position_embeddings_type", "rotary_embedding_base")
_FRONT_END = {"hop_length": 240, "label_rate": 25}
_FREQUENCIES = "model.conformer.embed_positions.inv_freq"  # of the rotary positions: half a head's width

RELEASED_CONFIG: dict[str, Any] = {
    "encoder_dim": 1024,
    "encoder_depth": 12,
    "conv_dim": 512,
    "stat": {"melspec_2048_mean": 6.768444971712967, "melspec_2048_std": 18.417922652295623},
    "w2v2_config": {
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "activation_dropout": 0.1,
        "attention_dropout": 0.1,
        "conformer_conv_dropout": 0.1,
        "conv_depthwise_kernel_size": 31,
        "feat_extract_activation": "gelu",
        "hidden_act": "swish",
        "hidden_dropout": 0.1,
        "layer_norm_eps": 1e-5,
        "layerdrop": 0.0,
        "max_source_positions": 5000,
        "num_conv_pos_embeddings": 128,
        "num_conv_pos_embedding_groups": 16,
        "position_embeddings_type": "rotary",
        "rotary_embedding_base": 10000,
    },
}
"""What decides a frame in the config of `OpenMuQ/MuQ-large-msd-iter`, and what its class cannot be built without."""


@dataclass(frozen=True)
class MuQWeights:
    """A MuQ that is not built yet.

    Attributes:
        config: in the format of the published `config.json`.
        tensors: by the names of `muq`'s class.
        where: they are from, for messages.
    """

    config: dict[str, Any]
    tensors: Mapping[str, Tensor]
    where: str

    @classmethod
    def of_model(cls, model: Any, where: str) -> "MuQWeights":
        """Take those of `muq`'s class, as it was built."""
        keys = ("encoder_dim", "encoder_depth", "conv_dim", "stat", "w2v2_config")
        return cls({key: getattr(model.config, key) for key in keys}, model.state_dict(), where)

    @property
    def depth(self) -> int:
        """How many layers the conformer has."""
        return int(self.config.get("encoder_depth", RELEASED_CONFIG["encoder_depth"]))

    def deciding(self) -> dict[str, Tensor]:
        """Return the tensors that decide a frame: convolutions, conformer layers, norms and their statistics."""
        return {name: tensor for name, tensor in self.tensors.items() if decides_frames(name)}

    def identity(self, layers: tuple[int, ...]) -> Identity:
        """Return all that decides the value of a frame of these layers, by their numbers; see `AudioEncoder`."""
        conformer, stat = self.config["w2v2_config"], self.config["stat"]
        return {
            "class": "MuQ",
            "weights_xxh3_128": hash_tensors({name: each.float() for name, each in self.deciding().items()}),
            "layers": ",".join(map(str, layers)),
            "depth": self.depth,
            "attention_heads": int(conformer["num_attention_heads"]),
            **{key: conformer[key] for key in _CONFORMER_KEYS if key in conformer},
            "mel_mean": float(stat["melspec_2048_mean"]),
            "mel_std": float(stat["melspec_2048_std"]),
            "sample_rate_hz": SAMPLE_RATE_HZ,
            "dim": int(self.config.get("encoder_dim", RELEASED_CONFIG["encoder_dim"])),
        }

    def require(self, expected: Mapping[str, Tensor]) -> None:
        """Refuse weights of which some that decide a frame are missing, unknown or of another shape.

        Args:
            expected: tensors of a model that was built from the config.
        Raises:
            EncoderError: names the first.
        """
        needed, found = {name: each for name, each in expected.items() if decides_frames(name)}, self.deciding()
        for problem, names in (
            ("lacks", needed.keys() - found.keys()),
            ("holds unknown", found.keys() - needed.keys()),
        ):
            if names:
                raise EncoderError(
                    f"{self.where}: {problem} {min(names)} ({len(names)} tensors); expected the weights of a MuQ"
                )
        for name, tensor in needed.items():
            if found[name].shape != tensor.shape:
                raise EncoderError(
                    f"{self.where}: {name} has the shape {tuple(found[name].shape)}, expected {tuple(tensor.shape)} by "
                    "its config"
                )

        self._require_frequencies()

    def _require_frequencies(self) -> None:
        """Refuse rotary positions of other frequencies than the config gives, by which they are computed here."""
        found = self.tensors.get(_FREQUENCIES)
        if found is None or found.ndim != 1 or not len(found):
            return
        base = float(self.config["w2v2_config"].get("rotary_embedding_base", 10_000))
        expected = base ** -(torch.arange(len(found), dtype=torch.float64) / len(found))
        if not torch.allclose(found.double(), expected, rtol=1e-2, atol=0):
            raise EncoderError(
                f"{self.where}: {_FREQUENCIES} is not that of rotary positions with the base {base:g}, expected the "
                "weights of a MuQ as it was released"
            )

    def differs_from(self, other: "MuQWeights") -> str | None:
        """Say what decides a frame and differs from another MuQ, a tensor or a config's value; None: nothing does."""
        own, others = self.deciding(), other.deciding()
        if names := own.keys() ^ others.keys():
            return f"{min(names)} is in one of the two ({len(names)} tensors)"
        different = [name for name in sorted(own) if not torch.equal(own[name].float(), others[name].float())]
        if different:
            first = different[0]
            if own[first].shape != others[first].shape:
                return f"{first} has the shape {tuple(own[first].shape)}, not {tuple(others[first].shape)}"
            most = (own[first].float() - others[first].float()).abs().max().item()
            return f"{first} by up to {most:.3g} ({len(different)} of {len(own)} tensors)"
        configs = [each.identity(layers=(0,)) for each in (self, other)]
        return next(
            (f"{k} is {v}, not {configs[1].get(k)}" for k, v in configs[0].items() if configs[1].get(k) != v), None
        )


def decides_frames(name: str) -> bool:
    """Return whether a tensor of a MuQ decides a frame."""
    return name.startswith(_PARTS) and not name.endswith(_COUNTER)


def read_muq(folder: Path) -> MuQWeights:
    """Read the weights in a folder; only those that are used are taken from the disk.

    Raises:
        EncoderError: its config is another model's; the weights are no regular file.
    """
    config, path = read_muq_config(folder / CONFIG), folder / WEIGHTS
    require_file(path, "the weights of a MuQ", EncoderError)
    return MuQWeights(config, load_file(path), str(path))


def read_muq_config(path: Path) -> dict[str, Any]:
    """Read a MuQ's config; one that is another model's, or of another front end, is refused."""
    config = read_json(path, "the config of a MuQ", EncoderError)
    if not isinstance(config, dict) or not {"w2v2_config", "stat"} <= config.keys():
        raise EncoderError(f"{path}: not the config of a MuQ, which has encoder_dim, stat, w2v2_config and more")
    for key, expected in _FRONT_END.items():
        if config.get(key, expected) != expected:
            raise EncoderError(f"{path}: {key} is {quoted(config[key])}, and only {expected} can be used")
    for key in ("melspec_2048_mean", "melspec_2048_std"):
        if not isinstance(config["stat"], dict) or not isinstance(config["stat"].get(key), float | int):
            raise EncoderError(f"{path}: stat lacks the number {key}")
    return config


def weights_without_config(tensors: Mapping[str, Tensor], where: str) -> MuQWeights:
    """Take a MuQ from a checkpoint that comes without its config: the released one, with the widths of the tensors.

    Args:
        tensors: by the names of `muq`'s class.
        where: they are from, for messages.
    Raises:
        EncoderError: a tensor that tells a width is missing, or not of the dimensions that it has.
    """

    def size(name: str, dimensions: int, axis: int = 0) -> int:
        if name not in tensors or tensors[name].ndim != dimensions:
            found = "missing" if name not in tensors else f"of the shape {tuple(tensors[name].shape)}"
            raise EncoderError(f"{where}: {name} is {found}, expected the weights of a MuQ")
        return tensors[name].shape[axis]

    prefix = "model.conformer.layers."
    layers = {name.removeprefix(prefix).partition(".")[0] for name in tensors if name.startswith(prefix)}
    width = size("model.conv.linear.weight", 2)
    conformer = {
        "num_attention_heads": max(width // (2 * max(size(_FREQUENCIES, 1), 1)), 1),
        "intermediate_size": size(f"{prefix}0.ffn1.intermediate_dense.weight", 2),
        "conv_depthwise_kernel_size": size(f"{prefix}0.conv_module.depthwise_conv.weight", 3, 2),
    }
    config = {
        **RELEASED_CONFIG,
        "encoder_dim": width,
        "encoder_depth": len(layers),
        "conv_dim": size("model.conv.conv.0.conv1.weight", 4),
        "w2v2_config": RELEASED_CONFIG["w2v2_config"] | conformer,
    }
    return MuQWeights(config, tensors, where)
