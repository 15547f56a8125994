"""A line of JSON for each scored clip: its keys, what is valid, and which bundles it is from."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from audiomos_cache.errors import BundleError, quoted
from audiomos_cache.scoring.results import Score
from audiomos_cache.scoring.windows import WindowMode, WindowRule
from audiomos_cache.targets import HIGHEST, LOWEST

if TYPE_CHECKING:
    from audiomos_cache.bundle.bundle import Bundle

Row = dict[str, Any]
"""A line of scores as it is read from JSON: what `Score.to_dict` returns, and which bundle it is from."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a key of a line holds.

    Attributes:
        expected: for messages.
        types: which a value has, as it is read from JSON.
        is_valid: whether a value of these types is one; None: each is.
    """

    expected: str
    types: frozenset[type]
    is_valid: Callable[[Any], bool] | None = None

    def accepts(self, values: Sequence[object]) -> bool:
        """Return whether all of some values are valid."""
        return self.types.issuperset(map(type, values)) and (self.is_valid is None or all(map(self.is_valid, values)))


_NUMBERS, _NONE = frozenset({int, float}), frozenset({type(None)})


def _is_interval(value: list[Any] | None) -> bool:
    return value is None or (
        len(value) == 2 and _NUMBERS.issuperset(map(type, value)) and LOWEST <= value[0] <= value[1] <= HIGHEST
    )


def _is_span(value: list[Any] | None) -> bool:
    return value is None or (
        len(value) == 2 and _NUMBERS.issuperset(map(type, value)) and 0 <= value[0] <= value[1] < math.inf
    )


def _are_numbers(value: Mapping[str, Any]) -> bool:
    return all(each is None or (type(each) in _NUMBERS and -math.inf < each < math.inf) for each in value.values())


def _is_entry(value: Mapping[str, Any]) -> bool:
    return value.keys() == BundleEntry.__annotations__.keys() and all(isinstance(each, str) for each in value.values())


def _are_bundles(value: Mapping[str, Any]) -> bool:
    return bool(value) and all(
        isinstance(each, dict)
        and each.keys() == OF_BUNDLE.keys()
        and all(key.accepts([each[name]]) for name, key in OF_BUNDLE.items())
        for each in value.values()
    )


class BundleEntry(TypedDict):
    """What a line says of the bundle that scored it.

    Attributes:
        name: of the bundle.
        digest: which identifies it.
        windows: what was heard of a clip: `centre 10 s`, `mean of 30 s`, `whole`.
        licence: what may be done with the score.
    """

    name: str
    digest: str
    windows: str
    licence: str


Entries = Mapping[str, BundleEntry]
"""The bundles of a scorer, by what they are called among several."""


def entries_of(bundles: "Sequence[Bundle]", mode: WindowMode) -> dict[str, BundleEntry]:
    """Return what lines say of these bundles.

    Args:
        bundles: one or more.
        mode: what is heard of a long clip.
    Raises:
        BundleError: two have the same name.
    """
    labels = [bundle.label for bundle in bundles]
    if twins := sorted({label for label in labels if labels.count(label) > 1}):
        raise BundleError(
            f"{len(bundles)} bundles, and more than one is called {quoted(twins[0])}, which their scores are named by; "
            "rename a folder, or give each bundle once"
        )
    return {
        each.label: BundleEntry(
            name=each.label, digest=each.digest, windows=str(WindowRule.of(each.input, mode)), licence=each.licence
        )
        for each in bundles
    }


def names_of(bundles: "Sequence[Bundle]", mode: WindowMode) -> dict[str, list[str]]:
    """Return the names of all values in a score of each bundle, by what it is called."""
    names = {}
    for each in bundles:
        kinds = ("", "_spread") if WindowRule.of(each.input, mode).kind == "first" else ("",)
        names[each.label] = [f"{target.name}{kind}" for kind in kinds for target in each.targets]
    return names


def is_made_by(row: Row, entries: Entries) -> bool:
    """Return whether a line is of these bundles, each heard in the same windows, whatever they were called alone."""
    found = row["bundles"] if "bundles" in row else {next(iter(entries)): row}
    return found.keys() == entries.keys() and all(
        found[name]["bundle"][key] == entry[key] for name, entry in entries.items() for key in ("digest", "windows")
    )


_STRING, _STRING_OR_NULL = Key("a string", frozenset({str})), Key("a string or null", _NONE | {str})
_SCORE = Key("a number, or null", _NUMBERS | _NONE, lambda value: value is None or -math.inf < value < math.inf)
_INTERVAL = Key(
    f"two numbers from {LOWEST:g} to {HIGHEST:g}, the lower one first, or null", _NONE | {list}, _is_interval
)
_SECONDS = Key("a number of seconds, or null", _NUMBERS | _NONE, lambda value: value is None or 0 < value < math.inf)
_HEARD = Key("two numbers of seconds, the lower one first, or null", _NONE | {list}, _is_span)
_WARNINGS = Key("a list of strings", frozenset({list}), lambda value: all(isinstance(each, str) for each in value))

OF_BUNDLE: Mapping[str, Key] = {
    "mi": _SCORE,
    "ta": _SCORE,
    "mi_interval": _INTERVAL,
    "ta_interval": _INTERVAL,
    "scores": Key("an object of numbers and nulls", frozenset({dict}), _are_numbers),
    "windows": Key("a whole number", frozenset({int}), lambda value: value >= 0),
    "heard": _HEARD,
    "warnings": _WARNINGS,
    "error": _STRING_OR_NULL,
    "bundle": Key("an object with the strings name, digest, windows, licence", frozenset({dict}), _is_entry),
}
"""The keys of what one bundle says of a clip."""
_ID = {"id": _STRING, "path": _STRING_OR_NULL, "prompt": _STRING_OR_NULL}
_COLUMNS = {"columns": Key("an object", frozenset({dict}))}

LINE: Mapping[str, Key] = {
    **_ID,
    **{name: OF_BUNDLE[name] for name in ("mi", "ta", "mi_interval", "ta_interval", "scores")},
    "duration_s": _SECONDS,
    **{name: OF_BUNDLE[name] for name in ("windows", "heard", "warnings", "error", "bundle")},
    **_COLUMNS,
}
"""The keys of a line, in their order. All are there in every line."""
OF_CLIP: Mapping[str, Key] = {
    **_ID,
    "duration_s": _SECONDS,
    "warnings": _WARNINGS,
    "error": _STRING_OR_NULL,
    "bundles": Key("an object of scores by the bundle's name", frozenset({dict}), _are_bundles),
    **_COLUMNS,
}
"""The keys of a line of several bundles, likewise."""


def keys_of(entries: Entries) -> Mapping[str, Key]:
    """Return the keys of a line of these bundles."""
    return LINE if len(entries) == 1 else OF_CLIP


# Line breaks for some readers, what a terminal obeys, and what turns the direction of a text.
_OBEYED = [*range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF]
_BREAKS = {char: f"\\u{char:04x}" for char in _OBEYED}


def to_line(score: Score, entries: Entries) -> bytes:
    r"""Return a score, and which bundles it is from, as one line of JSON in UTF-8 with its `\n`.

    Bytes of a file name that are not UTF-8 are written as the JSON escapes of Python's substitutes for them (`\udce9`
    for 0xe9), so that `os.fsencode` gives the name back.
    """
    row = score.to_dict()
    if len(entries) == 1:
        return row_to_line(row | {"bundle": next(iter(entries.values()))})
    return row_to_line(row | {"bundles": {name: row["bundles"][name] | {"bundle": e} for name, e in entries.items()}})


def row_to_line(row: Row) -> bytes:
    """Return the line that a row was read from."""
    keys = OF_CLIP if "bundles" in row else LINE
    text = json.dumps({key: row[key] for key in keys}, ensure_ascii=False, allow_nan=False)
    return f"{text.translate(_BREAKS)}\n".encode(errors="backslashreplace")
