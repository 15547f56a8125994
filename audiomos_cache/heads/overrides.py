"""`--set` overrides of a head's config: what a file says for one kind of a part is left out where another is chosen."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from audiomos_cache.heads.part_configs import LOSSES, PARTS
from audiomos_cache.heads.parts import Part, config_class
from audiomos_cache.yaml_files import apply_override

_PART_KEYS = (*PARTS, "output.loss")


def apply_overrides(content: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return what a YAML file holds with `a.b=c` overrides put into it.

    Where an override chooses another kind of a part, keys of the old kind that come from the file are left out if the
    new kind lacks them. Keys that an override gives stay: validation names those that the kind lacks.

    Args:
        content: what the file holds, which is left as it is.
        overrides: in the order in which they apply. `pooling=mean` says the same as `pooling.kind=mean`.
    Raises:
        ConfigError: an override that is none.
    """
    changed = copy.deepcopy(dict(content))
    given = {_apply(changed, override) for override in overrides}
    for name, part in PARTS.items():
        _leave_out(name, (part, content.get(name)), (part, changed.get(name)), given)
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
    before = (content.get(group) or {} if group else content).get(name)
    apply_override(content, override)
    parent = content[group] if group else content
    if isinstance(before, dict) and isinstance(parent[name], str):
        parent[name] = before | {"kind": parent[name]}
    return f"{key}.kind"


def _leave_out(key: str, before: tuple[Part, Any], after: tuple[Part, Any], given: set[str]) -> None:
    """Leave out of a part's keys, in place, what the file says for the kind that an override replaced.

    Args:
        key: of the part.
        before, after: what it is, and what it was given as, without and with the overrides.
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
            _keep_given(keys, given)
        else:
            loss = before[1].get("loss") if isinstance(before[1], Mapping) else None
            _leave_out("output.loss", (LOSSES[old], loss), (LOSSES[new], keys["loss"]), given)


def _keep_given(output: dict[str, Any], given: set[str]) -> None:
    """Leave out the file's loss, which is one for another kind of output."""
    loss = output.pop("loss")
    if isinstance(loss, dict) and (kept := {key: loss[key] for key in loss if f"output.loss.{key}" in given}):
        output["loss"] = kept


def _kind(part: Part, given: Any) -> str | None:
    """Return the kind of a part, where it is a known one."""
    kind = given.get("kind", part.default) if isinstance(given, Mapping) else given or part.default
    return kind if kind in part.names() else None
