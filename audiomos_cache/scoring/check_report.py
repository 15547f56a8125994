"""The outcome of a check of a bundle, in a sentence, a table and plain values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audiomos_cache.errors import first_five, shown
from audiomos_cache.progress import counted
from audiomos_cache.scoring.ladders import FEWEST_SEGMENTS, PROMPTS, QUALITY, SEGMENT_S, SEGMENTS
from audiomos_cache.scoring.verdicts import (
    ENOUGH_CLIPS,
    FAILED,
    FALLS,
    NOT_DECIDED,
    NOT_SCORED,
    PASSED,
    SAME,
    UNMOVED,
    Change,
    Row,
    named,
)

EXCERPT_S = 10.0  # what is heard of a clip: its middle, as each rung costs as much as a score
_RUNGS = f"Rungs: {'; '.join(map(str, QUALITY))}."
_ADVICE = "Do not compare systems by these scores; check the encoder's weights and the audio."


@dataclass(frozen=True, repr=False)
class Check:
    """What noise, low-pass, clipping, shuffled segments and shuffled prompts do to a bundle's scores.

    Attributes:
        digest: of the bundle, which identifies it.
        clips: how many were heard.
        music: what they are, such as `made-up music`; None: clips that somebody gave.
        rows: of each target, a row for each ladder; the first target is the main one.
        untrained: names of encoders whose weights are random.
        left_out: why a clip was not heard, by its id.
        problems: what was made of a clip and cannot be scored.
        too_short: clips without shuffled segments.
        no_prompts: why no prompts were shuffled; "" if they were.
    """

    digest: str
    clips: int
    music: str | None
    rows: tuple[Row, ...]
    untrained: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    too_short: tuple[str, ...] = ()
    no_prompts: str = ""

    @property
    def main_target(self) -> str:
        """The target that the check depends on."""
        return self.rows[0].target

    @property
    def failures(self) -> list[str]:
        """What speaks against it, a clause each."""
        found = []
        if self.untrained:
            whose = "encoder is" if len(self.untrained) == 1 else "encoders are"
            found.append(f"the {whose} untrained ({' and '.join(map(shown, self.untrained))}), so scores mean nothing")
        return [*found, *self._sentences(FAILED)]

    @property
    def outcome(self) -> str:
        """`failed`: something speaks against it; `not decided`: the clips are not evidence enough; else `passed`."""
        if self.failures:
            return FAILED
        enough = self.clips >= ENOUGH_CLIPS and not any(row.outcome == NOT_DECIDED for row in self.rows)
        return PASSED if enough else NOT_DECIDED

    @property
    def passed(self) -> bool:
        """Whether the main target falls under noise, low-pass and clipping, and who hears prompts hears them."""
        return self.outcome == PASSED

    def _sentences(self, outcome: str) -> list[str]:
        return [row.sentence for row in self.rows if row.outcome == outcome]

    def summary(self) -> str:
        """Return the strongest rung of each ladder in one line: `MI: noise -1.21  low-pass -0.60 ...`."""
        return f"{named(self.main_target)}: {'  '.join(self._summaries())}"

    def _summaries(self) -> Iterator[str]:
        for row in self.rows:
            of_prompts = row.ladder == PROMPTS.name
            if (row.verdict == UNMOVED) if of_prompts else (row.target != self.main_target):
                continue
            whose = f" {named(row.target)}" if of_prompts else ""
            remark = "" if row.verdict == FALLS else f" ({row.label.partition(':')[0]})"
            yield f"{row.ladder}{whose} {_number(row.strongest.mean)}{remark}"

    def verdict(self) -> str:
        """Return the outcome in a sentence, and after a failure, what to do in another."""
        if self.outcome == FAILED:
            return f"FAILED: {'; '.join(self.failures)} ({self.heard()}). {_ADVICE}"
        if self.clips < ENOUGH_CLIPS:
            return f"Not decided: {self.heard()} can only hint at it, give {ENOUGH_CLIPS} or more."
        if self.outcome == NOT_DECIDED:
            scored = any(row.outcome == NOT_DECIDED and row.verdict != NOT_SCORED for row in self.rows)
            advice = "give more clips" if scored else "give clips that can be scored"
            return f"Not decided: {'; '.join(self._sentences(NOT_DECIDED))} ({self.heard()}); {advice}."
        names = [ladder.name for ladder in QUALITY]
        hearing = [named(row.target) for row in self.rows if row.ladder == PROMPTS.name and row.verdict == FALLS]
        prompts = f", {' and '.join(hearing)} under other prompts" if hearing else ""
        others = "".join(f"; but {row.sentence}" for row in self.rows if row.is_inverted)
        falls = f"{named(self.main_target)} falls under {', '.join(names[:-1])} and {names[-1]}"
        return f"Passed: {falls}{prompts}{others} ({self.heard()})."

    def notes(self) -> list[str]:
        """Return what was left out, and what the table holds, a line each."""
        lines = [f"{PROMPTS.name}: {self.no_prompts}"] if self.no_prompts else []
        lines += [f"left out: {shown(name)}: {reason}" for name, reason in self.left_out.items()]
        lines += [f"not scored: {problem}" for problem in self.problems[:5]]
        if len(self.problems) > 5:
            lines.append(f"not scored: ... ({len(self.problems)} in all)")
        if self.too_short:
            shortest = f"{FEWEST_SEGMENTS * SEGMENT_S:g} s"
            lines.append(f"without shuffled segments, as shorter than {shortest}: {first_five(self.too_short)}")
        return lines

    def lines(self) -> list[str]:
        """Return the summary, a table of at most 78 columns, what was left out, and the verdict."""
        head = [f"{'':19}{'change of score,':>18}  strongest rung:", f"{'':19}{'rung by rung':>18}  ± 95 %    fell"]
        table = [line for target, rows in self.by_target().items() for line in _block(target, rows)]
        return [self.summary(), "", *head, *table, "", _RUNGS, *self.notes(), self.verdict()]

    def cells(self) -> list[tuple[str, ...]]:
        """Return the table's rows: score, ladder, changes, half of the interval, clips that fell, verdict."""
        return [
            (
                named(row.target),
                row.ladder,
                ", ".join(_number(each.mean) for each in row.changes),
                _half_width(row.strongest),
                _fell(row.strongest, " of "),
                row.label,
            )
            for row in self.rows
        ]

    def how(self) -> str:
        """Return what was done, in sentences."""
        return (
            f"Scored again: the middle {EXCERPT_S:g} s of {self.heard()}, made worse in known ways, as loud as before. "
            f"{_RUNGS}"
        )

    def heard(self) -> str:
        """Return how many clips were heard, and what they are."""
        return counted(self.clips, "clip") + (f" of {self.music}" if self.music else "")

    def by_target(self) -> dict[str, list[Row]]:
        """Return the rows of each target."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.target, []).append(row)
        return found

    def __repr__(self) -> str:
        return "\n".join(["Check", *self.lines()])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "digest": self.digest,
            "passed": self.passed,
            "outcome": self.outcome,
            "verdict": self.verdict(),
            "failures": self.failures,
            "clips": self.clips,
            "music": self.music,
            "untrained": list(self.untrained),
            "ladders": {each.name: {"rungs": list(each.rungs), "unit": each.unit} for each in (*QUALITY, SEGMENTS)},
            "targets": {
                target: {row.ladder: row.to_dict() for row in rows} for target, rows in self.by_target().items()
            },
            "left_out": dict(self.left_out),
            "problems": list(self.problems),
            "too_short": list(self.too_short),
            "no_prompts": self.no_prompts,
        }


def _block(target: str, rows: Sequence[Row]) -> list[str]:
    if not any(row.strongest.clips for row in rows):
        return [f"{named(target)}: {NOT_SCORED}; if it hears prompts, give them"]
    return [named(target), *map(_line, rows)]


def _line(row: Row) -> str:
    changes = "".join(f"{_number(change.mean):>6}" for change in row.changes)
    return f"  {row.ladder:17}{changes:>18}  {_half_width(row.strongest):6}{_fell(row.strongest, '/'):>8}  {row.label}"


def _fell(change: Change, of: str) -> str:
    """Return how many clips fell, for a reader: `3/4`."""
    return f"{change.fell}{of}{change.clips}" if change.clips else "-"


def _half_width(change: Change) -> str:
    """Return half of an interval for a reader: `± 0.31`."""
    return "" if change.half_width is None else f"± {change.half_width:.2f}"


def _number(value: float | None) -> str:
    """Return a change for a reader; -0.00 is a fall that is smaller than that, +0.00 may be none."""
    if value is None:
        return "-"
    return f"{value if abs(value) > SAME else 0.0:+.2f}"
