"""Where a head's config comes from: the presets of `configs/`, a user's own YAML files, and `--set` overrides."""

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from audiomos_cache.errors import ArgumentError, ConfigError, first_five, quoted, shown
from audiomos_cache.heads.config import Compat, HeadConfig, settable_keys
from audiomos_cache.heads.part_configs import LOSSES, PARTS
from audiomos_cache.heads.parts import Part, config_class
from audiomos_cache.registry import imported, require_parts
from audiomos_cache.yaml_files import apply_override, read_mapping, readable

_RUN_NAME = re.compile(r"(\w[\w .+-]*?)(-seed\d+)?")
_OF_A_RUN = ("seed", "fingerprint", "versions")  # keys that every run's config.yaml has next to `head`
_PART_KEYS = (*PARTS, "output.loss")

Overrides = str | Sequence[str] | Mapping[str, Any]


def presets_folder() -> Path:
    """Return the folder of the presets: next to the package in a checkout, inside it when installed."""
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

    The file is like the presets, or it is the `config.yaml` of a run, whose head is then read.

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
        raise ConfigError(
            f"--head {head}: preset not found; known are {', '.join(preset_names())}, or give a .yaml file"
        )
    where = f"{path} with {shown(' '.join(overrides))}" if overrides else str(path)
    content = read_mapping(path, "keys such as temporal, pooling, output")
    name = path.stem
    if "head" in content:
        _refuse_head_of_no_run(content, path)
        require_parts(content.get("parts"), str(path))
        found = content.get("name")
        named = _RUN_NAME.fullmatch(found) if isinstance(found, str) else None
        name, content = named[1] if named else name, content["head"]
    return name, _validated(content, overrides, where)


def _refuse_head_of_no_run(content: Mapping[str, Any], path: Path) -> None:
    """Refuse a file with a key `head` that is not the config of a run."""
    if missing := [key for key in _OF_A_RUN if key not in content]:
        others = first_five([key for key in map(str, content) if key != "head"])
        raise ConfigError(
            f"{path}: head{f', next to it {others}' if others else ''}: unknown in the file of a head, and a run's "
            f"config.yaml has {', '.join(missing)} too; write the head's keys at the top level"
        )
    if not isinstance(content["head"], dict):
        raise ConfigError(f"{path}: head: found {type(content['head']).__name__}, expected keys such as temporal")


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
        raise ConfigError(f"{where}: imports: {quoted(imports)}: expected a list of modules, as --import takes them")
    try:
        return HeadConfig.model_validate(apply_overrides(content, overrides))
    except ValidationError as error:
        problems = problems_in(error)
    if missing := [each for each in imports if each not in imported()]:
        needed = " ".join(f"--import {each}" for each in missing)
        raise ConfigError(f"{where}: needs {needed}, given before the command ({problems})")
    raise ConfigError(f"{where}: {problems}")


def problems_in(error: ValidationError) -> str:
    """Describe all problems of a head's config, in one line."""
    examples = [each.key for each in settable_keys()]
    return "; ".join(readable(each, examples) for each in error.errors())


def with_compat(config: HeadConfig, compat: Compat) -> HeadConfig:
    """Return a head's config with another `compat`.

    Raises:
        ConfigError: the published code has no head of these parts; all reasons in one message.
    """
    try:
        return HeadConfig.model_validate(config.model_dump() | {"compat": compat})
    except ValidationError as error:
        raise ConfigError(problems_in(error)) from error


def overrides_of(given: Overrides) -> tuple[str, ...]:
    """Return the `a.b=c` overrides that a call was given.

    Args:
        given: one of them, several, or a mapping of keys to plain values: strings, numbers, truth values, None, and
            lists and mappings of them.
    Raises:
        ArgumentError: something else.
    """
    if isinstance(given, str):
        return (given,)
    if isinstance(given, Mapping):
        return tuple(_override(key, value) for key, value in given.items())
    if not isinstance(given, Sequence) or not all(isinstance(each, str) for each in given):
        raise ArgumentError(
            f"set is {quoted(given)}, expected 'key=value', several of these, or a mapping of keys to values"
        )
    return tuple(given)


def _override(key: object, value: object) -> str:
    """Return the override that gives a key this value: JSON is YAML too."""
    if not isinstance(key, str) or not key or "=" in key:
        raise ArgumentError(f"set: {quoted(key)}: expected a key such as temporal.layers")
    try:
        return f"{key}={json.dumps(value, ensure_ascii=False, allow_nan=False)}"
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"set: {key} is {quoted(value)}, expected a plain value: {error}") from error


def apply_overrides(content: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return the content of a YAML file with `a.b=c` overrides applied to it.

    Where an override chooses another kind of a part, keys of the old kind that come from the file are left out if the
    new kind lacks them. Keys that an override gives stay: validation names those that the kind lacks.

    Args:
        content: of the file; it is not changed.
        overrides: in the order in which they apply. `pooling=mean` means `pooling.kind=mean`.
    Raises:
        ConfigError: an override without a key or a value, or with a group as its key.
    """
    changed = copy.deepcopy(dict(content))
    given = {_apply(changed, override) for override in overrides}
    for name, part in PARTS.items():
        _remove_replaced(name, (part, content.get(name)), (part, changed.get(name)), given)
    return changed


def _apply(content: dict[str, Any], override: str) -> str:
    """Put one override into `content`; returns its key, `pooling.kind` for `pooling=mean`."""
    key = override.partition("=")[0]
    for part in _PART_KEYS:
        group, _, name = part.rpartition(".")
        parent = content.get(group, {}) if group else content
        if key.startswith(f"{part}.") and isinstance(parent, dict) and isinstance(parent.get(name), str):
            parent[name] = {"kind": parent[name]}
    if key not in _PART_KEYS:
        return apply_override(content, override)
    group, _, name = key.rpartition(".")
    parent = content.get(group) if group else content
    before = parent.get(name) if isinstance(parent, dict) else None
    apply_override(content, override)
    parent = content[group] if group else content
    if isinstance(before, dict) and isinstance(parent[name], str):
        parent[name] = before | {"kind": parent[name]}
    return f"{key}.kind"


def _remove_replaced(key: str, before: tuple[Part, Any], after: tuple[Part, Any], given: set[str]) -> None:
    """Remove from a part's keys, in place, those that the file gives for the kind that an override replaced.

    Args:
        key: of the part.
        before, after: the part and the value of its key, without and with the overrides.
        given: keys of the overrides.
    """
    keys = after[1]
    old, new = (_kind(*each) for each in (before, after))
    if old is None or new is None or not isinstance(keys, dict):
        return
    own = config_class(after[0].part, new).own_keys()
    for each in config_class(before[0].part, old).own_keys():
        if each in keys and each not in own and f"{key}.{each}" not in given:
            del keys[each]
    if key == "output" and "loss" in keys:
        if old != new and "output.loss.kind" not in given:
            _keep_overridden(keys, given)
        else:
            loss = before[1].get("loss") if isinstance(before[1], Mapping) else None
            _remove_replaced("output.loss", (LOSSES[old], loss), (LOSSES[new], keys["loss"]), given)


def _keep_overridden(output: dict[str, Any], given: set[str]) -> None:
    """Remove the file's loss, which is for another kind of output; keep the keys of it that overrides give."""
    loss = output.pop("loss")
    if isinstance(loss, dict) and (kept := {key: loss[key] for key in loss if f"output.loss.{key}" in given}):
        output["loss"] = kept


def _kind(part: Part, given: Any) -> str | None:
    """Return the kind of a part, where it is a known one."""
    kind = given.get("kind", part.default) if isinstance(given, Mapping) else given or part.default
    return kind if kind in part.names() else None
