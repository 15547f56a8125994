"""Where a head's config comes from: the presets of `configs/`, a user's own YAML files, and `--set` overrides."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.config import Compat, HeadConfig
from audiomos_cache.heads.overrides import apply_overrides
from audiomos_cache.heads.settable import settable_keys
from audiomos_cache.registry import imported, require_parts
from audiomos_cache.yaml_files import read_mapping, readable

_RUN_NAME = re.compile(r"(\w[\w .+-]*?)(-seed\d+)?")


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


def load_head_config(head: str, overrides: tuple[str, ...] = ()) -> tuple[str, HeadConfig]:
    """Read a preset by its name, or a YAML file by its path, and apply `a.b=c` overrides.

    The file is one like the presets, or the `config.yaml` of a run, whose head it is then.

    Returns:
        The head's name (the preset's, the file's without its ending, or the run's without its seed) and its validated
        config.
    Raises:
        ConfigError: unknown preset, unreadable file, unknown key, or wrong value, all problems in one message; or a
            part that must be imported first.
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
    content = read_mapping(path, "keys such as temporal, pooling, output")
    name = path.stem
    if isinstance(content.get("head"), dict):
        require_parts(content.get("parts"), str(path))
        found = content.get("name")
        named = _RUN_NAME.fullmatch(found) if isinstance(found, str) else None
        name, content = named[1] if named else name, content["head"]
    return name, _validated(content, overrides, where)


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
    """Turn what a YAML file holds into a config; all problems in one message."""
    if "runs" in content:
        raise ConfigError(f"{where}: has runs, so it is a plan; give it to --plan")
    content, imports = dict(content), content.get("imports", [])
    content.pop("imports", None)
    if not isinstance(imports, list) or not all(isinstance(each, str) for each in imports):
        raise ConfigError(f"{where}: imports: {imports!r}: expected a list of modules, as --import takes them")
    try:
        return HeadConfig.model_validate(apply_overrides(content, overrides))
    except ValidationError as error:
        problems = problems_in(error)
    if missing := [each for each in imports if each not in imported()]:
        needed = " ".join(f"--import {each}" for each in missing)
        raise ConfigError(f"{where}: needs {needed}, given before the command ({problems})")
    raise ConfigError(f"{where}: {problems}")


def problems_in(error: ValidationError) -> str:
    """Say all that is wrong with what should be the config of a head."""
    examples = [each.key for each in settable_keys()]
    return "; ".join(readable(each, examples) for each in error.errors())


def with_compat(config: HeadConfig, compat: Compat) -> HeadConfig:
    """Return a head's config with another `compat`.

    Raises:
        ConfigError: the published code has no such head; all reasons in one message.
    """
    try:
        return HeadConfig.model_validate(config.model_dump() | {"compat": compat})
    except ValidationError as error:
        raise ConfigError(problems_in(error)) from error
