"""The keys of the parts that are built in, each with the widths that were published for 1024-dimensional frames."""

from typing import Annotated, Any, ClassVar

from pydantic import Field, SerializeAsAny

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.parts import CONFIGS, Part, PartConfig, scaled

WIDEST, MOST_LAYERS, MOST_BINS = 1 << 16, 64, 1000  # more of any would be a slip, and gigabytes
RATER_BINS = 5  # a listener rates in whole numbers from 1 to 5


# Temporal


class TransformerConfig(PartConfig):
    """A transformer over the frames."""

    layers: int = Field(1, ge=1, le=MOST_LAYERS)
    heads: int = Field(4, ge=1, le=WIDEST)
    feedforward: int = Field(2048, ge=1, le=WIDEST)

    def arguments(self, audio_dim: int) -> dict[str, Any]:
        """Return layers, heads and the scaled width; refuse a width that heads or positions do not divide."""
        if audio_dim % self.heads:
            raise ConfigError(f"temporal.heads: {self.heads} does not divide {audio_dim}, the width of the frames")
        if audio_dim % 2:
            raise ConfigError(
                f"temporal.kind: {self.kind!r} adds positions of sines and cosines in pairs, and the frames are "
                f"{audio_dim} wide, an odd number; use bilstm or none"
            )
        feedforward = scaled(self.feedforward, audio_dim)
        return {"layers": self.layers, "heads": self.heads, "feedforward": feedforward}


class BiLstmConfig(PartConfig):
    """A bidirectional LSTM over the frames."""

    layers: int = Field(1, ge=1, le=MOST_LAYERS)


class NoKeys(PartConfig):
    """A part without keys."""


# How the prompt is joined with the audio, for TA


class PooledConfig(PartConfig):
    """Audio and prompt, or the audio alone, pooled and projected to a common width."""

    common_dim: int = Field(768, ge=1, le=WIDEST)

    def arguments(self, audio_dim: int) -> dict[str, Any]:
        """Return the scaled width."""
        return {"common_size": scaled(self.common_dim, audio_dim)}


class CrossAttentionConfig(PooledConfig):
    """The prompt's tokens look at the frames; "decoupled": at the encoder's own."""

    heads: int = Field(4, ge=1, le=WIDEST)

    def arguments(self, audio_dim: int) -> dict[str, Any]:
        """Return heads, and the scaled width as a multiple of them."""
        return {"common_size": scaled(self.common_dim, audio_dim, multiple_of=self.heads), "heads": self.heads}


# Losses


class DistributionLossConfig(PartConfig):
    """A loss of distributions without keys."""

    output: ClassVar[str] = "distribution"


class GaussianConfig(DistributionLossConfig):
    """Divergence from a Gaussian around the mean opinion score."""

    sigma: float = Field(0.25, ge=1e-3)  # `targets.NARROWEST_SIGMA`, without importing NumPy for a command's help


class CoralLossConfig(PartConfig):
    """The loss of ordinal outputs."""

    output: ClassVar[str] = "coral"


# Outputs


class OutputConfig(PartConfig):
    """What a head predicts of each target, and the loss that it is trained with."""

    loss: SerializeAsAny[PartConfig]

    def arguments(self, audio_dim: int) -> dict[str, Any]:
        """Return the keys of the output layer, without the loss."""
        return {key: value for key, value in super().arguments(audio_dim).items() if key != "loss"}

    @property
    def predicted_bins(self) -> int | None:
        """How many bins the predicted distributions have; None of a head without."""
        return None


LOSSES = {output: Part("loss", default, output) for output, default in (
    ("scalar", "l1"), ("distribution", "gaussian"), ("coral", "coral")
)}  # fmt: skip


class ScalarConfig(OutputConfig):
    """The score itself."""

    loss: Annotated[SerializeAsAny[PartConfig], LOSSES["scalar"].validator()] = Field("l1", validate_default=True)


class DistributionConfig(OutputConfig):
    """A distribution over score bins, trained on one that the loss makes of the labels.

    The loss makes it of the mean opinion scores, or, "raters", of each listener's rating, in 5 bins.
    """

    bins: int = Field(20, ge=2, le=MOST_BINS)
    loss: Annotated[SerializeAsAny[PartConfig], LOSSES["distribution"].validator()] = Field(
        "gaussian", validate_default=True
    )

    @property
    def predicted_bins(self) -> int | None:
        """How many bins the predicted distributions have."""
        return self.bins


class CoralConfig(OutputConfig):
    """Ordinal logits: does the score exceed 1, 2, 3, 4?"""

    loss: Annotated[SerializeAsAny[PartConfig], LOSSES["coral"].validator()] = Field("coral", validate_default=True)


# Ranking


class RankingConfig(PartConfig):
    """What is added to the loss where a batch's scores order its clips otherwise than the labels do.

    The weights are those published for "listwise" (DeRA-MOS, which ranks MI alone), whatever the kind; QAMRO, the
    source of "adaptive_margin", has 1 for both.
    """

    weight_mi: float = Field(0.01, ge=0)
    weight_ta: float = Field(0.0, ge=0)


class ListwiseConfig(RankingConfig):
    """Cross-entropy from the labels of a batch to its scores."""

    temperature: float = Field(1.0, gt=0)


class PairwiseConfig(RankingConfig):
    """Pairs of clips, whose scores differ by `margin` in the labels' order."""

    margin: float = Field(0.0, ge=0)
    tolerance: float = Field(0.25, ge=0)


class AdaptiveMarginConfig(RankingConfig):
    """Pairs of clips, whose scores differ in proportion to their labels."""

    margin_scale: float = Field(0.2, ge=0)
    preference: float = Field(7.0, gt=0)


CONFIGS.update(
    temporal={"transformer": TransformerConfig, "bilstm": BiLstmConfig, "none": NoKeys},
    pooling=dict.fromkeys(("attentive", "mean", "mean_std"), NoKeys),
    text_audio={
        "cross_attention": CrossAttentionConfig,
        "decoupled": CrossAttentionConfig,
        "concat": PooledConfig,
        "none": PooledConfig,
    },
    loss={
        "gaussian": GaussianConfig,
        "one_hot": DistributionLossConfig,
        "raters": DistributionLossConfig,
        "l1": NoKeys,
        "mse": NoKeys,
        "coral": CoralLossConfig,
    },
    output={"scalar": ScalarConfig, "distribution": DistributionConfig, "coral": CoralConfig},
    ranking={
        "none": NoKeys,
        "listwise": ListwiseConfig,
        "pairwise": PairwiseConfig,
        "adaptive_margin": AdaptiveMarginConfig,
    },
)

PARTS = {
    "temporal": Part("temporal", "transformer"),
    "pooling": Part("pooling", "attentive"),
    "text_audio": Part("text_audio", "cross_attention"),
    "output": Part("output", "distribution"),
    "ranking": Part("ranking", "none"),
}
