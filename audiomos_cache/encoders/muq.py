"""MuQ: 24 kHz audio in, 25 frames a second out (Zhu et al. 2025, arXiv 2501.01108), through the `muq` package."""

import logging
import math
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from audiomos_cache.encoders.base import DTYPES, Identity, Precision, hash_tensors, resolve_layers
from audiomos_cache.encoders.muq_fast import FastMuQ
from audiomos_cache.errors import AudiomosError, EncoderError, in_one_line, quoted, shown
from audiomos_cache.files import read_json, require_file
from audiomos_cache.hub import resolve_folder
from audiomos_cache.registry import register
from audiomos_cache.torch_settings import full_precision

log = logging.getLogger(__name__)

HUB_ID = "OpenMuQ/MuQ-large-msd-iter"
_MELS = 128
_FILES = ("config.json", "model.safetensors")
# The parts whose weights decide a frame; the rest of a checkpoint serves pre-training.
_PARTS = ("model.conv.", "model.conformer.layers.", "model.conformer.layer_norm.")
# What decides a frame and is no weight.
_CONFORMER_KEYS = ("hidden_act", "layer_norm_eps", "position_embeddings_type", "rotary_embedding_base")
_FRONT_END = {"hop_length": 240, "label_rate": 25}


def build_muq(config: dict[str, Any]) -> Any:
    """Build `muq`'s own class from a config in the format of the published `config.json`, with random weights.

    transformers 5 asks the conformer's config, which `muq` passes as a dict, for the attention to use.
    `muq` seeds the global generators; their state is restored.
    """
    from muq.muq.muq import MuQ, MuQConfig

    known = {key: value for key, value in config.items() if key in MuQConfig.__dataclass_fields__}
    known["rvq_ckpt_path"] = None  # a file of pre-training, which `muq` would unpickle
    known["w2v2_config"] = {**config["w2v2_config"], "_attn_implementation": "eager"}
    state = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            return MuQ(MuQConfig(**known)).eval().requires_grad_(False)
    finally:
        random.setstate(state)


class MuQEncoder:
    """Hidden states of a MuQ, numbered as `MuQ.forward` numbers them on transformers 4.

    Layer 0 is what enters the first conformer layer, layer i is the output of the i-th, and the last (12 of the
    released model) is `last_hidden_state`: it alone has passed the conformer's closing LayerNorm.

    The model's parts are called in turn rather than through `MuQ.forward`, which asks transformers for hidden states
    in a way that version 5 no longer supports, keeps all of them, and computes a projection that is not needed. The
    result is the same.

    In half precision the same function is computed by `FastMuQ`, from the mel spectrogram on, which stays in float32.
    """

    sample_rate_hz = 24_000
    min_samples = 2048  # the front end mirrors 1024 samples at each end

    def __init__(
        self,
        model: Any,
        *,
        name: str,
        source: str,
        revision: str,
        device: str = "cpu",
        layers: Sequence[int] = (-1,),
        precision: Precision = "fp32",
        untrained: bool = False,
    ) -> None:
        depth = int(model.config.encoder_depth)
        self.layers = resolve_layers(layers, depth, name)
        self.name = name
        self.untrained = untrained
        self.dim = int(model.config.encoder_dim)
        self._source, self._revision = source, revision
        self.device = torch.device(device)
        self.precision = precision
        self._model = model.model.to(self.device)
        self._fast = self._arranged(precision)
        self._compiled_batch = 0
        self._identity: Identity = {
            "class": "MuQ",
            "weights_xxh3_128": hash_tensors(
                {key: value for key, value in model.state_dict().items() if key.startswith(_PARTS)}
            ),
            "layers": ",".join(map(str, self.layers)),
            "depth": depth,
            "attention_heads": int(model.config.w2v2_config["num_attention_heads"]),
            **{key: model.config.w2v2_config[key] for key in _CONFORMER_KEYS if key in model.config.w2v2_config},
            "mel_mean": float(model.config.stat["melspec_2048_mean"]),
            "mel_std": float(model.config.stat["melspec_2048_std"]),
            "sample_rate_hz": self.sample_rate_hz,
            "dim": self.dim,
        }

    @classmethod
    def load(
        cls,
        source: str,
        *,
        name: str,
        revision: str | None = None,
        device: str = "cpu",
        layers: Sequence[int] = (-1,),
        precision: Precision = "fp32",
    ) -> "MuQEncoder":
        """Load a MuQ from a hub repository or a folder that holds `config.json` and `model.safetensors`.

        Raises:
            ConfigError: a layer it does not have; found out before its weights are read.
            EncoderError: not available, not in that format, or weights missing or of another shape.
        """
        folder, resolved = resolve_folder(
            source, revision, _FILES, "--audio-encoder", EncoderError, [(file,) for file in _FILES]
        )
        for file in _FILES:
            if not (folder / file).is_file():
                raise EncoderError(
                    f"--audio-encoder {source}: {file} not found; a MuQ folder contains {' and '.join(_FILES)}"
                )
        try:
            config = _read_config(folder / "config.json")
            resolve_layers(layers, _depth(config), name)
            model = build_muq(config)
            _load_weights(model, folder / "model.safetensors")
        except (AudiomosError, MemoryError):
            raise
        except Exception as error:  # transformers, muq and torch fail in their own ways on what they do not expect
            reason = shown(in_one_line(error))
            raise EncoderError(f"--audio-encoder {source}: not a MuQ that can be loaded: {reason}") from error
        return cls(
            model, name=name, source=source, revision=resolved, device=device, layers=layers, precision=precision
        )

    def identity(self) -> Identity:
        """Return all that decides the value of a frame."""
        return self._identity

    def provenance(self) -> Identity:
        """Return source and resolved revision."""
        return {"source": self._source, "revision": self._revision}

    def frames_for(self, samples: int) -> int:
        """Count frames: a mel frame per 240 samples, then two convolutions that halve, rounding up."""
        return math.ceil(math.ceil(samples // 240 / 2) / 2)

    def working_bytes(self, samples: int) -> int:
        """Count the largest images of the front end, which are there together; measured on an H100."""
        channels, height, width = self._model.conv.conv[0].conv2.out_channels, _MELS // 2, samples // 480
        images, size = (3, 2) if self._fast is not None else (5, 4)
        return int(images * channels * height * width * size) + 8 * samples

    @torch.inference_mode()
    def encode(self, waveforms: Tensor) -> Tensor:
        """Turn waveforms of one length into the requested hidden states.

        Args:
            waveforms: (B, samples) float32 at 24 kHz, at least `min_samples` long.
        Returns:
            (layers, B, frames_for(samples), dim) float32 on the encoder's device, in the order of `layers`.
        """
        if self._fast is None:
            return self.encode_fp32(waveforms)
        clips = len(waveforms)
        if clips < self._compiled_batch:  # another shape would be compiled again
            waveforms = functional.pad(waveforms, (0, 0, 0, self._compiled_batch - clips))
        frames: Tensor = self._fast(self._mel(waveforms))
        return frames[:, :clips]

    @torch.inference_mode()
    def encode_fp32(self, waveforms: Tensor) -> Tensor:
        """Encode in float32 throughout, by the class's own modules: what other precisions are measured against."""
        with full_precision():
            return self._hidden_states(self._model.conv(self._mel(waveforms)))

    def compile(self, batch: int, samples: int, backend: str = "inductor") -> float | None:
        """Compile the conformer's layers, one for all, for batches of one shape; smaller ones are filled up to it.

        Args:
            batch: clips in a batch.
            samples: of each.
            backend: of `torch.compile`.
        Returns:
            The seconds it took; None where it failed, which is logged and changes nothing.
        """
        if self._fast is None:
            return None
        start = time.perf_counter()
        try:
            for layer in self._fast.layers:
                layer.compile(dynamic=False, backend=backend)
            self._compiled_batch = batch
            self.encode(torch.zeros(batch, samples, device=self.device))
        except Exception as error:  # a compiler may be missing, or fail in its own ways
            self._compiled_batch = 0
            for layer in self._fast.layers:
                layer._compiled_call_impl = None
            reason = in_one_line(error)[:200]
            log.warning("%s: cannot be compiled (%s: %s); not compiling it", self.name, type(error).__name__, reason)
            return None
        return time.perf_counter() - start

    def _arranged(self, precision: Precision) -> FastMuQ | None:
        if precision == "fp32":
            return None
        if not FastMuQ.can_arrange(self._model):
            raise EncoderError(f"--precision {precision}: {self.name} has no rotary positions; give --precision fp32")
        return FastMuQ(self._model, self.layers).convert(DTYPES[precision], self.device)

    def _mel(self, waveforms: Tensor) -> Tensor:
        """Return the normalised log-mel spectrogram, (B, mels, T) float32."""
        mel = self._model.preprocessing(waveforms.to(self.device), features=["melspec_2048"])
        normalised: Tensor = self._model.normalize(mel)["melspec_2048"]
        return normalised

    def _hidden_states(self, subsampled: Tensor) -> Tensor:
        frames: dict[int, Tensor] = {}
        conformer_layers = self._model.conformer.layers
        with ExitStack() as hooks:
            for i in self.layers:
                if i < len(conformer_layers):
                    hooks.enter_context(conformer_layers[i].register_forward_pre_hook(partial(_keep_input, frames, i)))
            frames[len(conformer_layers)] = self._model.conformer(subsampled).last_hidden_state
        return torch.stack([frames[i] for i in self.layers])


def _keep_input(kept: dict[int, Tensor], i: int, _layer: nn.Module, args: tuple[Tensor, ...]) -> None:
    """Keep what enters layer i: what the one before it gave, whatever form a version of transformers gives it in."""
    kept[i] = args[0]


def _read_config(path: Path) -> dict[str, Any]:
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


def _depth(config: dict[str, Any]) -> int:
    from muq.muq.muq import MuQConfig

    return int(config.get("encoder_depth", MuQConfig.encoder_depth))


def _load_weights(model: Any, path: Path) -> None:
    """Load a checkpoint; every tensor of the parts that decide a frame must be there, in its shape."""
    require_file(path, "the weights of a MuQ", EncoderError)
    found = load_file(path)
    expected = {key for key in model.state_dict() if key.startswith(_PARTS) and not key.endswith("num_batches_tracked")}
    missing = sorted(expected - found.keys())
    foreign = sorted(key for key in found.keys() - model.state_dict().keys() if key.startswith(_PARTS))
    for problem, keys in (("lacks", missing), ("holds unknown", foreign)):
        if keys:
            raise EncoderError(f"{path}: {problem} {keys[0]} ({len(keys)} tensors); expected the weights of a MuQ")
    model.load_state_dict(found, strict=False)


@register("audio_encoder", "muq")
def load_muq(
    source: str | None = None,
    *,
    name: str = "muq",
    revision: str | None = None,
    device: str = "cpu",
    layers: Sequence[int] = (-1,),
    precision: Precision = "fp32",
) -> MuQEncoder:
    """MuQ, 330 M parameters, 24 kHz, 25 frames a second (OpenMuQ/MuQ-large-msd-iter, or a folder like it).

    Raises:
        ConfigError, EncoderError: as `MuQEncoder.load`.
    """
    return MuQEncoder.load(
        source or HUB_ID, name=name, revision=revision, device=device, layers=layers, precision=precision
    )
