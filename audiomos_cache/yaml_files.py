"""YAML files that a user writes: read as groups of keys, with `key=value` overrides, and their problems as messages."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from yaml.constructor import ConstructorError

from audiomos_cache.errors import ConfigError

PART_ERROR = "part"  # type of an error that holds all problems of a part of a head, see heads.parts


class Group(BaseModel):
    """Keys that belong together; unknown ones are refused, and so are truth values instead of numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_values(cls, found: object, info: ValidationInfo) -> object:
        if isinstance(found, bool) and cls.model_fields[info.field_name or ""].annotation in (int, float):
            raise PydanticCustomError("number_type", "input should be a number")
        return found


class _Loader(yaml.SafeLoader):
    """Refuses keys that come twice, and never reads a string as a truth value, a date, or a number of base 8 or 60."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in keys:
                raise ConstructorError(None, None, f"the key {key.value} comes twice", key.start_mark)
            keys.add(key.value)
        return node

    def construct_number(self, node: yaml.ScalarNode) -> float:
        if ":" in node.value or re.match(r"[-+]?0[0-7_]+$", node.value):
            problem = f"{node.value} is a number of base {60 if ':' in node.value else 8} in YAML; write it in base 10"
            raise ConstructorError(None, None, problem, node.start_mark)
        return self.construct_yaml_int(node) if node.tag == _INT else self.construct_yaml_float(node)

    def construct_truth_value(self, node: yaml.ScalarNode) -> bool | str:
        return node.value.lower() == "true" if node.value.lower() in ("true", "false") else self.construct_string(node)

    def construct_string(self, node: yaml.ScalarNode) -> str:
        return str(node.value)


_INT, _FLOAT, _BOOL, _TIMESTAMP = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "timestamp"))
_Loader.add_constructor(_INT, _Loader.construct_number)
_Loader.add_constructor(_FLOAT, _Loader.construct_number)
_Loader.add_constructor(_BOOL, _Loader.construct_truth_value)
_Loader.add_constructor(_TIMESTAMP, _Loader.construct_string)


def _load(content: str) -> Any:
    """Parse YAML.

    Raises:
        YAMLError: it is not valid, or contains what no config may.
    """
    try:
        return yaml.load(content, _Loader)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
    except ValueError as error:
        raise yaml.YAMLError(str(error)) from error


def read_mapping(path: Path, expected: str) -> dict[str, Any]:
    """Read the keys of a YAML file; `expected` names some of them for the message.

    Raises:
        ConfigError: the file cannot be read, or does not contain keys.
    """
    try:
        content = _load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: found {type(content).__name__}, expected {expected}")
    return content


def apply_override(content: dict[str, Any], override: str) -> str:
    """Apply a `key=value` override to `content`, and return its key.

    Raises:
        ConfigError: it is not valid, or its key is a group's.
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
        parsed = _load(value)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", error)
        raise ConfigError(f"--set {_short(override)}: the value is not valid YAML: {problem}") from error
    content[last] = parsed
    return key


def _short(string: str) -> str:
    return string if len(string) <= 80 else f"{string[:77]}..."


def readable(error: ErrorDetails, known_keys: Iterable[str]) -> str:
    """Return the message for one validation problem: `pooling: 'atention' is not one of attentive, mean`."""
    where = ".".join(str(part) for part in error["loc"])
    found = error["input"]
    if error["type"] == "literal_error":
        known = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return f"{where}: {found!r} is not one of {known}"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if error["type"] == PART_ERROR:
        return "; ".join(f"{where}{problem}" for problem in error["ctx"]["problems"])
    if error["type"] == "missing":
        return f"{where}: missing"
    if error["type"] == "model_type":
        known = next((key for key in known_keys if key.startswith(f"{where}.")), "")
        return f"{where}: {found!r} is a value, expected keys{known and f' such as {known}'}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{where}: {found!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
