"""YAML files that a user writes: read as groups of keys, with `key=value` overrides, and their problems as messages."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from yaml.constructor import ConstructorError

from audiomos_cache.errors import AudiomosError, ConfigError, in_one_line, quoted, shown
from audiomos_cache.files import parse_integer, parse_number, read_file

_MOST_BYTES = 1 << 20  # takes ten seconds at worst; a bundle of hundreds of members has less
PART_ERROR = "part"  # type of an error that holds all problems of a part of a head, see heads.parts


class Group(BaseModel):
    """Keys that belong together; unknown ones are refused, and so is what is no number where one should be."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_what_is_no_number(cls, found: object, info: ValidationInfo) -> object:
        odd = isinstance(found, bool) or (isinstance(found, str) and ("_" in found or not found.isascii()))  # 1_0
        if odd and cls.model_fields[info.field_name or ""].annotation in (int, float):
            raise PydanticCustomError("number_type", "input should be a number")
        return found


class _Loader(yaml.SafeLoader):
    """Reads what people write in configs, and refuses the rest of YAML, which stands for something else than it shows.

    Refused are anchors and aliases (a few of them stand for more than any memory holds), tags, merged keys, keys that
    come twice, numbers of another base than 10 and those that are none. No string is read as a truth value or a date.
    """

    def __init__(self, content: str) -> None:
        super().__init__(content)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise ConstructorError(None, None, "an anchor or alias (& or *); write its value out", event.start_mark)
        if getattr(event, "tag", None) is not None:
            problem = f"the tag {shown(event.tag)}; leave it out, and put a string in quotes"
            raise ConstructorError(None, None, problem, event.start_mark)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.YAMLError("nested too deeply")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.tag == _MERGE:
                raise ConstructorError(None, None, "a merged key, <<; write its keys out", key.start_mark)
            if key.value in keys:
                raise ConstructorError(None, None, f"the key {shown(key.value)} comes twice", key.start_mark)
            keys.add(key.value)
        return node

    def construct_number(self, node: yaml.ScalarNode) -> float:
        parse = parse_integer if node.tag == _INT else parse_number
        base = next((base for base, pattern in _BASES.items() if re.search(pattern, node.value)), 10)
        if base != 10:
            problem = f"{shown(node.value)} is a number of base {base} in YAML; write it in base 10"
            raise ConstructorError(None, None, problem, node.start_mark)
        try:
            return parse(node.value)
        except ValueError as error:
            raise ConstructorError(None, None, str(error), node.start_mark) from error

    def construct_truth_value(self, node: yaml.ScalarNode) -> bool | str:
        return node.value.lower() == "true" if node.value.lower() in ("true", "false") else self.construct_string(node)

    def construct_string(self, node: yaml.ScalarNode) -> str:
        try:
            node.value.encode()
        except UnicodeEncodeError:
            raise ConstructorError(None, None, "half a surrogate pair in a string", node.start_mark) from None
        return str(node.value)


_DEEPEST = 50  # keys inside keys; a bundle has five
_BASES = {60: ":", 16: "^[-+]?0x", 2: "^[-+]?0b", 8: "^[-+]?0[0-7_]+$"}
_INT, _FLOAT, _BOOL, _TIMESTAMP, _STRING, _MERGE = (
    f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "timestamp", "str", "merge")
)
_Loader.add_constructor(_INT, _Loader.construct_number)
_Loader.add_constructor(_FLOAT, _Loader.construct_number)
_Loader.add_constructor(_BOOL, _Loader.construct_truth_value)
_Loader.add_constructor(_TIMESTAMP, _Loader.construct_string)
_Loader.add_constructor(_STRING, _Loader.construct_string)


def _load(content: str) -> Any:
    """Parse YAML.

    Raises:
        YAMLError: it is not valid, or contains what no config may.
    """
    try:
        return yaml.load(content, _Loader)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
    except (ValueError, OverflowError) as error:  # a character beyond all, "\\U99999999"
        raise yaml.YAMLError(str(error)) from error


def read_mapping(
    path: Path, expected: str, error: type[AudiomosError] = ConfigError, advice: str = ""
) -> dict[str, Any]:
    """Read the keys of a YAML file, of at most 1 MiB.

    Args:
        path: the file.
        expected: some of the keys, for the message.
        error: what is raised.
        advice: what the user can do.

    Raises:
        AudiomosError: of the class `error`. The file cannot be read, or does not contain keys.
    """
    advice = advice and f"; {advice}"
    read = read_file(path, expected, error, _MOST_BYTES)
    try:
        content = _load(read.decode("utf-8-sig"))
    except (UnicodeDecodeError, yaml.YAMLError) as problem:
        raise error(f"{path}: cannot be read as YAML: {_reason(problem)}{advice}") from problem
    if not isinstance(content, dict):
        raise error(f"{path}: found {type(content).__name__}, expected {expected}{advice}")
    if others := [key for key in content if not isinstance(key, str)]:
        raise error(f"{path}: the key {quoted(others[0])} is no string, expected {expected}{advice}")
    return content


def apply_override(content: dict[str, Any], override: str) -> str:
    """Apply a `key=value` override to `content`, and return its key.

    Raises:
        ConfigError: it is not valid, or its key is a group's.
    """
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {shown(override)}: expected key=value, such as temporal.layers=2")
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"--set {shown(override)}: {shown(parent)} is a value, not a group of keys")
    try:
        parsed = _load(value)
    except yaml.YAMLError as error:
        problem = _reason(error).partition(" in line ")[0]
        raise ConfigError(f"--set {shown(override)}: the value is not valid YAML: {problem}") from error
    content[last] = parsed
    return key


def _reason(error: Exception) -> str:
    """Return what is wrong, and where, without the lines that PyYAML quotes."""
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return shown(in_one_line(getattr(error, "problem", error))) + where


def readable(error: ErrorDetails, known_keys: Iterable[str]) -> str:
    """Return the message for one validation problem: `pooling: 'atention' is not one of attentive, mean`."""
    where = shown(".".join(str(part) for part in error["loc"]))
    found = error["input"]
    if error["type"] == "literal_error":
        known = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return f"{where}: {quoted(found)} is not one of {known}"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if error["type"] == PART_ERROR:
        return "; ".join(f"{where}{problem}" for problem in error["ctx"]["problems"])
    if error["type"] == "missing":
        return f"{where}: missing"
    if error["type"] == "model_type":
        known = next((key for key in known_keys if key.startswith(f"{where}.")), "")
        return f"{where}: {quoted(found)} is a value, expected keys{known and f' such as {known}'}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{where}: {quoted(found)}: {error['msg'][0].lower()}{error['msg'][1:]}"
