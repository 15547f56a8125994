"""What a user may set, validated: presets from `configs/`, a user's own YAML files, and `--set` overrides.

Widths in a preset are those published for 1024-dimensional frames. For frames of another width they are scaled in
proportion, so the same presets serve every encoder.
"""

import contextlib
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from audiomos_cache.errors import ConfigError

PUBLISHED_AUDIO_DIM = 1024


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
    """What a head predicts of each target, and what it is trained on."""

    kind: Literal["scalar", "distribution", "coral"] = "distribution"
    bins: int = Field(20, ge=2)
    targets: Literal["gaussian", "one_hot"] = "gaussian"
    sigma: float = Field(0.25, gt=0)
    ranks: Literal[5] = 5


class TrainingConfig(_Strict):
    """How a head is trained. `lr` is for 1024-dimensional frames and grows as they get narrower (see `scaled_lr`)."""

    lr: float = Field(5e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    batch_size: int = Field(32, ge=1)
    max_epochs: int = Field(100, ge=1)
    patience: int = Field(15, ge=1)


class HeadConfig(_Strict):
    """One head and its training: the content of a preset."""

    temporal: TemporalConfig = TemporalConfig()
    pooling: Literal["attentive", "mean", "mean_std"] = "attentive"
    fusion: FusionConfig = FusionConfig()
    downstream: Literal["mlp", "lstm"] = "mlp"
    output: OutputConfig = OutputConfig()
    dropout: float = Field(0.3, ge=0, lt=1)
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _refuse_impossible(self) -> Self:
        if self.fusion.kind == "decoupled" and self.temporal.kind == "none":
            raise ValueError(
                "fusion.kind: 'decoupled' looks past the temporal layer, and temporal.kind is 'none'; "
                "use 'cross_attention'"
            )
        return self


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
    return sorted(path.stem for path in presets_folder().glob("*.yaml"))


def load_head_config(head: str, overrides: tuple[str, ...] = ()) -> tuple[str, HeadConfig]:
    """Read a preset by its name, or a YAML file by its path, and apply `a.b=c` overrides.

    Returns:
        The head's name (the preset's, or the file's without its ending) and its validated config.
    Raises:
        ConfigError: unknown preset, unreadable file, unknown key or wrong value; all problems in one message.
    """
    if head in preset_names():
        path = presets_folder() / f"{head}.yaml"
    elif head.endswith((".yaml", ".yml")):
        path = Path(head)
    else:
        raise ConfigError(f"--head {head}: no such preset; known are {', '.join(preset_names())}, or give a .yaml file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: found {type(content).__name__}, expected keys such as temporal, pooling, output")
    for override in overrides:
        _apply_override(content, override)
    try:
        return path.stem, HeadConfig.model_validate(content)
    except ValidationError as error:
        where = f"{path} with {' '.join(overrides)}" if overrides else str(path)
        raise ConfigError(f"{where}: {'; '.join(_readable(e) for e in error.errors())}") from error


def _apply_override(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected key=value, such as temporal.layers=2")
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"--set {override}: {parent} is a value, not a group of keys")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from error
    # YAML 1.1 reads 1e-4 as text; people mean the number.
    if isinstance(parsed, str):
        with contextlib.suppress(ValueError):
            parsed = float(parsed)
    content[last] = parsed


def _readable(error: ErrorDetails) -> str:
    """Say one validation problem in the house's words: `pooling: 'atention' is not one of attentive, mean`."""
    where = ".".join(str(part) for part in error["loc"])
    found = error["input"]
    if error["type"] == "literal_error":
        known = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return f"{where}: {found!r} is not one of {known}"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{where}: {found!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
