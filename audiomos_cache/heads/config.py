"""What a user may set of a head and its training, validated, and the list of these keys; `presets.py` reads YAML.

Widths are those published for 1024-dimensional frames. For frames of another width they are scaled in proportion, so
the same presets serve every encoder.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args, get_origin

from pydantic import Field, SerializeAsAny, field_validator, model_validator
from pydantic.fields import FieldInfo

from audiomos_cache.errors import quoted
from audiomos_cache.heads.part_configs import LOSSES, PARTS, RATER_BINS, DistributionConfig, OutputConfig, RankingConfig
from audiomos_cache.heads.parts import PUBLISHED_AUDIO_DIM, Part, PartConfig, config_class
from audiomos_cache.yaml_files import Group

Compat = Literal["none", "upstream"]

# The heads of the published code, which `compat: upstream` reproduces: text_audio.kind, downstream, output.kind.
UPSTREAM_HEADS = (
    ("cross_attention", "mlp", "scalar"),
    ("cross_attention", "mlp", "distribution"),
    ("cross_attention", "mlp", "coral"),
    ("decoupled", "mlp", "distribution"),
    ("decoupled", "lstm", "distribution"),
)


class TrainingConfig(Group):
    """How a head is trained. `decay` chooses what weight decay applies to: all parameters, as in the published code,
    or the matrices alone, not norms and biases.
    """

    lr: float = Field(5e-5, gt=0, description="for 1024-dimensional frames; grows as they get narrower")
    weight_decay: float = Field(0.01, ge=0)
    batch_size: int = Field(32, ge=1)
    max_epochs: int = Field(100, ge=1)
    patience: int = Field(15, ge=1)
    feature_mixup: float = Field(
        0.0, ge=0, description="alpha of mixup's Beta distribution; mixes cached frames, not waveforms; 0: none"
    )
    clip_norm: float = Field(0.0, ge=0, description="longer gradients are shortened to this length; 0: none")
    decay: Literal["all", "matrices"] = "all"
    schedule: Literal["constant", "cosine"] = Field("constant", description="cosine falls to 0 over max_epochs")
    warmup_epochs: float = Field(0.0, ge=0, description="epochs in which lr is reached in equal steps, such as 0.5")


def _default(part: str) -> Any:
    return Field(PARTS[part].default, validate_default=True)


class HeadConfig(Group):
    """One head and its training: the content of a preset.

    The parts are given by name, or as keys of which `kind` is the name: what relates the frames of a clip to each other
    (`temporal`), what makes one vector of them (`pooling`), how the prompt meets the audio for TA (`text_audio`), what
    is predicted and with which loss (`output`), what is added to the loss for the order of the clips (`ranking`).
    `layers` chooses the cache's audio layers that it reads: the "only" one, one by its number, or all of them,
    "weighted" by weights that it learns. `compat` "upstream" computes as the published code does, quirks included (see
    docs/from-the-original.md).
    """

    layers: Literal["only", "weighted"] | int = "only"
    temporal: Annotated[SerializeAsAny[PartConfig], PARTS["temporal"].validator()] = _default("temporal")
    pooling: Annotated[SerializeAsAny[PartConfig], PARTS["pooling"].validator()] = _default("pooling")
    text_audio: Annotated[SerializeAsAny[PartConfig], PARTS["text_audio"].validator()] = _default("text_audio")
    downstream: Literal["mlp", "lstm"] = "mlp"
    output: Annotated[SerializeAsAny[OutputConfig], PARTS["output"].validator()] = _default("output")
    ranking: Annotated[SerializeAsAny[PartConfig], PARTS["ranking"].validator()] = _default("ranking")
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
            raise ValueError(f"layers: {quoted(found)} is not one of only, weighted, or a layer's number")
        return found

    @model_validator(mode="after")
    def _refuse_impossible(self) -> Self:
        if problems := list(self._impossible()):
            raise ValueError("; ".join(problems))
        return self

    def _impossible(self) -> Iterator[str]:
        """Yield a problem for each value that is allowed by itself, but not together with the others."""
        output, ranking, training = self.output, self.ranking, self.training
        if self.compat == "upstream":
            yield from self._not_upstream()
        if self.text_audio.kind == "decoupled" and self.temporal.kind == "none":
            yield (
                "text_audio.kind: 'decoupled' looks past the temporal layer, and temporal.kind is 'none'; "
                "use 'cross_attention'"
            )
        if isinstance(output, DistributionConfig) and output.loss.kind == "raters" and output.bins != RATER_BINS:
            yield (
                f"output.bins: {output.bins}: listeners rate in whole numbers from 1 to 5, and output.loss is "
                f"'raters'; use {RATER_BINS}"
            )
        if isinstance(ranking, RankingConfig):
            if not ranking.weight_mi and not ranking.weight_ta:
                yield f"ranking.kind: {ranking.kind!r} has no effect where both weights are 0"
            if training.batch_size == 1:
                yield f"ranking.kind: {ranking.kind!r} has no effect where training.batch_size is 1"
            if training.feature_mixup:
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
        """Yield a problem for each part that the published code, which `compat: upstream` reproduces, does not have."""
        missing = "is not in the published code, which compat: upstream reproduces; use"
        if self.layers == "weighted":
            yield f"layers: 'weighted' {missing} only, or a layer's number"
        if self.temporal.kind != "transformer":
            yield f"temporal.kind: {self.temporal.kind!r} {missing} transformer"
        if self.pooling.kind != "attentive":
            yield f"pooling: {self.pooling.kind!r} {missing} attentive"
        head = (self.text_audio.kind, self.downstream, self.output.kind)
        if head not in UPSTREAM_HEADS:
            known = ", ".join("+".join(parts) for parts in UPSTREAM_HEADS)
            yield f"text_audio.kind+downstream+output.kind: {'+'.join(head)} {missing} {known}"


def parts_of(config: HeadConfig) -> list[tuple[str, str]]:
    """Return kind and name of the registered parts that a head is made of, for `registry.not_built_in`."""
    named = (("temporal", config.temporal), ("pooling", config.pooling), ("loss", config.output.loss))
    return [(kind, part.kind) for kind, part in named]


def scaled_lr(lr: float, audio_dim: int) -> float:
    """Scale a learning rate found at 1024-dimensional frames to `audio_dim`: narrower layers take larger steps.

    Source: Yang et al. 2022 (Tensor Programs V): under Adam the best rate of hidden layers goes with 1 / width.
    """
    return lr * PUBLISHED_AUDIO_DIM / audio_dim


class SettableKey(NamedTuple):
    """A key of a head's config.

    Attributes:
        key: its name, such as `temporal.layers`.
        type: the values that it may have, such as `mlp|lstm` or `int`.
        default: its value where neither a file nor `--set` gives one.
        description: what it means, where its name is not enough.
        kinds: the kinds of its part that have it; empty if all have it, or if it belongs to no part.
    """

    key: str
    type: str
    default: Any
    description: str
    kinds: tuple[str, ...] = ()


def settable_keys() -> list[SettableKey]:
    """Return the keys that `--set` takes; a key that several kinds share is listed once."""
    found: list[SettableKey] = []
    for name, field in HeadConfig.model_fields.items():
        if name in PARTS:
            found += _keys_of_part(name, PARTS[name])
        elif isinstance(field.default, Group):
            group = type(field.default)
            found += [_key(f"{name}.{inner}", each) for inner, each in group.model_fields.items()]
        else:
            found.append(_key(name, field))
    return found


def _keys_of_part(name: str, part: Part) -> list[SettableKey]:
    """Return the key that chooses a part's kind, and those of its kinds."""
    kinds = part.names()
    found: dict[SettableKey, list[str]] = {}
    for kind in kinds:
        for key, field in config_class(part.part, kind).model_fields.items():
            if key == "loss" and name == "output":
                for each in _keys_of_part("output.loss", LOSSES[kind]):
                    inner = each.kinds or (kind,)
                    found.setdefault(each._replace(kinds=()), []).extend(inner)
            elif key != "kind":
                found.setdefault(_key(f"{name}.{key}", field), []).append(kind)
    own = [key._replace(kinds=() if of == kinds else tuple(of)) for key, of in found.items()]
    chooser = name if name in ("pooling", "output.loss") else f"{name}.kind"  # as the presets write it
    return [SettableKey(chooser, "|".join(kinds), part.default, ""), *own]


def _key(name: str, field: FieldInfo) -> SettableKey:
    return SettableKey(name, "|".join(_choices(field.annotation)), field.default, field.description or "")


def _choices(annotation: Any) -> list[str]:
    """Return the values of a type: the choices of a Literal and of each type of a union, the name of any other type."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [name for each in get_args(annotation) for name in _choices(each)] or [annotation.__name__]
