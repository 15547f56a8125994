"""MuQ: 24 kHz audio in, 25 frames a second out (Zhu et al. 2025, arXiv 2501.01108), through the `muq` package."""

import logging
import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiomos_cache.encoders.base import DTYPES, Identity, Precision, resolve_layers
from audiomos_cache.encoders.muq_fast import FastMuQ
from audiomos_cache.encoders.muq_weights import (
    CONFIG,
    HUB_ID,
    SAMPLE_RATE_HZ,
    WEIGHTS,
    MuQWeights,
    read_muq,
    read_muq_config,
)
from audiomos_cache.errors import AudiomosError, EncoderError, first_five, in_one_line, shown
from audiomos_cache.hub import resolve_folder
from audiomos_cache.registry import register
from audiomos_cache.torch_settings import full_precision
from audiomos_cache.upstream.tensors import fault

log = logging.getLogger(__name__)

_MELS = 128
_ATTENTION_COPIES = 3  # of the scores that are there together; measured: 2.2 for a clip of 300 s


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


def require_weights(weights: MuQWeights) -> None:
    """Refuse weights that no MuQ can be built with, without building all of it.

    Raises:
        EncoderError: a tensor that decides a frame is missing, unknown, or of another shape than the others say.
    """
    with _failures_of_libraries(weights.where):
        one_layer = build_muq(weights.config | {"encoder_depth": 1}).state_dict()
        first = ".conformer.layers.0."
        expected = {
            name.replace(first, f".conformer.layers.{layer}."): tensor
            for name, tensor in one_layer.items()
            for layer in (range(weights.depth) if first in name else (0,))
        }
        weights.require(expected)
    if faults := [each for name, tensor in weights.deciding().items() if (each := fault(name, tensor, tensor.shape))]:
        raise EncoderError(f"{weights.where}: {first_five(faults)}; expected the weights of a MuQ")


class MuQEncoder:
    """Hidden states of a MuQ, numbered as `MuQ.forward` numbers them on transformers 4.

    Layer 0 is what enters the first conformer layer, layer i is the output of the i-th, and the last (12 of the
    released model) is `last_hidden_state`: it alone has passed the conformer's closing LayerNorm.

    The model's parts are called in turn rather than through `MuQ.forward`, which asks transformers for hidden states
    in a way that version 5 no longer supports, keeps all of them, and computes a projection that is not needed. The
    result is the same.

    In half precision the same function is computed by `FastMuQ`, from the mel spectrogram on, which stays in float32.
    """

    sample_rate_hz = SAMPLE_RATE_HZ
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
        weights = MuQWeights.of_model(model, name)
        self._config = weights.config
        self.layers = resolve_layers(layers, weights.depth, name)
        self.name = name
        self.untrained = untrained
        self.dim = int(model.config.encoder_dim)
        self._source, self._revision = source, revision
        self.device = torch.device(device)
        self.precision = precision
        self._model = model.model.to(self.device)
        self._fast = self._arranged(precision)
        self._compiled_batch = 0
        self._identity = weights.identity(self.layers)

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
        files = (CONFIG, WEIGHTS)
        folder, resolved = resolve_folder(
            source, revision, files, "--audio-encoder", EncoderError, [(file,) for file in files]
        )
        for file in files:
            if not (folder / file).is_file():
                raise EncoderError(
                    f"--audio-encoder {source}: {file} not found; a MuQ folder contains {' and '.join(files)}"
                )
        config = read_muq_config(folder / CONFIG)
        with _failures_of_libraries(source):
            resolve_layers(layers, MuQWeights(config, {}, source).depth, name)
            weights = read_muq(folder)
        return cls.of_weights(
            weights, name=name, source=source, revision=resolved, device=device, layers=layers, precision=precision
        )

    @classmethod
    def of_weights(cls, weights: MuQWeights, *, source: str, **options: Any) -> "MuQEncoder":
        """Build a MuQ with these weights; the options are those of the class.

        Raises:
            ConfigError: a layer it does not have. EncoderError: a tensor is missing, unknown or of another shape.
        """
        with _failures_of_libraries(source):
            model = build_muq(weights.config)
            weights.require(model.state_dict())
            model.load_state_dict(weights.deciding(), strict=False)
            return cls(model, source=source, **options)

    def weights(self) -> MuQWeights:
        """Return its weights, and what else decides a frame."""
        tensors = {f"model.{name}": tensor.cpu() for name, tensor in self._model.state_dict().items()}
        return MuQWeights(self._config, tensors, self.name)

    def with_layers(self, layers: Sequence[int]) -> "MuQEncoder":
        """Return an encoder of other layers that shares the weights with this one.

        Raises:
            ConfigError: a layer it does not have.
        """
        other = copy(self)
        other.layers = resolve_layers(layers, int(self._identity["depth"]), self.name)
        other._identity = self._identity | {"layers": ",".join(map(str, other.layers))}
        other._fast = other._arranged(self.precision)
        return other

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
        """Count the largest images of the front end, which are there together, or the scores of long attention.

        The images as measured on an H100, the attention, of which `FastMuQ` holds no scores, on a CPU.
        """
        channels, height, width = self._model.conv.conv[0].conv2.out_channels, _MELS // 2, samples // 480
        images, size = (3, 2) if self._fast is not None else (5, 4)
        scores = 0 if self._fast is not None else int(self._identity["attention_heads"]) * self.frames_for(samples) ** 2
        return int(max(images * channels * height * width * size, _ATTENTION_COPIES * 4 * scores)) + 8 * samples

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


@contextmanager
def _failures_of_libraries(source: str) -> Iterator[None]:
    """Turn what transformers, muq and torch raise about what they do not expect into one line."""
    try:
        yield
    except (AudiomosError, MemoryError):
        raise
    except Exception as error:
        reason = shown(in_one_line(error))
        raise EncoderError(f"--audio-encoder {source}: not a MuQ that can be loaded: {reason}") from error


def _keep_input(kept: dict[int, Tensor], i: int, _layer: nn.Module, args: tuple[Tensor, ...]) -> None:
    """Keep what enters layer i: what the one before it gave, whatever form a version of transformers gives it in."""
    kept[i] = args[0]


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
