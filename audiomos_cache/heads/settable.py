"""The keys that `--set` and YAML files take, by kind of part, for help."""

from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.part_configs import LOSSES, PARTS
from audiomos_cache.heads.parts import Part, config_class
from audiomos_cache.yaml_files import Group


class SettableKey(NamedTuple):
    """A key of a head's config.

    Attributes:
        key: `temporal.layers`.
        type: what it may be: `mlp|lstm`, `int`.
        default: what it is where nothing says otherwise.
        description: what it means where its name does not say.
        kinds: which kinds of its part have it; empty where all have, or where it is no part's.
    """

    key: str
    type: str
    default: Any
    description: str
    kinds: tuple[str, ...] = ()


def settable_keys() -> list[SettableKey]:
    """Return what `--set` takes; a key that several kinds have alike is there once."""
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
    """Name what a type allows: the choices of a Literal and of each type of a union, the name of any other type."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [name for each in get_args(annotation) for name in _choices(each)] or [annotation.__name__]
