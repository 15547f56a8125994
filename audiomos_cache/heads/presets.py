"""Where a head's config comes from: the presets of `configs/`, a user's own YAML files, and `--set` overrides."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import ValidationError

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.config import Compat, Group, HeadConfig
from audiomos_cache.yaml_files import apply_override, read_mapping, readable

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


def presets_folder() -> Path:
    """Return the folder of the presets: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).parents[1]
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


class SettableKey(NamedTuple):
    """What a key may be (`mlp|lstm`, `int`), its default, and what it means where its name does not say."""

    kind: str
    default: Any
    description: str


def settable_keys() -> dict[str, SettableKey]:
    """Return what `--set` takes, by key."""
    keys = {}
    for name, field in HeadConfig.model_fields.items():
        if isinstance(field.default, Group):
            fields = {f"{name}.{inner}": its_field for inner, its_field in type(field.default).model_fields.items()}
        else:
            fields = {name: field}
        for key, its_field in fields.items():
            kind = "|".join(_choices(its_field.annotation))
            keys[key] = SettableKey(kind, its_field.default, its_field.description or "")
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
    where = f"{path} with {' '.join(overrides)}" if overrides else str(path)
    return path.stem, _validated(read_mapping(path, "keys such as temporal, pooling, output"), overrides, where)


def head_config(head: str | Path | Mapping[str, Any] | HeadConfig) -> HeadConfig:
    """Return the validated config of a head: of a preset's name, a YAML file's path, or what such a file holds.

    Raises:
        ConfigError: as `load_head_config`.
    """
    match head:
        case HeadConfig():
            return head
        case str() | Path():
            return load_head_config(str(head))[1]
        case Mapping():
            return _validated(dict(head), (), "the head's config")
        case _:
            raise ConfigError(
                f"head: found {type(head).__name__}, expected a preset's name, a .yaml file, its keys, or a HeadConfig"
            )


def _validated(content: dict[str, Any], overrides: tuple[str, ...], where: str) -> HeadConfig:
    """Turn what a YAML file holds, which is changed on the way, into a config; all problems in one message."""
    if "runs" in content:
        raise ConfigError(f"{where}: has runs, so it is a plan; give it to --plan")
    overridden = {apply_override(content, override) for override in overrides}
    problems = list(_drop_or_name_unread(content, overridden))
    try:
        config = HeadConfig.model_validate(content)
    except ValidationError as error:
        problems = [readable(each, settable_keys()) for each in error.errors()] + problems
    if problems:
        raise ConfigError(f"{where}: {'; '.join(problems)}")
    return config


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
        choice = given.get(chooser.partition(".")[2], settable_keys()[chooser].default)
        if choice in deaf and chooser in overridden and key not in overridden:
            del given[name]
        elif choice in deaf:
            yield f"{key}: has no effect where {chooser} is {choice!r}"
