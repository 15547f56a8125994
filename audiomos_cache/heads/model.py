"""The head: layers -> temporal -> pooling -> MI; text_audio -> TA; a downstream and an output layer for each target."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiomos_cache.errors import ConfigError, first_five
from audiomos_cache.heads.config import Compat, HeadConfig
from audiomos_cache.heads.layers import OneLayer, WeightedLayers
from audiomos_cache.heads.outputs import (
    OUTPUTS,
    LstmDownstream,
    MlpDownstream,
    TargetOutput,
)
from audiomos_cache.heads.parts import build_part, scaled
from audiomos_cache.heads.pooling import MakePooling, at_least_float32, width_of
from audiomos_cache.heads.presets import head_config, with_compat
from audiomos_cache.heads.text_audio import TEXT_AUDIO
from audiomos_cache.registry import lookup
from audiomos_cache.upstream.quirks import PaddingPooling, as_published


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """A head's predictions for a batch of clips, one `TargetOutput` per target."""

    mi_output: TargetOutput
    ta_output: TargetOutput

    @property
    def mi(self) -> Tensor:
        """MI scores, (B,)."""
        return self.mi_output.score

    @property
    def ta(self) -> Tensor:
        """TA scores, (B,)."""
        return self.ta_output.score

    @property
    def mi_dist(self) -> Tensor | None:
        """Distribution of MI over the score bins, (B, bins), where the head has one."""
        return self.mi_output.dist

    @property
    def ta_dist(self) -> Tensor | None:
        """Distribution of TA over the score bins, (B, bins), where the head has one."""
        return self.ta_output.dist

    def columns(self) -> dict[str, Tensor]:
        """Return scores and distributions by their names in `Predictions`; distributions where the head has them."""
        found = {"mi": self.mi, "ta": self.ta, "mi_dist": self.mi_dist, "ta_dist": self.ta_dist}
        return {name: values for name, values in found.items() if values is not None}

    @property
    def mi_logits(self) -> Tensor | None:
        """Ordinal logits of MI, (B, ranks - 1), where the head has them."""
        return self.mi_output.logits

    @property
    def ta_logits(self) -> Tensor | None:
        """Ordinal logits of TA, (B, ranks - 1), where the head has them."""
        return self.ta_output.logits


class Head(nn.Module):
    """Everything that is trained on frozen features.

    A clip's prediction does not depend on its batch, unless the parts are those of `compat: upstream`.
    """

    def __init__(
        self,
        temporal: nn.Module,
        pooling: nn.Module,
        text_audio: nn.Module,
        decoupled: bool,
        mi: nn.Module,
        ta: nn.Module,
        layers: OneLayer | WeightedLayers,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.temporal = temporal
        self.pooling = pooling
        self.text_audio = text_audio
        self.decoupled = decoupled
        self.mi = mi
        self.ta = ta

    def forward(self, frames: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor) -> HeadOutput:
        """Predict MI and TA of each clip: `head(*batch)`.

        The values of the masks are not checked, as that would wait for the GPU: a clip without a valid frame or
        token gives NaN. `audiomos_cache.batch.check_masks` refuses such a batch.

        Args:
            frames: (B, T, audio_dim) float, the clips' frames, padded with anything finite; (B, layers, T, audio_dim)
                for a head that mixes layers.
            frame_mask: (B, T) bool, True = valid, the valid frames first, at least one per clip.
            tokens: (B, L, text_dim) float, the prompts' tokens, padded with anything finite.
            token_mask: (B, L) bool, True = valid, at least one per clip.
        """
        mi, ta = self.represent(frames, frame_mask, tokens, token_mask)
        return HeadOutput(mi_output=self.mi(mi), ta_output=self.ta(ta))

    def represent(
        self, frames: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the vectors that MI and TA are predicted from, (B, size) each: nearly all of a head's work."""
        frames = self.layers(at_least_float32(frames))
        hidden = self.temporal(frames, frame_mask)
        audio = frames if self.decoupled else hidden
        return self.pooling(hidden, frame_mask), self.text_audio(audio, frame_mask, tokens, token_mask)


def build_head(
    preset_or_config: str | Path | Mapping[str, Any] | HeadConfig,
    audio_dim: int = 1024,
    text_dim: int = 768,
    compat: Compat | None = None,
    *,
    layers: int = 1,
) -> Head:
    """Build a head with freshly initialised weights (from torch's global generator).

    Args:
        preset_or_config: a preset's name, the path of a YAML file, what such a file holds, or a validated config.
        audio_dim: width of the frames. All published widths scale with it.
        text_dim: width of the tokens.
        compat: used instead of the config's where given. "upstream" has the published code's quirks, and the same
            tensors, initialised alike.
        layers: how many layers the cache holds; only a head that mixes them depends on it.
    Raises:
        ConfigError: unknown preset, invalid config, attention heads that do not divide `audio_dim`, an odd `audio_dim`
            for a transformer, a single layer to mix, a part whose constructor takes other arguments than its keys, or
            a head that the published code does not have with "upstream".
    """
    config = head_config(preset_or_config)
    if compat is not None:
        config = with_compat(config, compat)
    temporal = _build_temporal(config, audio_dim)
    frames_dim = width_of(temporal)
    make_pooling = _pooling_maker(config, audio_dim)
    pooling = make_pooling(frames_dim)
    decoupled = config.text_audio.kind == "decoupled"
    text_audio = _build_text_audio(config, audio_dim if decoupled else frames_dim, audio_dim, text_dim)
    return Head(
        temporal=temporal,
        pooling=pooling,
        text_audio=text_audio,
        decoupled=decoupled,
        mi=_build_target(config, width_of(pooling), hidden=scaled(512, audio_dim), audio_dim=audio_dim),
        ta=_build_target(config, width_of(text_audio), hidden=scaled(384, audio_dim), audio_dim=audio_dim),
        layers=_build_layers(config, layers),
    )


def build_with(
    weights: Mapping[str, Tensor], config: HeadConfig, audio_dim: int, text_dim: int, *, layers: int = 1
) -> Head:
    """Build a head that computes as it did when these weights were saved; torch's generators are left as they are.

    Args:
        weights: by name, from a file of which nothing is known.
        config, audio_dim, text_dim, layers: see `build_head`.
    Raises:
        ConfigError: no head can be of these widths. ValueError: its tensors are others than those in `weights`, or
        not finite. RuntimeError, TypeError, OverflowError: its widths are beyond all tensors.
    """
    depth = getattr(config.temporal, "layers", 0)
    if isinstance(depth, int) and depth > len(weights):
        raise ValueError(f"{len(weights)} tensors, expected some for each of {depth} layers")
    with torch.device("meta"):  # takes no memory, however large its widths are
        expected = _described(build_head(config, audio_dim, text_dim, layers=layers).state_dict())
    found = _described(weights)
    if other := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        differing = [f"{name} is {found.get(name, 'missing')}, expected {expected.get(name, 'none')}" for name in other]
        raise ValueError(first_five(differing))
    if bad := sorted(name for name, tensor in weights.items() if not tensor.isfinite().all()):
        raise ValueError(f"NaN or infinite weights in {first_five(bad)}")
    with torch.random.fork_rng(devices=[]):
        head = build_head(config, audio_dim, text_dim, layers=layers)
    head.load_state_dict(weights)
    return head


def _described(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{tuple(tensor.shape)} {tensor.dtype}" for name, tensor in tensors.items()}


def _build_layers(config: HeadConfig, layers: int) -> OneLayer | WeightedLayers:
    if config.layers != "weighted":
        return OneLayer()
    if layers < 2:
        raise ConfigError("layers: 'weighted' mixes several layers, and the cache holds only one; use only")
    return WeightedLayers(layers)


def _build_temporal(config: HeadConfig, audio_dim: int) -> nn.Module:
    name, arguments = config.temporal.kind, config.temporal.arguments(audio_dim)
    part = _form(lookup("temporal", name), config)
    return build_part("temporal", name, part, audio_dim, **arguments, dropout=config.dropout)


def _pooling_maker(config: HeadConfig, audio_dim: int) -> MakePooling:
    """Return what makes the head's pooling for sequences of a width."""
    name = config.pooling.kind
    part = _form(lookup("pooling", name), config)
    return partial(build_part, "pooling", name, part, **config.pooling.arguments(audio_dim))


def _build_text_audio(config: HeadConfig, audio_size: int, audio_dim: int, text_dim: int) -> nn.Module:
    """Build what joins prompt and audio; `audio_size` is the width of its audio, `audio_dim` scales its own."""
    part = _form(TEXT_AUDIO[config.text_audio.kind], config)
    make_pooling = PaddingPooling if config.compat == "upstream" else _pooling_maker(config, audio_dim)
    arguments = config.text_audio.arguments(audio_dim)
    return part(audio_size, text_dim, make_pooling=make_pooling, dropout=config.dropout, **arguments)


def _build_target(config: HeadConfig, input_size: int, hidden: int, audio_dim: int) -> nn.Sequential:
    """Put a downstream and an output layer together for one target; `hidden` is the width of its first layer."""
    downstream: LstmDownstream | MlpDownstream
    if config.downstream == "lstm":
        downstream = LstmDownstream(input_size, hidden)
    elif config.output.kind == "coral":  # both targets have the same widths, and a dropout after each ReLU
        sizes = (scaled(512, audio_dim), scaled(256, audio_dim))
        downstream = MlpDownstream(input_size, sizes, config.dropout, dropout_after=(0, 1))
    else:
        downstream = MlpDownstream(input_size, (hidden, max(hidden // 2, 1)), config.dropout, dropout_after=(0,))
    output = _form(OUTPUTS[config.output.kind], config)
    return nn.Sequential(downstream, output(downstream.output_size, **config.output.arguments(audio_dim)))


def _form(part: type[nn.Module], config: HeadConfig) -> type[nn.Module]:
    """Return a part as it is, or in the published code's form for `compat: upstream`."""
    return as_published(part) if config.compat == "upstream" else part
