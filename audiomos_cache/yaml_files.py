"""YAML files that a user writes: read as groups of keys, with `key=value` overrides, and their problems in words."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import ErrorDetails

from audiomos_cache.errors import ConfigError


def read_mapping(path: Path, expected: str) -> dict[str, Any]:
    """Read the keys of a YAML file; `expected` says which they might be.

    Raises:
        ConfigError: the file cannot be read, or holds something else than keys.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: found {type(content).__name__}, expected {expected}")
    return content


def apply_override(content: dict[str, Any], override: str) -> str:
    """Put a `key=value` override into `content`; returns its key.

    Raises:
        ConfigError: it is none, or its key is a group's.
    """
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
    content[last] = parsed
    return key


def readable(error: ErrorDetails, known_keys: Iterable[str]) -> str:
    """Say one validation problem in the house's words: `pooling: 'atention' is not one of attentive, mean`."""
    where = ".".join(str(part) for part in error["loc"])
    found = error["input"]
    if error["type"] == "literal_error":
        known = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return f"{where}: {found!r} is not one of {known}"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if error["type"] == "missing":
        return f"{where}: missing"
    if error["type"] == "model_type":
        known = next((key for key in known_keys if key.startswith(f"{where}.")), "")
        return f"{where}: {found!r} is a value, expected keys{known and f' such as {known}'}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{where}: {found!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
