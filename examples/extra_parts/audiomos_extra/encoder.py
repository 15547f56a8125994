"""WavLM (Chen et al. 2022, arXiv 2110.13900) as an audio encoder, through transformers' own class.

`wavlm-tiny` is a small one with random weights, to try things out; `wavlm:FOLDER_OR_REPOSITORY` loads trained ones.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from audiomos_cache.encoders.base import (
    QUIET_TRANSFORMERS,
    Identity,
    Precision,
    hash_tensors,
    resolve_layers,
    seed_weights,
)
from audiomos_cache.errors import ConfigError, EncoderError
from audiomos_cache.hub import resolve_folder
from audiomos_cache.registry import register

_FILES = ("config.json", "model*.safetensors", "model.safetensors.index.json")
_SEED = 2025
# Its size alone is not WavLM's.
_TINY: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "conv_dim": [32] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip


class WavLmEncoder:
    """Hidden states of a WavLM: 0 is what enters the first layer, i the output of the i-th; 50 a second, of 16 kHz."""

    sample_rate_hz = 16_000
    min_samples = 400  # what the first frame is made of
    precision: Precision = "fp32"

    def __init__(
        self, model: Any, *, name: str, source: str, revision: str, device: str, layers: Sequence[int], untrained: bool
    ) -> None:
        self.name, self.untrained = name, untrained
        self.dim = int(model.config.hidden_size)
        self.layers = resolve_layers(layers, int(model.config.num_hidden_layers), name)
        self.device = torch.device(device)
        self._source, self._revision = source, revision
        self._model = model.eval().requires_grad_(False).to(self.device)
        self._strides = list(zip(model.config.conv_kernel, model.config.conv_stride, strict=True))
        self._normalized = model.config.feat_extract_norm == "layer"  # as these models' feature extractors do
        self._identity: Identity = {
            "class": "WavLM",
            "weights_xxh3_128": hash_tensors(model.state_dict()),
            "layers": ",".join(map(str, self.layers)),
            "depth": int(model.config.num_hidden_layers),
            "attention_heads": int(model.config.num_attention_heads),
            "stable_layer_norm": int(model.config.do_stable_layer_norm),
            "sample_rate_hz": self.sample_rate_hz,
            "dim": self.dim,
        }

    def identity(self) -> Identity:
        """Return all that decides the value of a frame."""
        return dict(self._identity)

    def provenance(self) -> Identity:
        """Return where the weights came from."""
        return {"source": self._source, "revision": self._revision}

    def frames_for(self, samples: int) -> int:
        """Return how many frames a waveform gives: each convolution takes its kernel in strides."""
        for kernel, stride in self._strides:
            samples = (samples - kernel) // stride + 1
        return samples

    def working_bytes(self, samples: int) -> int:
        """Return the size of the widest layers of the front end and of an attention, about."""
        return 4 * (samples // 5 * 512 * 3 + self.frames_for(samples) ** 2 * 16)

    @torch.inference_mode()
    def encode(self, waveforms: Tensor) -> Tensor:
        """Turn (B, samples) into (layers, B, T, dim)."""
        waveforms = waveforms.to(self.device)
        if self._normalized:
            centred = waveforms - waveforms.mean(dim=1, keepdim=True)
            waveforms = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-7).sqrt()
        states = self._model(waveforms, output_hidden_states=True).hidden_states
        return torch.stack([states[layer] for layer in self.layers]).float()

    def encode_fp32(self, waveforms: Tensor) -> Tensor:
        """Do what `encode` does, which is in float32."""
        return self.encode(waveforms)


@register("audio_encoder", "wavlm-tiny")
def load_wavlm_tiny(
    source: str | None, *, name: str, revision: str | None, device: str, layers: Sequence[int], precision: Precision
) -> WavLmEncoder:
    """A WavLM of dim 64 and 2 layers with random weights."""
    from transformers import WavLMConfig, WavLMModel

    _refuse_half(name, precision)
    if source is not None or revision is not None:
        raise ConfigError(f"{name} is made by code; it has no source and no revision")
    model = WavLMModel(WavLMConfig(**_TINY))
    seed_weights(model, _SEED)
    return WavLmEncoder(
        model, name=name, source=f"seeded random weights {_SEED}", revision="none", device=device, layers=layers,
        untrained=True,
    )  # fmt: skip


@register("audio_encoder", "wavlm")
def load_wavlm(
    source: str | None, *, name: str, revision: str | None, device: str, layers: Sequence[int], precision: Precision
) -> WavLmEncoder:
    """A WavLM from a folder that save_pretrained wrote, or from the hub (microsoft/wavlm-base)."""
    from transformers import WavLMModel

    _refuse_half(name, precision)
    source = source or "microsoft/wavlm-base"
    folder, resolved = resolve_folder(source, revision, _FILES, "--audio-encoder", EncoderError)
    try:
        with QUIET_TRANSFORMERS:
            model = WavLMModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EncoderError(f"--audio-encoder {name}: not a WavLM that can be loaded: {reason}") from error
    return WavLmEncoder(
        model, name=name, source=source, revision=resolved, device=device, layers=layers, untrained=False
    )


def _refuse_half(name: str, precision: Precision) -> None:
    if precision != "fp32":
        raise ConfigError(f"{name} computes in float32; give --precision fp32")
