"""What is said of how far a target moved on a ladder: only what the clips are evidence of, a fall as well as a rise."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from audiomos_cache.progress import counted
from audiomos_cache.scoring.ladders import PROMPTS, QUALITY, SEGMENTS, Ladder
from audiomos_cache.targets import TARGETS, Target

LEAST_SHARE = 0.025  # of a target's scale, 0.1 from 1 to 5: what moves less is no effect
SAME = 1e-4  # in score units: a clip's score in another batch
ENOUGH_CLIPS = 3  # fewer are a hint
LEVEL = 0.95
DECIMALS = 3

FALLS, NO_EFFECT, INVERTED = "falls as expected", "no effect", "INVERTED"
DIFFER, LITTLE = "uncertain: clips differ", "uncertain: moves little"
BLIND, DEAF = "blind to structure", "does not hear the prompt"
UNMOVED, MOVES, NOT_SCORED = "unmoved, as expected", "moves with the prompt", "not scored"

PASSED, FAILED, NOT_DECIDED = "passed", "failed", "not decided"


@dataclass(frozen=True, slots=True)
class Change:
    """What a rung does to a target: score of what was made of a clip, less that of the clip.

    Attributes:
        rung: of the ladder, in its unit.
        mean: over the clips; None where there are none.
        error: the standard error of the mean; None of fewer than two clips.
        fell: how many clips fell, by more than `SAME`.
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
        return cls(rung, float(found.mean()), error, int((found < -SAME).sum()), count, float(np.abs(found).mean()))

    @property
    def half_width(self) -> float | None:
        """That of the 95 % interval of the mean (Student's t over clips); None of fewer than `ENOUGH_CLIPS`."""
        return self._times_error((1 + LEVEL) / 2)

    def evident(self, least: float, of_tests: int = 1) -> float:
        """Return the mean, if it is `least` or more away from 0, and its one-sided 95 % bound too excludes 0; else 0.

        Args:
            least: in score units.
            of_tests: how many such questions are asked at once; the bound is corrected for them (Bonferroni).
        """
        bound = self._times_error(1 - (1 - LEVEL) / of_tests)
        if self.mean is None or bound is None:
            return 0.0
        return self.mean if abs(self.mean) >= least and abs(self.mean) > bound else 0.0

    def _times_error(self, quantile: float) -> float | None:
        if self.error is None or self.clips < ENOUGH_CLIPS:
            return None
        return self.error * float(stdtrit(self.clips - 1, quantile))

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
        outcome: `passed`, `failed` or `not decided`; None where the check does not depend on it.
        where: the rung that an inversion is of, such as `4 kHz`, if there are others.
    """

    target: str
    ladder: str
    changes: tuple[Change, ...]
    verdict: str
    outcome: str | None
    where: str = ""

    @property
    def strongest(self) -> Change:
        """The change on the strongest rung."""
        return self.changes[-1]

    @property
    def is_inverted(self) -> bool:
        """Whether it rises where it must fall."""
        return self.verdict.startswith(INVERTED)

    @property
    def label(self) -> str:
        """The verdict for a table: of an inversion where it is, as the numbers are beside it."""
        if self.is_inverted:
            return f"{INVERTED} at {self.where}" if self.where else INVERTED
        return self.verdict

    @property
    def sentence(self) -> str:
        """The verdict as a clause: `MI rises by 0.33 at 4 kHz under low-pass (INVERTED)`."""
        if self.is_inverted:
            return f"{named(self.target)} {self.verdict.removeprefix(f'{INVERTED}: ')} under {self.ladder} ({INVERTED})"
        return f"{named(self.target)} under {self.ladder}: {self.verdict.replace(': ', ', ')}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        changes = [change.to_dict() for change in self.changes]
        return {"verdict": self.verdict, "outcome": self.outcome, "changes": changes}


def judge(target: Target, ladder: Ladder, changes: Sequence[Change], *, is_main: bool) -> Row:
    """Say whether a target does on a ladder what it should, as far as the clips are evidence of it.

    A change counts, down or up, if its mean is `LEAST_SHARE` of the target's scale or more and the one-sided 95 % bound
    of the mean (Student's t over the clips) excludes 0. A target falls, if the strongest rung lowers it so; it is
    inverted, if any rung raises it so, by a bound that is corrected for the number of rungs. There is no effect, where
    the 95 % interval of the strongest rung lies within that share on both sides of 0. All else is uncertain, and fewer
    than `ENOUGH_CLIPS` clips are a hint: neither decides the check. That a score moves with a prompt that it must not
    hear takes no statistics, and one clip shows it.

    Heads of random weights on random features, 100 of each of three presets, by the eight made-up clips: as they are
    initialised, all fail, as their scores hardly move. With last layers three times that, 4 to 9 of 100 fall under
    noise, low-pass and clipping, 60 to 82 fail, the others are not decided; those that fall do so on any clips, as a
    direction that is drawn at random may. All of these are deaf to prompts, and fail by that.
    tests/scoring/test_check_random_heads.py prints the figures.

    Args:
        target: what moved, or should have.
        ladder: which.
        changes: of each rung.
        is_main: whether the check depends on this target's quality; on a target's prompts it does in any case.
    """
    matters = ladder == PROMPTS or (is_main and ladder in QUALITY)
    verdict, where = _verdict(target, ladder, changes)
    if verdict in (FALLS, UNMOVED):
        outcome = PASSED
    else:
        failed = verdict in (NO_EFFECT, DEAF, MOVES) or verdict.startswith(INVERTED)
        outcome = FAILED if failed else NOT_DECIDED
    return Row(target.name, ladder.name, tuple(changes), verdict, outcome if matters else None, where)


def _verdict(target: Target, ladder: Ladder, changes: Sequence[Change]) -> tuple[str, str]:
    """Return what is said, and the rung that it is of, where that is not the strongest alone."""
    least, strongest = LEAST_SHARE * (target.highest - target.lowest), changes[-1]
    if strongest.mean is None:
        return NOT_SCORED, ""
    if ladder == PROMPTS and not target.hears_prompt:
        return UNMOVED if strongest.moved <= SAME else MOVES, ""
    rises = [change.evident(least, of_tests=len(changes)) for change in changes]
    if (rise := max(rises)) > 0:
        where = f"{changes[rises.index(rise)].rung:g} {ladder.unit}" if len(changes) > 1 else ""
        how = f"rises by {rise:.2f}{f' at {where}' if where else ''}"
        return how if ladder == SEGMENTS else f"{INVERTED}: {how}", where
    if strongest.half_width is None:
        way = "hardly moves" if abs(strongest.mean) < least else "falls" if strongest.mean < 0 else "rises"
        return f"hint: {way} ({counted(strongest.clips, 'clip')})", ""
    if strongest.evident(least) < 0:
        return FALLS, ""
    if abs(strongest.mean) + strongest.half_width < least:
        return {SEGMENTS.name: BLIND, PROMPTS.name: DEAF}.get(ladder.name, NO_EFFECT), ""
    return LITTLE if strongest.moved < least else DIFFER, ""


def named(target: str) -> str:
    """Return a target's name for a reader: `MI`, `clarity`."""
    return target.upper() if target in TARGETS else target


def _rounded(value: float | None) -> float | None:
    return round(value, DECIMALS) if isinstance(value, float) else value
