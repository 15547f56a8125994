"""The result of scoring: the score of a clip, as a line of JSON or a row of a table, and the outcome of many."""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from audiomos_cache.dataset.clip import printable
from audiomos_cache.errors import first_five
from audiomos_cache.targets import TARGETS

Interval = tuple[float, float]
DECIMALS = 6


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
        duration_s: of the whole clip; None where it cannot be read.
        windows: how many pieces it was scored in: more than one, if it is longer than the encoders take at once.
        mi_spread, ta_spread: standard deviation of the windows' scores, weighted by length; None of a single window.
        warnings: such as a silent or a clipped clip, a sentence each.
        error: why it could not be scored; None if it was.

    >>> from audiomos_cache import Scorer
    >>> [score] = Scorer("model", device="cpu").score(["song.wav"], ["A slow piano ballad."])
    >>> score
    Score('song': MI ... (... to ...), TA ... (... to ...); shorter than 3 s: ...)
    >>> score.windows, sorted(score.to_dict())[:3]
    (1, ['duration_s', 'error', 'id'])
    """

    id: str
    path: str | None
    prompt: str | None
    mi: float | None = None
    ta: float | None = None
    mi_interval: Interval | None = None
    ta_interval: Interval | None = None
    duration_s: float | None = None
    windows: int = 0
    mi_spread: float | None = None
    ta_spread: float | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None

    def __repr__(self) -> str:
        """Return the numbers first: `Score('song': MI 3.41 (2.90 to 3.92), TA none; clipped: 2.0% of ...)`."""
        if self.error is not None:
            return f"Score({self.id!r}: error: {self.error})"
        numbers = [_shown(t.upper(), getattr(self, t), getattr(self, f"{t}_interval")) for t in TARGETS]
        return f"Score({self.id!r}: {'; '.join([', '.join(numbers), *self.warnings])})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, the same keys for every clip, numbers with `DECIMALS`."""
        return {name: _rounded(getattr(self, name)) for name in self.__dataclass_fields__}


def _shown(name: str, score: float | None, interval: Interval | None) -> str:
    if score is None:
        return f"{name} none"
    return f"{name} {score:.2f}" + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, DECIMALS)
    return [_rounded(each) for each in value] if isinstance(value, tuple) else value


Row = dict[str, Any]
"""A score in plain values: what `Score.to_dict` returns, and the digest of its bundle as `bundle`."""

_BREAKS = str.maketrans({char: f"\\u{ord(char):04x}" for char in "\x85\u2028\u2029"})  # line breaks for some readers
CSV_COLUMNS = (
    "id", "path", "prompt", "mi", "mi_low", "mi_high", "ta", "ta_low", "ta_high", "duration_s", "windows", "mi_spread",
    "ta_spread", "warnings", "error", "bundle",
)  # fmt: skip


def to_line(score: Score, digest: str) -> bytes:
    r"""Return a score, and the digest of the bundle it is from, as one line of JSON in UTF-8 with its `\n`.

    Bytes of a file name that are not UTF-8 are written as the JSON escapes of Python's substitutes for them (`\udce9`
    for 0xe9), so that `os.fsencode` gives the name back.
    """
    text = json.dumps({**score.to_dict(), "bundle": digest}, ensure_ascii=False, allow_nan=False)
    return f"{text.translate(_BREAKS)}\n".encode(errors="backslashreplace")


def to_csv(rows: Iterable[Row]) -> bytes:
    """Return scores as a table in UTF-8, with a header: `CSV_COLUMNS`, what is missing left empty.

    The bounds of an interval are columns of their own; warnings are joined by "; ".
    """
    text = StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        bounds: dict[str, float | None] = {}
        for target in TARGETS:
            low, high = row[f"{target}_interval"] or (None, None)
            bounds |= {f"{target}_low": low, f"{target}_high": high}
        writer.writerow(row | bounds | {"warnings": "; ".join(row["warnings"])})
    return text.getvalue().encode(errors="backslashreplace")


@dataclass(slots=True)
class Outcome:
    """The result of scoring many clips.

    Attributes:
        total: how many there were.
        scores: by target, of the clips that have one.
        warned: how many have warnings.
        failed: by id, why a clip could not be scored.
    """

    total: int
    scores: dict[str, list[float]] = field(default_factory=lambda: {target: [] for target in TARGETS})
    warned: int = 0
    failed: dict[str, str] = field(default_factory=dict)

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

    def failures(self) -> str:
        """Return how many clips could not be scored, and the reasons of the first five, in one line."""
        reasons = [f"{clip_id}: {' '.join(reason.split())}" for clip_id, reason in self.failed.items()]
        return f"{len(reasons)} of {self.total} clips could not be scored: {printable(first_five(reasons))}"

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
