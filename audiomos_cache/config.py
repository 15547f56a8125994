"""What a user may set, validated: presets from `configs/`, a user's own YAML files, and `--set` overrides.

Widths in a preset are those published for 1024-dimensional frames. For frames of another width they are scaled in
proportion, so the same presets serve every encoder.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from audiomos_cache.errors import ConfigError
from audiomos_cache.yaml_files import apply_override, read_mapping, readable

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


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TemporalConfig(_Strict):
    """What relates the frames of a clip to each other before they are pooled."""

    kind: Literal["transformer", "bilstm", "none"] = "transformer"
    layers: int = Field(1, ge=1)
    heads: int = Field(4, ge=1)
    feedforward: int = Field(2048, ge=1)


class FusionConfig(_Strict):
    """How the prompt meets the audio, for TA. "decoupled" looks at the encoder's own frames."""

    kind: Literal["cross_attention", "decoupled", "concat", "none"] = "cross_attention"
    common_dim: int = Field(768, ge=1)
    heads: int = Field(4, ge=1)


class OutputConfig(_Strict):
    """What a head predicts of each target, and what it is trained on.

    A distribution is trained on what `targets` makes of the mean opinion scores, or, "raters", on what each listener
    said, in 5 bins; a scalar with `loss`.
    """

    kind: Literal["scalar", "distribution", "coral"] = "distribution"
    bins: int = Field(20, ge=2)
    targets: Literal["gaussian", "one_hot", "raters"] = "gaussian"
    sigma: float = Field(0.25, gt=0)
    loss: Literal["l1", "mse"] = "l1"


class RankingConfig(_Strict):
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


class TrainingConfig(_Strict):
    """How a head is trained. `lr` is for 1024-dimensional frames and grows as they get narrower (see `scaled_lr`).

    `feature_mixup` is the alpha of the Beta distribution that mixed clips are weighted by; 0 = clips are not mixed.
    `clip_norm` is the longest gradient that is not shortened; 0 = none is. `decay` says what weight decay applies to:
    all parameters, as in the published code, or the matrices alone, not norms and biases. `schedule` "cosine" lets the
    learning rate sink to 0 over `max_epochs`; in the first `warmup_epochs` (0.5 = half of one) it grows to `lr`.
    """

    lr: float = Field(5e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    batch_size: int = Field(32, ge=1)
    max_epochs: int = Field(100, ge=1)
    patience: int = Field(15, ge=1)
    feature_mixup: float = Field(0.0, ge=0)
    clip_norm: float = Field(0.0, ge=0)
    decay: Literal["all", "matrices"] = "all"
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = Field(0.0, ge=0)


class HeadConfig(_Strict):
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


# Keys that not every kind reads: the key, the key that chooses, and the choices that leave it unread.
_UNREAD_BY = (
    ("temporal.layers", "temporal.kind", ("none",)),
    ("temporal.heads", "temporal.kind", ("bilstm", "none")),
    ("temporal.feedforward", "temporal.kind", ("bilstm", "none")),
    ("fusion.heads", "fusion.kind", ("concat", "none")),
    ("output.bins", "output.kind", ("scalar", "coral")),
    ("output.targets", "output.kind", ("scalar", "coral")),
    ("output.sigma", "output.kind", ("scalar", "coral")),
    ("output.sigma", "output.targets", ("one_hot", "raters")),
    ("output.loss", "output.kind", ("distribution", "coral")),
    ("ranking.weight_mi", "ranking.kind", ("none",)),
    ("ranking.weight_ta", "ranking.kind", ("none",)),
    ("ranking.temperature", "ranking.kind", ("none", "pairwise", "adaptive_margin")),
    ("ranking.margin", "ranking.kind", ("none", "listwise", "adaptive_margin")),
    ("ranking.tolerance", "ranking.kind", ("none", "listwise", "adaptive_margin")),
    ("ranking.margin_scale", "ranking.kind", ("none", "listwise", "pairwise")),
    ("ranking.preference", "ranking.kind", ("none", "listwise", "pairwise")),
)


def scaled(width: int, audio_dim: int, multiple_of: int = 1) -> int:
    """Scale a published width from 1024-dimensional frames to `audio_dim`, to a multiple of `multiple_of`."""
    return max(round(width * audio_dim / PUBLISHED_AUDIO_DIM / multiple_of), 1) * multiple_of


def scaled_lr(lr: float, audio_dim: int) -> float:
    """Scale a learning rate found at 1024-dimensional frames to `audio_dim`: narrower layers take larger steps.

    Source: Yang et al. 2022 (Tensor Programs V): under Adam the best rate of hidden layers goes with 1 / width.
    """
    return lr * PUBLISHED_AUDIO_DIM / audio_dim


def presets_folder() -> Path:
    """Return the folder of the presets: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).parent
    checkout = package.parent / "configs"
    return checkout if (checkout / "transformer-dist.yaml").is_file() else package / "configs"


def preset_names() -> list[str]:
    """Return the names of the presets that ship with the package, sorted."""
    return sorted(path.stem for path in presets_folder().glob("*.yaml") if not _is_plan(path))


def plan_names() -> list[str]:
    """Return the names of the plans that ship with the package, sorted."""
    return sorted(path.stem for path in presets_folder().glob("*.yaml") if _is_plan(path))


def _is_plan(shipped: Path) -> bool:
    return "\nruns:" in shipped.read_text(encoding="utf-8")


def settable_keys() -> dict[str, tuple[str, Any]]:
    """Return what `--set` takes: each key with what it may be (`mlp|lstm`, `int`) and its default."""
    keys = {}
    for name, field in HeadConfig.model_fields.items():
        if isinstance(field.default, _Strict):
            fields = {f"{name}.{inner}": its_field for inner, its_field in type(field.default).model_fields.items()}
        else:
            fields = {name: field}
        for key, its_field in fields.items():
            keys[key] = ("|".join(_choices(its_field.annotation)), its_field.default)
    return keys


def _choices(annotation: Any) -> list[str]:
    """Name what a type allows: the choices of a Literal and of each type of a union, the name of any other type."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [name for each in get_args(annotation) for name in _choices(each)] or [annotation.__name__]


def load_head_config(head: str, overrides: tuple[str, ...] = ()) -> tuple[str, HeadConfig]:
    """Read a preset by its name, or a YAML file by its path, and apply `a.b=c` overrides.

    Returns:
        The head's name (the preset's, or the file's without its ending) and its validated config.
    Raises:
        ConfigError: unknown preset, unreadable file, unknown key, wrong value, or a key that the chosen kind does not
            read; all problems in one message.
    """
    if head in preset_names():
        path = presets_folder() / f"{head}.yaml"
    elif head.endswith((".yaml", ".yml")):
        path = Path(head)
    elif head in plan_names():
        raise ConfigError(f"--head {head}: is a plan of several runs, not a preset; give it to --plan")
    else:
        raise ConfigError(f"--head {head}: no such preset; known are {', '.join(preset_names())}, or give a .yaml file")
    content = read_mapping(path, "keys such as temporal, pooling, output")
    if "runs" in content:
        raise ConfigError(f"{path}: has runs, so it is a plan; give it to --plan")
    overridden = {apply_override(content, override) for override in overrides}
    problems = list(_drop_or_name_unread(content, overridden))
    try:
        config = HeadConfig.model_validate(content)
    except ValidationError as error:
        problems = [readable(each, settable_keys()) for each in error.errors()] + problems
    if problems:
        where = f"{path} with {' '.join(overrides)}" if overrides else str(path)
        raise ConfigError(f"{where}: {'; '.join(problems)}")
    return path.stem, config


def with_compat(config: HeadConfig, compat: Compat) -> HeadConfig:
    """Return a head's config with another `compat`.

    Raises:
        ConfigError: the published code has no such head; all reasons in one message.
    """
    try:
        return HeadConfig.model_validate(config.model_dump() | {"compat": compat})
    except ValidationError as error:
        raise ConfigError("; ".join(readable(each, settable_keys()) for each in error.errors())) from error


def _drop_or_name_unread(content: dict[str, Any], overridden: set[str]) -> Iterator[str]:
    """Find keys that the chosen kinds do not read: drop those that an override made so, name the others."""
    for key, chooser, deaf in _UNREAD_BY:
        group, _, name = key.partition(".")
        given = content.get(group)
        if not isinstance(given, dict) or name not in given:
            continue
        choice = given.get(chooser.partition(".")[2], settable_keys()[chooser][1])
        if choice in deaf and chooser in overridden and key not in overridden:
            del given[name]
        elif choice in deaf:
            yield f"{key}: has no effect where {chooser} is {choice!r}"
