"""Parts that heads, fusions and encoders are made of, by kind and name; users add theirs with `register`.

    @register("pooling", "drasp")
    class Drasp(nn.Module): ...

Built-in parts are imported when they are first asked for, so that their names cost nothing. Parts of a user are known
once the module that registers them is imported: by Python, or by `audiomos-cache --import MODULE_OR_FILE COMMAND ...`.
Nothing is ever imported because a file says so.
"""

import difflib
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from audiomos_cache.errors import ConfigError

T = TypeVar("T")

_HEADS, _FUSION, _ENCODERS = (f"audiomos_cache.{room}" for room in ("heads", "fusion", "encoders"))
# kind -> name -> the module that registers it
BUILT_IN: dict[str, dict[str, str]] = {
    "temporal": dict.fromkeys(("transformer", "bilstm", "none"), f"{_HEADS}.temporal"),
    "pooling": dict.fromkeys(("attentive", "mean", "mean_std"), f"{_HEADS}.pooling"),
    "loss": dict.fromkeys(("gaussian", "one_hot", "raters", "l1", "mse", "coral"), f"{_HEADS}.losses"),
    "fusion": {
        "mean": f"{_FUSION}.averages",
        "weighted": f"{_FUSION}.averages",
        "ridge": f"{_FUSION}.stacking",
        "lightgbm": f"{_FUSION}.boosting",
        "greedy": f"{_FUSION}.greedy",
    },
    "audio_encoder": {"muq": f"{_ENCODERS}.muq", "muq-tiny": f"{_ENCODERS}.tiny"},
    "text_encoder": {"roberta": f"{_ENCODERS}.text", "roberta-tiny": f"{_ENCODERS}.tiny"},
}
_parts: dict[str, dict[str, Any]] = {kind: {} for kind in BUILT_IN}


def register(kind: str, name: str) -> Callable[[T], T]:
    """Make a part known under a name.

    Args:
        kind: a key of `BUILT_IN`.
        name: what configs and options call it.
    Raises:
        ConfigError: no such kind, or another part has the name.
    """
    if kind not in BUILT_IN:
        raise ConfigError(f"kind {kind!r} is not one of {', '.join(BUILT_IN)}")

    def add(part: T) -> T:
        module = getattr(part, "__module__", "")
        if name in BUILT_IN[kind] and module != BUILT_IN[kind][name]:
            raise ConfigError(f"{kind} {name!r} is built in; register {module}'s under another name")
        if (other := _parts[kind].get(name)) is not None and other.__module__ != module:
            raise ConfigError(f"{kind} {name!r} is registered by {other.__module__} already; choose another name")
        _parts[kind][name] = part
        return part

    return add


def known(kind: str) -> list[str]:
    """Return the names of all parts of a kind: those built in, then users' in the order of their registration."""
    return [*BUILT_IN[kind], *(name for name in _parts[kind] if name not in BUILT_IN[kind])]


def lookup(kind: str, name: str) -> Any:
    """Return the part of that name.

    Raises:
        ConfigError: there is none; lists the known names, the nearest first.
    """
    if name in BUILT_IN[kind]:
        import_module(BUILT_IN[kind][name])
    if name not in _parts[kind]:
        raise ConfigError(f"{kind} {unknown(kind, name)}")
    return _parts[kind][name]


def unknown(kind: str, name: str) -> str:
    """Say that a name is not known: `'atention' is not one of attentive, mean, mean_std`, the nearest first."""
    names = known(kind)
    near = difflib.get_close_matches(name, names, len(names), 0.5)
    return f"{name!r} is not one of {', '.join([*near, *(each for each in names if each not in near)])}"
