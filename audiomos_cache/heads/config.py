"""What a user may set of a head and its training, validated; `presets.py` reads it from YAML.

Widths are those published for 1024-dimensional frames. For frames of another width they are scaled in proportion, so
the same presets serve every encoder.
"""

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

NARROWEST_SIGMA = 1e-3  # the same as in targets.py, which would bring NumPy into `--help`
PUBLISHED_AUDIO_DIM = 1024
RATER_BINS = 5  # a listener rates in whole numbers from 1 to 5

Compat = Literal["none", "upstream"]

# The heads of the published code, which `compat: upstream` reproduces: fusion.kind, downstream, output.kind.
UPSTREAM_HEADS = (
    ("cross_attention", "mlp", "scalar"),
    ("cross_attention", "mlp", "distribution"),
    ("cross_attention", "mlp", "coral"),
    ("decoupled", "mlp", "distribution"),
    ("decoupled", "lstm", "distribution"),
)


class Group(BaseModel):
    """Keys that belong together; unknown ones are refused, and so are truth values in the place of numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_values(cls, found: object, info: ValidationInfo) -> object:
        if isinstance(found, bool) and cls.model_fields[info.field_name or ""].annotation in (int, float):
            raise PydanticCustomError("number_type", "input should be a number")
        return found


class TemporalConfig(Group):
    """What relates the frames of a clip to each other before they are pooled."""

    kind: Literal["transformer", "bilstm", "none"] = "transformer"
    layers: int = Field(1, ge=1)
    heads: int = Field(4, ge=1)
    feedforward: int = Field(2048, ge=1)


class FusionConfig(Group):
    """How the prompt meets the audio, for TA. "decoupled" looks at the encoder's own frames."""

    kind: Literal["cross_attention", "decoupled", "concat", "none"] = "cross_attention"
    common_dim: int = Field(768, ge=1)
    heads: int = Field(4, ge=1)


class OutputConfig(Group):
    """What a head predicts of each target, and what it is trained on.

    A distribution is trained on what `targets` makes of the mean opinion scores, or, "raters", on what each listener
    said, in 5 bins; a scalar with `loss`.
    """

    kind: Literal["scalar", "distribution", "coral"] = "distribution"
    bins: int = Field(20, ge=2)
    targets: Literal["gaussian", "one_hot", "raters"] = "gaussian"
    sigma: float = Field(0.25, ge=NARROWEST_SIGMA)
    loss: Literal["l1", "mse"] = "l1"

    @property
    def predicted_bins(self) -> int | None:
        """How many bins the predicted distributions have; None of a head without."""
        return self.bins if self.kind == "distribution" else None


class RankingConfig(Group):
    """What is added to the loss where a batch's scores order its clips otherwise than the labels do.

    The weights are those published for "listwise" (DeRA-MOS, which ranks MI alone), whatever the kind; QAMRO, the
    source of "adaptive_margin", has 1 for both. The other keys each belong to one kind, with its published values.
    """

    kind: Literal["none", "listwise", "pairwise", "adaptive_margin"] = "none"
    weight_mi: float = Field(0.01, ge=0)
    weight_ta: float = Field(0.0, ge=0)
    temperature: float = Field(1.0, gt=0)
    margin: float = Field(0.0, ge=0)
    tolerance: float = Field(0.25, ge=0)
    margin_scale: float = Field(0.2, ge=0)
    preference: float = Field(7.0, gt=0)


class TrainingConfig(Group):
    """How a head is trained. `decay` says what weight decay applies to: all parameters, as in the published code, or
    the matrices alone, not norms and biases.
    """

    lr: float = Field(5e-5, gt=0, description="for 1024-dimensional frames; grows as they get narrower")
    weight_decay: float = Field(0.01, ge=0)
    batch_size: int = Field(32, ge=1)
    max_epochs: int = Field(100, ge=1)
    patience: int = Field(15, ge=1)
    feature_mixup: float = Field(
        0.0, ge=0, description="alpha of mixup's Beta distribution; mixes cached frames, not waveforms; 0: none"
    )
    clip_norm: float = Field(0.0, ge=0, description="the longest gradient that is not shortened; 0: none is")
    decay: Literal["all", "matrices"] = "all"
    schedule: Literal["constant", "cosine"] = Field("constant", description="cosine sinks to 0 over max_epochs")
    warmup_epochs: float = Field(0.0, ge=0, description="in which lr is reached, in equal steps; 0.5: half of one")


class HeadConfig(Group):
    """One head and its training: the content of a preset.

    `layers` says which of the cache's audio layers it looks at: the "only" one, one by its number, or all of them,
    "weighted" by what it learns. `compat` "upstream" computes as the published code does, quirks included (see
    docs/from-the-original.md).
    """

    layers: Literal["only", "weighted"] | int = "only"
    temporal: TemporalConfig = TemporalConfig()
    pooling: Literal["attentive", "mean", "mean_std"] = "attentive"
    fusion: FusionConfig = FusionConfig()
    downstream: Literal["mlp", "lstm"] = "mlp"
    output: OutputConfig = OutputConfig()
    ranking: RankingConfig = RankingConfig()
    dropout: float = Field(0.3, ge=0, lt=1)
    compat: Compat = "none"
    training: TrainingConfig = TrainingConfig()

    @field_validator("layers", mode="before")
    @classmethod
    def _refuse_what_names_no_layer(cls, found: object) -> object:
        if isinstance(found, int) and not isinstance(found, bool):
            if found < 0:
                raise ValueError(
                    f"layers: {found}: layers are not counted from the end; give a number that the cache holds"
                )
        elif found not in ("only", "weighted"):
            raise ValueError(f"layers: {found!r} is not one of only, weighted, or a layer's number")
        return found

    @model_validator(mode="after")
    def _refuse_impossible(self) -> Self:
        if problems := list(self._impossible()):
            raise ValueError("; ".join(problems))
        return self

    def _impossible(self) -> Iterator[str]:
        """Name what each key allows by itself, but not beside the others."""
        output, ranking, training = self.output, self.ranking, self.training
        if self.compat == "upstream":
            yield from self._not_upstream()
        if self.fusion.kind == "decoupled" and self.temporal.kind == "none":
            yield (
                "fusion.kind: 'decoupled' looks past the temporal layer, and temporal.kind is 'none'; "
                "use 'cross_attention'"
            )
        if output.kind == "distribution" and output.targets == "raters" and output.bins != RATER_BINS:
            yield (
                f"output.bins: {output.bins}: listeners rate in whole numbers from 1 to 5, and output.targets is "
                f"'raters'; use {RATER_BINS}"
            )
        if ranking.kind != "none" and not ranking.weight_mi and not ranking.weight_ta:
            yield f"ranking.kind: {ranking.kind!r} has no effect where both weights are 0"
        if ranking.kind != "none" and training.batch_size == 1:
            yield f"ranking.kind: {ranking.kind!r} has no effect where training.batch_size is 1"
        if ranking.kind != "none" and training.feature_mixup:
            yield (
                f"ranking.kind: {ranking.kind!r} has no effect where training.feature_mixup is "
                f"{training.feature_mixup}: mixed clips are not ranked, and every batch is mixed"
            )
        if training.feature_mixup and training.batch_size == 1:
            yield f"training.feature_mixup: {training.feature_mixup} has no effect where training.batch_size is 1"
        if training.decay != "all" and not training.weight_decay:
            yield f"training.decay: {training.decay!r} has no effect where training.weight_decay is 0"
        if training.warmup_epochs >= training.max_epochs:
            yield (
                f"training.warmup_epochs: {training.warmup_epochs}: expected less than training.max_epochs, "
                f"{training.max_epochs}"
            )

    def _not_upstream(self) -> Iterator[str]:
        """Say what the published code, which `compat: upstream` reproduces, does not have."""
        missing = "is not in the published code, which compat: upstream reproduces; use"
        if self.layers == "weighted":
            yield f"layers: 'weighted' {missing} only, or a layer's number"
        if self.temporal.kind != "transformer":
            yield f"temporal.kind: {self.temporal.kind!r} {missing} transformer"
        if self.pooling != "attentive":
            yield f"pooling: {self.pooling!r} {missing} attentive"
        head = (self.fusion.kind, self.downstream, self.output.kind)
        if head not in UPSTREAM_HEADS:
            known = ", ".join("+".join(parts) for parts in UPSTREAM_HEADS)
            yield f"fusion.kind+downstream+output.kind: {'+'.join(head)} {missing} {known}"


def scaled(width: int, audio_dim: int, multiple_of: int = 1) -> int:
    """Scale a published width from 1024-dimensional frames to `audio_dim`, to a multiple of `multiple_of`."""
    return max(round(width * audio_dim / PUBLISHED_AUDIO_DIM / multiple_of), 1) * multiple_of


def scaled_lr(lr: float, audio_dim: int) -> float:
    """Scale a learning rate found at 1024-dimensional frames to `audio_dim`: narrower layers take larger steps.

    Source: Yang et al. 2022 (Tensor Programs V): under Adam the best rate of hidden layers goes with 1 / width.
    """
    return lr * PUBLISHED_AUDIO_DIM / audio_dim
