"""The head: layers -> temporal -> pooling -> MI; fusion -> TA; a downstream and an output layer for each target."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.config import Compat, HeadConfig, scaled
from audiomos_cache.heads.layers import OneLayer, WeightedLayers
from audiomos_cache.heads.outputs import (
    RANKS,
    CoralOutput,
    DistributionOutput,
    LstmDownstream,
    MlpDownstream,
    ScalarOutput,
    TargetOutput,
)
from audiomos_cache.heads.pooling import POOLINGS, at_least_float32
from audiomos_cache.heads.presets import head_config, with_compat
from audiomos_cache.heads.temporal import BiLstmTemporal, NoTemporal, TransformerTemporal
from audiomos_cache.heads.text_audio import ConcatFusion, CrossAttentionFusion, NoFusion
from audiomos_cache.upstream.quirks import (
    UnmaskedPooling,
    UpstreamCrossAttentionFusion,
    UpstreamDistributionOutput,
    UpstreamTransformerTemporal,
)


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
        fusion: nn.Module,
        decoupled: bool,
        mi: nn.Module,
        ta: nn.Module,
        layers: OneLayer | WeightedLayers,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.temporal = temporal
        self.pooling = pooling
        self.fusion = fusion
        self.decoupled = decoupled
        self.mi = mi
        self.ta = ta

    def forward(self, frames: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor) -> HeadOutput:
        """Predict MI and TA of each clip: `head(*batch)`.

        The masks are not looked into, for which a GPU would have to be waited for: a clip without a valid frame or
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
        return self.pooling(hidden, frame_mask), self.fusion(audio, frame_mask, tokens, token_mask)


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
            for a transformer, a single layer to mix, or a head that the published code does not have with "upstream".
    """
    config = head_config(preset_or_config)
    if compat is not None:
        config = with_compat(config, compat)
    temporal = _build_temporal(config, audio_dim)
    decoupled = config.fusion.kind == "decoupled"
    pooling = (UnmaskedPooling if config.compat == "upstream" else POOLINGS[config.pooling])(temporal.output_size)
    fusion = _build_fusion(config, audio_dim if decoupled else temporal.output_size, audio_dim, text_dim)
    return Head(
        temporal=temporal,
        pooling=pooling,
        fusion=fusion,
        decoupled=decoupled,
        mi=_build_target(config, pooling.output_size, hidden=scaled(512, audio_dim), audio_dim=audio_dim),
        ta=_build_target(config, fusion.output_size, hidden=scaled(384, audio_dim), audio_dim=audio_dim),
        layers=_build_layers(config, layers),
    )


def _build_layers(config: HeadConfig, layers: int) -> OneLayer | WeightedLayers:
    if config.layers != "weighted":
        return OneLayer()
    if layers < 2:
        raise ConfigError("layers: 'weighted' mixes several layers, and the cache holds only one; use only")
    return WeightedLayers(layers)


def _build_temporal(config: HeadConfig, audio_dim: int) -> NoTemporal | TransformerTemporal | BiLstmTemporal:
    t = config.temporal
    match t.kind:
        case "transformer":
            if audio_dim % t.heads:
                raise ConfigError(f"temporal.heads: {t.heads} does not divide {audio_dim}, the width of the frames")
            if audio_dim % 2:
                raise ConfigError(
                    f"temporal.kind: 'transformer' adds positions of sines and cosines in pairs, and the frames are "
                    f"{audio_dim} wide, an odd number; use bilstm or none"
                )
            feedforward = scaled(t.feedforward, audio_dim)
            transformer = UpstreamTransformerTemporal if config.compat == "upstream" else TransformerTemporal
            return transformer(audio_dim, t.layers, t.heads, feedforward, config.dropout)
        case "bilstm":
            return BiLstmTemporal(audio_dim, t.layers, config.dropout)
        case "none":
            return NoTemporal(audio_dim)


def _build_fusion(
    config: HeadConfig, audio_size: int, audio_dim: int, text_dim: int
) -> CrossAttentionFusion | ConcatFusion | NoFusion:
    """Build the fusion; `audio_size` is the width of what it looks at, `audio_dim` scales its own."""
    f = config.fusion
    common_dim = scaled(f.common_dim, audio_dim)
    match f.kind:
        case "cross_attention" | "decoupled":
            common_dim = scaled(f.common_dim, audio_dim, multiple_of=f.heads)
            fusion = UpstreamCrossAttentionFusion if config.compat == "upstream" else CrossAttentionFusion
            return fusion(audio_size, text_dim, common_dim, f.heads, config.dropout, config.pooling)
        case "concat":
            return ConcatFusion(audio_size, text_dim, common_dim, config.pooling)
        case "none":
            return NoFusion(audio_size, common_dim, config.pooling)


def _build_target(config: HeadConfig, input_size: int, hidden: int, audio_dim: int) -> nn.Sequential:
    """Put a downstream and an output layer together for one target; `hidden` is the width of its first layer."""
    coral = config.output.kind == "coral"
    downstream: LstmDownstream | MlpDownstream
    if config.downstream == "lstm":
        downstream = LstmDownstream(input_size, hidden)
    elif coral:  # both targets have the same widths, and a dropout after each ReLU
        sizes = (scaled(512, audio_dim), scaled(256, audio_dim))
        downstream = MlpDownstream(input_size, sizes, config.dropout, dropout_after=(0, 1))
    else:
        downstream = MlpDownstream(input_size, (hidden, max(hidden // 2, 1)), config.dropout, dropout_after=(0,))
    output: nn.Module
    match config.output.kind:
        case "scalar":
            output = ScalarOutput(downstream.output_size)
        case "distribution":
            distribution = UpstreamDistributionOutput if config.compat == "upstream" else DistributionOutput
            output = distribution(downstream.output_size, config.output.bins)
        case "coral":
            output = CoralOutput(downstream.output_size, RANKS)
    return nn.Sequential(downstream, output)
