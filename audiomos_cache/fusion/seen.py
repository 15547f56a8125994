"""Which of the clips that are fused a member has seen before: in training, or to choose its checkpoint."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from audiomos_cache.errors import DataError, first_five
from audiomos_cache.fusion.members import Member
from audiomos_cache.runs import HISTORY, RunClips, read_run_clips

log = logging.getLogger(__name__)

LEVELS = ("utt_mi", "utt_ta", "sys_mi", "sys_ta")
MEASURES = ("mse", "lcc", "srcc", "ktau")
AROUND = 5  # epochs on either side of the chosen one
FEWEST = 4  # epochs that tell something

Excess = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class EarlyStopping:
    """What it means that members chose their checkpoints on the clips that a fusion is fitted and judged on.

    Attributes:
        split: `fit` or `apply`.
        clips: how many of the split's clips each such member chose its checkpoint on, by name.
        excess: by level and measure, by how much the chosen epochs look better than those around them, the mean over
            the members; None where that cannot be told. See `selection_excess`.
        estimated: of how many members.
    """

    split: str
    clips: Mapping[str, int]
    excess: Excess | None
    estimated: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"clips": dict(self.clips), "excess": self.excess, "estimated_of": self.estimated}


def clips_seen(members: Sequence[Member]) -> dict[str, RunClips]:
    """Read which clips the members' runs have seen, by member; one warning names the members that cannot say.

    Raises:
        DataError: a run's record cannot be read.
    """
    known = {member.name: clips for member in members if member.run and (clips := read_run_clips(member.run))}
    if silent := [member.name for member in members if member.name not in known]:
        log.warning(
            "not checked, because only runs of this version say which clips they have seen: whether these were trained "
            "on the clips that are fused: %s",
            first_five(silent),
        )
    return known


def refuse_trained_on(seen: Mapping[str, RunClips], ids: Sequence[str], split: str) -> None:
    """Refuse members that were trained on the clips they are fused on.

    Args:
        seen: by member.
        ids: the clips.
        split: what they are called.
    Raises:
        DataError: names the members, and for each the first five clips and their number.
    """
    trained = {name: sorted(clips.train.intersection(ids)) for name, clips in seen.items()}
    if leaks := [f"{name} on {first_five(clips)}" for name, clips in trained.items() if clips]:
        raise DataError(
            f"trained on clips of the {split} split, which would make the fusion look better than it is: "
            f"{'; '.join(leaks[:5])}{f'; ... ({len(leaks)} members in all)' if len(leaks) > 5 else ''}; leave these "
            "clips or these members out"
        )


def early_stopping(
    members: Sequence[Member], seen: Mapping[str, RunClips], ids: Sequence[str], split: str
) -> EarlyStopping | None:
    """Tell which members chose their checkpoints on clips of a split, and how much that may flatter them.

    Args:
        members: of the fusion.
        seen: the clips that their runs have seen, by member.
        ids: the split's clips.
        split: `fit` or `apply`.
    Returns:
        None where no member did.
    """
    counts = {name: len(clips.dev.intersection(ids)) for name, clips in seen.items()}
    counts = {name: count for name, count in counts.items() if count}
    if not counts:
        return None
    each = [run_excess(member.run, member.best) for member in members if member.name in counts and member.run]
    known = [excess for excess in each if excess]
    return EarlyStopping(split, counts, _mean(known) if known else None, len(known))


def run_excess(run: Path, best: str | None) -> Excess | None:
    """Estimate from a run's history how much the choice of its checkpoint flatters it; None where it cannot tell."""
    path = run / HISTORY
    if not path.is_file():
        return None
    try:
        history = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        chosen = [place for place, line in enumerate(history) if best in line["best"]]
        return selection_excess([line["dev"] for line in history], chosen[-1]) if chosen else None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as a history ({error!r}); train the run again") from error


def selection_excess(epochs: Sequence[Mapping[str, Any]], chosen: int) -> Excess | None:
    """Say by how much a chosen epoch looks better than the epochs around it.

    The numbers of an epoch are what the head is worth, plus what is chance on these clips; the best epoch is also the
    luckiest. Its neighbours are worth about the same and were not chosen, so the chosen epoch's lead over their median
    is about what luck gave it. The lead is too much where an epoch is truly better than its neighbours, and too little
    where neighbours share their luck: in simulations, luck that is new in each epoch and gave 0.022 is told as 0.023,
    and luck of 0.015 as 0.009 where it correlates by 0.9 from one epoch to the next. Luck that all epochs share
    flatters nobody on the average, and is not in it.

    Args:
        epochs: the numbers on dev, as `Scores.to_json` gives them, epoch by epoch.
        chosen: the place of the chosen epoch.
    Returns:
        By level and measure the lead over the median of up to five epochs on either side; positive looks better, MSE
        included. None for a number that is not defined, and instead of all where there are fewer than four neighbours.
    """
    places = [p for p in range(max(0, chosen - AROUND), min(len(epochs), chosen + AROUND + 1)) if p != chosen]
    if len(places) < FEWEST:
        return None

    def lead(level: str, measure: str) -> float | None:
        own, *others = (epochs[place][level][measure] for place in (chosen, *places))
        if own is None or None in others:
            return None
        return float(own - median(others)) * (-1 if measure == "mse" else 1)

    return {level: {measure: lead(level, measure) for measure in MEASURES} for level in LEVELS}


def _mean(excesses: Sequence[Excess]) -> Excess:
    def mean(level: str, measure: str) -> float | None:
        known = [value for excess in excesses if (value := excess[level][measure]) is not None]
        return fmean(known) if known else None

    return {level: {measure: mean(level, measure) for measure in MEASURES} for level in LEVELS}
