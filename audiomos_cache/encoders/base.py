"""What an encoder is: audio or a prompt in, features out, and an identity of all that decides their values.

Below the protocols is what encoders share: their layers, the hash of their weights, loading them without a word, and
seeded random weights.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
import xxhash
from torch import Tensor, nn

from audiomos_cache.errors import ConfigError
from audiomos_cache.torch_settings import ProcessSetting

Identity = dict[str, str | int | float]
Precision = Literal["fp16", "bf16", "fp32"]
DTYPES: dict[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


class AudioEncoder(Protocol):
    """A frozen model that turns waveforms into frames.

    Attributes:
        name: as the user gave it.
        dim: width of a frame.
        sample_rate_hz: what `encode` expects.
        min_samples: the shortest waveform that it can encode.
        layers: which hidden states `encode` gives: indices from 0 in ascending order, each once, at least one.
        untrained: whether its weights are random; an encoder without this attribute is trained.
        precision: that `encode` computes in.
    """

    name: str
    dim: int
    sample_rate_hz: int
    min_samples: int
    layers: tuple[int, ...]
    untrained: bool
    precision: Precision

    @property
    def device(self) -> torch.device:
        """Return the device that it runs on."""

    def identity(self) -> Identity:
        """Return all that decides the value of a frame: class, weights hash, layers, front end."""

    def provenance(self) -> Identity:
        """Return where the weights came from: source and resolved revision. Decides no value."""

    def frames_for(self, samples: int) -> int:
        """Return how many frames a waveform of that many samples gives."""

    def encode(self, waveforms: Tensor) -> Tensor:
        """Turn waveforms of one length into the frames of each layer.

        Args:
            waveforms: (B, samples) float32.
        Returns:
            (layers, B, T, dim) float32 on the encoder's device, in the order of `layers`, also where there is but one.
        """

    def encode_fp32(self, waveforms: Tensor) -> Tensor:
        """Do what `encode` does, in float32 whatever the precision: for waveforms that overflow in half of it."""

    def working_bytes(self, samples: int) -> int:
        """Return how much memory the encoding of a waveform of that many samples takes, besides the weights."""


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """What a text encoder gives for one prompt.

    Attributes:
        tokens: (L, dim) float32, one row per token, on the CPU.
        pad_vector: (dim,) float32, the encoder's output at a padding position of this prompt.
        cut: whether the prompt was longer than the encoder's most tokens.
    """

    tokens: Tensor
    pad_vector: Tensor
    cut: bool


class TextEncoder(Protocol):
    """A frozen model that turns prompts into tokens, in float32; the attributes are those of `AudioEncoder`."""

    name: str
    dim: int
    max_tokens: int
    untrained: bool

    def identity(self) -> Identity:
        """Return all that decides the value of a token: class, weights hash, tokenizer, most tokens."""

    def provenance(self) -> Identity:
        """Return where the weights came from: source and resolved revision. Decides no value."""

    def count_tokens(self, prompt: str) -> int:
        """Return how many tokens the prompt has, special ones included, at most `max_tokens`."""

    def encode(self, prompts: Sequence[str]) -> list[TextFeatures]:
        """Encode prompts of one and the same number of tokens as one batch."""


def is_untrained(encoder: AudioEncoder | TextEncoder) -> bool:
    """Return whether an encoder's weights are random, as it says itself."""
    return bool(getattr(encoder, "untrained", False))


def resolve_layers(layers: Sequence[int], depth: int, name: str) -> tuple[int, ...]:
    """Turn the layers that a user requested into indices in ascending order, each of them once.

    Args:
        layers: from 0 to depth, or from -1 (the last) to -(depth + 1); at least one.
        depth: number of the encoder's layers, and the index of its last hidden state.
        name: the encoder's, for messages.
    Raises:
        ConfigError: no layer, or one that the encoder does not have.
    """
    known = f"{name} has layers 0 to {depth} (or -{depth + 1} to -1)"
    if not layers:
        raise ConfigError(f"--layers: none given; {known}")
    unknown = [str(layer) for layer in layers if not -(depth + 1) <= layer <= depth]
    if unknown:
        raise ConfigError(f"--layers {','.join(unknown)}: {known}")
    return tuple(sorted({layer % (depth + 1) for layer in layers}))


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, shapes, dtypes and bytes of floating-point tensors: 32 hex digits of xxh3_128.

    Integer tensors (counters, position indices) do not decide a feature and are left out.
    """
    digest = xxhash.xxh3_128()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        if tensor.is_floating_point():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _quieten_transformers() -> Callable[[], None]:
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    def restore() -> None:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

    return restore


QUIET_TRANSFORMERS = ProcessSetting(_quieten_transformers)
"""Keeps transformers from reporting on stderr what it loads: with a bar, and tables of weights that a class lacks.

What is wrong with the weights is for the encoder to raise.
"""


def seed_weights(model: nn.Module, seed: int) -> None:
    """Fill every parameter with values that depend on `seed` and the parameter's name alone.

    Weights and biases of a layer are uniform on +-1 / sqrt(fan-in), as torch's linear layers start; norms stay one
    and zero. NumPy draws them, so neither the order in which a library creates its layers nor its own
    initialisation changes them.
    """
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            weight = parameters.get(f"{name.rpartition('.')[0]}.weight") if name.endswith(".bias") else parameter
            if weight is None or weight.ndim < 2:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
            values = 2 * generator.random(tuple(parameter.shape), dtype=np.float32) - 1
            parameter.copy_(torch.from_numpy(values / np.sqrt(weight[0].numel(), dtype=np.float32)))
