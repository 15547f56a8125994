"""The result of a check: how far each target moved on each rung, and what that says of the bundle."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.special import stdtrit

from audiomos_cache.errors import first_five, shown
from audiomos_cache.progress import counted
from audiomos_cache.scoring.ladders import FEWEST_SEGMENTS, PROMPTS, QUALITY, SEGMENT_S, SEGMENTS, Ladder
from audiomos_cache.targets import TARGETS, Target

LEAST_SHARE = 0.025  # of a target's scale, 0.1 from 1 to 5: what moves less on the strongest rung is no effect
SAME = 1e-4  # in score units: a clip's score in another batch
ENOUGH_CLIPS = 3
DECIMALS = 3

EXCERPT_S = 10.0  # what is heard of a clip: its middle, as each rung costs as much as a score
_RUNGS = f"Rungs: {'; '.join(map(str, QUALITY))}."

FALLS, NO_EFFECT, UNCERTAIN = "falls as expected", "no effect", "uncertain: clips differ"
BLIND, DEAF = "blind to structure", "does not hear the prompt"
UNMOVED, MOVES, NOT_SCORED = "unmoved, as expected", "moves with the prompt", "not scored"
INVERTED = "INVERTED"


@dataclass(frozen=True, slots=True)
class Change:
    """What a rung does to a target: score of what was made of a clip, less that of the clip.

    Attributes:
        rung: of the ladder, in its unit.
        mean: over the clips; None where there are none.
        error: the standard error of the mean; None of fewer than two clips.
        fell: how many clips fell.
        clips: of how many.
        moved: how far a clip moved on average, up or down.
    """

    rung: float
    mean: float | None
    error: float | None
    fell: int
    clips: int
    moved: float

    @classmethod
    def of(cls, rung: float, differences: Sequence[float]) -> "Change":
        """Summarize the differences of clips, one each."""
        count = len(differences)
        if not count:
            return cls(rung, None, None, 0, 0, 0.0)
        found = np.asarray(differences, np.float64)
        error = float(found.std(ddof=1) / math.sqrt(count)) if count > 1 else None
        return cls(rung, float(found.mean()), error, int((found < 0).sum()), count, float(np.abs(found).mean()))

    @property
    def half_width(self) -> float | None:
        """That of the 95 % interval of the mean (Student's t over clips); None of fewer than `ENOUGH_CLIPS`."""
        if self.error is None or self.clips < ENOUGH_CLIPS:
            return None
        return self.error * float(stdtrit(self.clips - 1, 0.975))

    def beyond_chance(self, least: float) -> float:
        """Return the mean, if it is `least` or more away from 0, and more than its standard error; else 0."""
        mean = self.mean or 0.0
        return mean if abs(mean) >= max(least, self.error or 0.0) else 0.0

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values."""
        interval = {"half_width_95": self.half_width}
        return {name: _rounded(value) for name, value in (asdict(self) | interval).items()}


@dataclass(frozen=True, slots=True)
class Row:
    """A target on a ladder.

    Attributes:
        target: its name.
        ladder: the ladder's name.
        changes: of each rung, the strongest last.
        verdict: in words.
        fails: whether the check fails for it.
    """

    target: str
    ladder: str
    changes: tuple[Change, ...]
    verdict: str
    fails: bool

    @property
    def strongest(self) -> Change:
        """The change on the strongest rung."""
        return self.changes[-1]

    @property
    def sentence(self) -> str:
        """The verdict as a clause: `MI rises by 0.33 under noise (INVERTED)`."""
        what, _, how = self.verdict.partition(": ")
        if what == INVERTED:
            return f"{named(self.target)} {how} under {self.ladder} ({INVERTED})"
        return f"{named(self.target)} under {self.ladder}: {self.verdict}"

    def cells(self) -> tuple[str, ...]:
        """Return it for a table: score, ladder, changes, half of the interval, clips that fell, verdict."""
        strongest = self.strongest
        changes = ", ".join(_number(change.mean) for change in self.changes)
        fell = f"{strongest.fell} of {strongest.clips}" if strongest.clips else "-"
        return named(self.target), self.ladder, changes, _half_width(strongest), fell, self.verdict

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        changes = [change.to_dict() for change in self.changes]
        return {"verdict": self.verdict, "fails": self.fails, "changes": changes}


def judge(target: Target, ladder: Ladder, changes: Sequence[Change], *, is_main: bool) -> Row:
    """Say whether a target does on a ladder what it should.

    It falls, if the strongest rung lowers it by `LEAST_SHARE` of its scale and by more than the standard error over the
    clips, and no weaker rung raises it so.

    Heads of random weights on random features do so by chance. Of 100 of each of three presets, none does as they are
    initialised, as their scores hardly move; 4 to 8 do under noise, low-pass and clipping with last layers three times
    that, whose scores move by 0.3 on average (4 to 7 by a single clip). None of these falls without its prompts too.
    tests/scoring/test_check_random_heads.py prints the figures.

    Args:
        target: what moved, or should have.
        ladder: which.
        changes: of each rung.
        is_main: whether the check depends on this target's quality; on a target's prompts it does in any case.
    """
    matters = ladder == PROMPTS or (is_main and ladder in QUALITY)
    verdict = _verdict(target, ladder, changes)
    return Row(target.name, ladder.name, tuple(changes), verdict, fails=matters and verdict not in (FALLS, UNMOVED))


def _verdict(target: Target, ladder: Ladder, changes: Sequence[Change]) -> str:
    least, strongest = LEAST_SHARE * (target.highest - target.lowest), changes[-1]
    if strongest.mean is None:
        return NOT_SCORED
    if ladder == PROMPTS and not target.hears_prompt:
        return UNMOVED if strongest.moved <= SAME else MOVES
    moved = [change.beyond_chance(least) for change in changes]
    if (rise := max(moved)) > 0:
        return f"rises by {rise:.2f}" if ladder == SEGMENTS else f"{INVERTED}: rises by {rise:.2f}"
    if moved[-1] < 0:
        return FALLS
    if strongest.moved < least:
        return {SEGMENTS.name: BLIND, PROMPTS.name: DEAF}.get(ladder.name, NO_EFFECT)
    return UNCERTAIN


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
    """

    digest: str
    clips: int
    music: str | None
    rows: tuple[Row, ...]
    untrained: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    too_short: tuple[str, ...] = ()

    @property
    def main_target(self) -> str:
        """The target that the check depends on."""
        return self.rows[0].target

    @property
    def failures(self) -> list[str]:
        """What is wrong with it, a clause each; none where it passed."""
        found = []
        if self.untrained:
            whose = "encoder is" if len(self.untrained) == 1 else "encoders are"
            found.append(f"the {whose} untrained ({' and '.join(map(shown, self.untrained))}), so scores mean nothing")
        return [*found, *(row.sentence for row in self.rows if row.fails)]

    @property
    def passed(self) -> bool:
        """Whether the main target falls under noise, low-pass and clipping, and who hears prompts hears them."""
        return not self.failures

    def summary(self) -> str:
        """Return the strongest rung of each ladder in one line: `noise -1.21  low-pass -0.60 ...`."""
        return "  ".join(self._summaries())

    def _summaries(self) -> Iterator[str]:
        for row in self.rows:
            of_prompts = row.ladder == PROMPTS.name
            if (row.verdict == UNMOVED) if of_prompts else (row.target != self.main_target):
                continue
            whose = f" {named(row.target)}" if of_prompts else ""
            remark = "" if row.verdict == FALLS else f" ({row.verdict.partition(':')[0]})"
            yield f"{row.ladder}{whose} {_number(row.strongest.mean)}{remark}"

    def verdict(self) -> str:
        """Return the outcome in a sentence."""
        enough = f" ({self.heard()})"
        if self.clips < ENOUGH_CLIPS:
            enough = f"; {self.heard()} can only hint at it, give {ENOUGH_CLIPS} or more"
        if failures := self.failures:
            return f"FAILED: {'; '.join(failures)}{enough}."
        names = [ladder.name for ladder in QUALITY]
        hearing = [named(row.target) for row in self.rows if row.ladder == PROMPTS.name and row.verdict == FALLS]
        prompts = f", {' and '.join(hearing)} under other prompts" if hearing else ""
        others = "".join(f"; but {row.sentence}" for row in self.rows if row.verdict.startswith(INVERTED))
        falls = f"{named(self.main_target)} falls under {', '.join(names[:-1])} and {names[-1]}"
        return f"Passed: {falls}{prompts}{others}{enough}."

    def notes(self) -> list[str]:
        """Return what was left out, and what the table holds, a line each."""
        lines = [f"left out: {shown(name)}: {reason}" for name, reason in self.left_out.items()]
        lines += [f"not scored: {problem}" for problem in self.problems[:5]]
        if len(self.problems) > 5:
            lines.append(f"not scored: ... ({len(self.problems)} in all)")
        if self.too_short:
            shortest = f"{FEWEST_SEGMENTS * SEGMENT_S:g} s"
            lines.append(f"without shuffled segments, as shorter than {shortest}: {first_five(self.too_short)}")
        return lines

    def lines(self) -> list[str]:
        """Return the summary, a table of at most 78 columns, what was left out, and the verdict."""
        head = f"{'':19}{'change of score':>18}  ± 95 %  fell"
        table = [line for target, rows in self.by_target().items() for line in _block(target, rows)]
        return [self.summary(), "", head, *table, "", _RUNGS, *self.notes(), self.verdict()]

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
        }


def named(target: str) -> str:
    """Return a target's name for a reader: `MI`, `clarity`."""
    return target.upper() if target in TARGETS else target


def _rounded(value: float | None) -> float | None:
    return round(value, DECIMALS) if isinstance(value, float) else value


def _block(target: str, rows: Sequence[Row]) -> list[str]:
    if not any(row.strongest.clips for row in rows):
        return [f"{named(target)}: {NOT_SCORED}; if it hears prompts, give them"]
    return [named(target), *map(_line, rows)]


def _line(row: Row) -> str:
    changes = "".join(f"{_number(change.mean):>6}" for change in row.changes)
    strongest = row.strongest
    fell = f"{strongest.fell}/{strongest.clips}" if strongest.clips else ""
    return f"  {row.ladder:17}{changes:>18}  {_half_width(strongest):6}{fell:>6}  {row.verdict}"


def _half_width(change: Change) -> str:
    """Return half of an interval for a reader: `± 0.31`."""
    return "" if change.half_width is None else f"± {change.half_width:.2f}"


def _number(value: float | None) -> str:
    """Return a change for a reader."""
    return "-" if value is None else f"{round(value, 2) + 0.0:+.2f}"  # never -0.00
