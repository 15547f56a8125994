"""The result of scoring: the score of a clip, what a line of JSON has of it, and the outcome of many."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audiomos_cache.errors import first_five, in_one_line, quoted
from audiomos_cache.targets import HIGHEST, LOWEST, TARGETS

Interval = tuple[float, float]
DECIMALS = 6
NAMED = ("mi_spread", "ta_spread")
"""The values that every score has in `Score.scores`."""


@dataclass(frozen=True, slots=True, repr=False)
class Score:
    """What a bundle predicts of one clip.

    Attributes:
        id: of the clip.
        path: of the file; None of an array.
        prompt: of the clip.
        mi: music impression, 1 to 5; None where the clip cannot be scored.
        ta: text alignment, 1 to 5; None too where there is no prompt.
        mi_interval, ta_interval: hold the mean opinion of listeners for 80 % of clips like those that the bundle was
            calibrated on; None where there is no score, or the bundle was not calibrated.
        scores: further values by their names. `mi_spread` and `ta_spread` are the standard deviation of the windows'
            scores, weighted by length; None of a single window.
        duration_s: of the whole clip; None where it cannot be read.
        windows: how many pieces it was scored in: more than one, if it is longer than the encoders take at once.
        warnings: such as a silent or a clipped clip, a sentence each.
        error: why it could not be scored; None if it was.
        columns: of the manifest that listed it, those that are not read here; as they are there.

    >>> from audiomos_cache import Scorer
    >>> [score] = Scorer("model", device="cpu").score(["song.wav"], ["A slow piano ballad."])
    >>> score
    Score('song': MI ... (... to ...), TA ... (... to ...); shorter than 3 s: ...)
    >>> score.windows, sorted(score.to_dict())[:3]
    (1, ['columns', 'duration_s', 'error'])
    """

    id: str
    path: str | None
    prompt: str | None
    mi: float | None = None
    ta: float | None = None
    mi_interval: Interval | None = None
    ta_interval: Interval | None = None
    scores: Mapping[str, float | None] = field(default_factory=lambda: dict.fromkeys(NAMED))
    duration_s: float | None = None
    windows: int = 0
    warnings: tuple[str, ...] = ()
    error: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return the numbers first: `Score('song': MI 3.41 (2.90 to 3.92), TA none; clipped: 2.0% of ...)`."""
        if self.error is not None:
            return f"Score({quoted(self.id)}: error: {self.error})"
        numbers = [_shown(t.upper(), getattr(self, t), getattr(self, f"{t}_interval")) for t in TARGETS]
        return f"Score({quoted(self.id)}: {'; '.join([', '.join(numbers), *self.warnings])})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, the same keys for every clip, numbers with `DECIMALS`."""
        plain = {name: _rounded(getattr(self, name)) for name in self.__dataclass_fields__ if name != "columns"}
        return plain | {"columns": dict(self.columns)}


def _shown(name: str, score: float | None, interval: Interval | None) -> str:
    if score is None:
        return f"{name} none"
    return f"{name} {score:.2f}" + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, tuple) else value


Row = dict[str, Any]
"""A line of scores as it is read from JSON: what `Score.to_dict` returns, and the digest of its bundle."""


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


def _is_opinion(value: float | None) -> bool:
    return value is None or LOWEST <= value <= HIGHEST


def _is_interval(value: list[Any] | None) -> bool:
    return value is None or (
        len(value) == 2 and _NUMBERS.issuperset(map(type, value)) and LOWEST <= value[0] <= value[1] <= HIGHEST
    )


def _are_numbers(value: Mapping[str, Any]) -> bool:
    return all(each is None or (type(each) in _NUMBERS and -math.inf < each < math.inf) for each in value.values())


_STRING, _STRING_OR_NULL = Key("a string", frozenset({str})), Key("a string or null", _NONE | {str})
_OPINION = Key(f"a number from {LOWEST:g} to {HIGHEST:g}, or null", _NUMBERS | _NONE, _is_opinion)
_INTERVAL = Key(
    f"two numbers from {LOWEST:g} to {HIGHEST:g}, the lower one first, or null", _NONE | {list}, _is_interval
)

LINE: Mapping[str, Key] = {
    "id": _STRING,
    "path": _STRING_OR_NULL,
    "prompt": _STRING_OR_NULL,
    "mi": _OPINION,
    "ta": _OPINION,
    "mi_interval": _INTERVAL,
    "ta_interval": _INTERVAL,
    "scores": Key("an object of numbers and nulls", frozenset({dict}), _are_numbers),
    "duration_s": Key(
        "a number of seconds, or null", _NUMBERS | _NONE, lambda value: value is None or 0 < value < math.inf
    ),
    "windows": Key("a whole number", frozenset({int}), lambda value: value >= 0),
    "warnings": Key("a list of strings", frozenset({list}), lambda value: all(isinstance(each, str) for each in value)),
    "error": _STRING_OR_NULL,
    "bundle": _STRING,
    "columns": Key("an object", frozenset({dict})),
}
"""The keys of a line, in their order. All are there in every line."""

# Line breaks for some readers, what a terminal obeys, and what turns the direction of a text.
_OBEYED = [*range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF]
_BREAKS = {char: f"\\u{char:04x}" for char in _OBEYED}


def to_line(score: Score, digest: str) -> bytes:
    r"""Return a score, and the digest of the bundle it is from, as one line of JSON in UTF-8 with its `\n`.

    Bytes of a file name that are not UTF-8 are written as the JSON escapes of Python's substitutes for them (`\udce9`
    for 0xe9), so that `os.fsencode` gives the name back.
    """
    return row_to_line(score.to_dict() | {"bundle": digest})


def row_to_line(row: Row) -> bytes:
    """Return the line that a row was read from."""
    text = json.dumps({key: row[key] for key in LINE}, ensure_ascii=False, allow_nan=False)
    return f"{text.translate(_BREAKS)}\n".encode(errors="backslashreplace")


@dataclass(slots=True)
class Outcome:
    """The result of scoring many clips.

    Attributes:
        total: how many there were.
        scores: by target, of the clips that have one.
        warned: how many have warnings.
        failed: by id, why a clip could not be scored.
        about: what the scores mean and what made them, a sentence each; none where no clip was left to score.
    """

    total: int
    scores: dict[str, list[float]] = field(default_factory=lambda: {target: [] for target in TARGETS})
    warned: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    about: tuple[str, ...] = ()

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a clip, whose score is given in plain values."""
        if row["error"] is not None:
            self.failed[row["id"]] = row["error"]
        for target, scores in self.scores.items():
            if row[target] is not None:
                scores.append(row[target])
        self.warned += bool(row["warnings"])

    def mean(self, target: str) -> float | None:
        """Return the mean score of `mi` or `ta`; None where no clip has one."""
        scores = self.scores[target]
        return math.fsum(scores) / len(scores) if scores else None

    def count_failed(self) -> str:
        """Return how many clips could not be scored."""
        return f"{len(self.failed)} of {self.total} clips could not be scored"

    def failures(self) -> str:
        """Return how many clips could not be scored, and the reasons of the first five, in one line."""
        reasons = [f"{clip_id}: {in_one_line(reason)}" for clip_id, reason in self.failed.items()]
        return f"{self.count_failed()}: {first_five(reasons)}"

    def __str__(self) -> str:
        """Return it in one line."""
        scored = len(self.scores["mi"])
        means = []
        for target, scores in self.scores.items():
            mean = "n/a" if (value := self.mean(target)) is None else f"{value:.3f}"
            means.append(f"{target.upper()} {mean}" + (f" (of {len(scores)})" if 0 < len(scores) < scored else ""))
        warned = f", {self.warned} with warnings" if self.warned else ""
        return f"{scored} of {self.total} clips scored, {len(self.failed)} failed{warned}; mean {', '.join(means)}"

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: `total, scored, warned, failed, mi, ta`, the last two being means."""
        return {
            "total": self.total,
            "scored": len(self.scores["mi"]),
            "warned": self.warned,
            "failed": dict(self.failed),
            **{target: self.mean(target) for target in TARGETS},
        }
