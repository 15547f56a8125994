"""The result of scoring: the score of a clip, and the outcome of many; `lines.py` writes and reads them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audiomos_cache.errors import escaped, first_five, in_one_line, quoted
from audiomos_cache.targets import TARGETS

Interval = tuple[float, float]
DECIMALS = 6


@dataclass(frozen=True, slots=True, repr=False)
class Score:
    """What a bundle predicts of one clip, or several do.

    Attributes:
        id: of the clip.
        path: of the file; None of an array.
        prompt: of the clip.
        mi: music impression, 1 to 5; None where the clip cannot be scored, or the bundle has no such target.
        ta: text alignment, 1 to 5; None too where there is no prompt, or the bundle does not hear it.
        mi_interval, ta_interval: hold the mean opinion of listeners for 80 % of clips like those that the bundle was
            calibrated on; None where there is no score, or the bundle was not calibrated.
        scores: all targets of the bundle by their names, `mi` and `ta` among them. `mi_spread` and so on, where a clip
            may be heard in several windows, are the standard deviation of the windows' scores, weighted by length; None
            of a single window.
        duration_s: of the whole clip; None where it cannot be read.
        windows: how many pieces it was scored in: more than one, if it is longer than the encoders take at once.
        heard: from when to when, in seconds; None where nothing was.
        warnings: such as a silent or a clipped clip, a sentence each.
        error: why it could not be scored; None if it was.
        columns: of the manifest that listed it, those that are not read here; as they are there.
        bundles: by the bundle's name, where several were asked: the score of each. All that a bundle predicts is there,
            `error` names those that failed, and `warnings` are those of the clip.

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
    scores: Mapping[str, float | None] = field(default_factory=dict)
    duration_s: float | None = None
    windows: int = 0
    heard: Interval | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    bundles: "Mapping[str, Score]" = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return the numbers first: `Score('song': MI 3.41 (2.90 to 3.92), TA none; clipped: 2.0% of ...)`."""
        if self.error is not None:
            return f"Score({quoted(self.id)}: error: {self.error})"
        if self.bundles:
            return (
                f"Score({quoted(self.id)}: {'; '.join(f'{name}: {s._numbers()}' for name, s in self.bundles.items())})"
            )
        return f"Score({quoted(self.id)}: {'; '.join([self._numbers(), *self.warnings])})"

    def _numbers(self) -> str:
        if self.mi is None and self.scores:
            return ", ".join(_shown(name, value, None) for name, value in self.scores.items() if is_target(name))
        return ", ".join(_shown(t.upper(), getattr(self, t), getattr(self, f"{t}_interval")) for t in TARGETS)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, the same keys for every clip of a scorer, numbers with `DECIMALS`."""
        plain = {name: _rounded(getattr(self, name)) for name in self.__dataclass_fields__ if name not in _NESTED}
        if self.bundles:
            plain = {name: value for name, value in plain.items() if name not in _OF_ONE}
            plain["bundles"] = {label: each._of_one() for label, each in self.bundles.items()}
        return plain | {"columns": dict(self.columns)}

    def _of_one(self) -> dict[str, Any]:
        return {name: _rounded(getattr(self, name)) for name in (*_OF_ONE, "warnings", "error")}


_NESTED = ("columns", "bundles")
_OF_ONE = ("mi", "ta", "mi_interval", "ta_interval", "scores", "windows", "heard")  # what each bundle says of a clip


def is_target(name: str) -> bool:
    """Return whether a value of `Score.scores` is a bundle's target; the others say how far windows differ."""
    return not name.endswith("_spread")


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


def _is_opinion(name: str) -> bool:
    return name.rpartition(".")[2] in TARGETS


def scores_of_row(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the targets of a row by name; of several bundles, by `BUNDLE.NAME`."""
    if "bundles" in row:
        return {
            f"{label}.{name}": value
            for label, each in row["bundles"].items()
            for name, value in scores_of_row(each).items()
        }
    return {name: value for name, value in row["scores"].items() if is_target(name)}


@dataclass(slots=True)
class Outcome:
    """The result of scoring many clips.

    Attributes:
        total: how many there were.
        scored: how many have scores.
        scores: by target, of the clips that have one; by `BUNDLE.TARGET` of several bundles.
        warned: how many have warnings.
        failed: by id, why a clip could not be scored.
        about: what the scores mean and what made them, a sentence each; none where no clip was left to score.
    """

    total: int
    scored: int = 0
    scores: dict[str, list[float]] = field(default_factory=dict)
    warned: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    about: tuple[str, ...] = ()

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a clip, whose score is given in plain values."""
        if row["error"] is not None:
            self.failed[row["id"]] = row["error"]
        found = {name: value for name, value in scores_of_row(row).items() if value is not None}
        for name, value in found.items():
            self.scores.setdefault(name, []).append(value)
        self.scored += bool(found)
        self.warned += bool(row["warnings"]) or any(each["warnings"] for each in row.get("bundles", {}).values())

    def mean(self, target: str) -> float | None:
        """Return the mean of a score, such as `mi`; None where no clip has one."""
        scores = self.scores.get(target)
        return math.fsum(scores) / len(scores) if scores else None

    def count_failed(self) -> str:
        """Return how many clips could not be scored."""
        return f"{len(self.failed)} of {self.total} clips could not be scored"

    def failures(self) -> str:
        """Return how many clips could not be scored, and the reasons of the first five, in one line."""
        reasons = [f"{clip_id}: {in_one_line(reason)}" for clip_id, reason in self.failed.items()]
        return f"{self.count_failed()}: {first_five(reasons)}"

    def __str__(self) -> str:
        """Return it in one line, of MI and TA alone where there are any."""
        means = []
        has_opinions = any(_is_opinion(name) for name in self.scores)
        for name, scores in self.scores.items():
            if has_opinions and not _is_opinion(name):
                continue
            shown = name.upper() if name in TARGETS else escaped(name)
            means.append(
                f"{shown} {self.mean(name):.3f}" + (f" (of {len(scores)})" if len(scores) < self.scored else "")
            )
        warned = f", {self.warned} with warnings" if self.warned else ""
        ended = f"; mean {', '.join(means)}" if means else ""
        return f"{self.scored} of {self.total} clips scored, {len(self.failed)} failed{warned}{ended}"

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: `total, scored, warned, failed, mi, ta, scores`; the last three are means."""
        return {
            "total": self.total,
            "scored": self.scored,
            "warned": self.warned,
            "failed": dict(self.failed),
            **{target: self.mean(target) for target in TARGETS},
            "scores": {name: self.mean(name) for name in self.scores},
        }
