"""Leaks: clips to be fused that a member was trained on, chose its checkpoint on, or that a fusion was fitted on."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from statistics import fmean, median
from typing import Any

from audiomos_cache.errors import DataError, first_five, quoted
from audiomos_cache.evaluation.predictions import ANSWER_NAME
from audiomos_cache.files import read_json_lines, real_path
from audiomos_cache.fusion.members import Member
from audiomos_cache.fusion.record import RECORD_NAME, out_of_fold_file, read_fit_clips
from audiomos_cache.runs import HISTORY, RunClips, read_run_clips
from audiomos_cache.targets import MEASURES, VIEWS

log = logging.getLogger(__name__)


# Whose mean decides which epoch is the best, by the name of the checkpoint; the dev loss is none of the numbers.
CHOSEN_BY = {"loss": (), "srcc": (("sys_mi", "srcc"),), "combined": (("utt_mi", "srcc"), ("sys_ta", "srcc"))}
_CRITERIA = {
    "loss": "dev loss",
    "srcc": "system SRCC MI",
    "combined": "the mean of utterance SRCC MI and system SRCC TA",
}
_SRCCS = {
    "utt_mi": "utterance SRCC MI",
    "utt_ta": "utterance SRCC TA",
    "sys_mi": "system SRCC MI",
    "sys_ta": "system SRCC TA",
}
AROUND = 5  # epochs on either side of the chosen one
FEWEST = 4  # epochs around the chosen one, of which an estimate is made

Excess = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Leads:
    """By how much chosen epochs look better than those around them; see `lead_over_neighbours`.

    Attributes:
        criterion: by the name of the checkpoint (loss, srcc, combined), in what that is chosen by.
        excess: in each number by level and measure; positive looks better, MSE included.
    """

    criterion: Mapping[str, float | None]
    excess: Excess


@dataclass(frozen=True)
class EarlyStopping:
    """What it means that members chose their checkpoints on the clips that a fusion is fitted and judged on.

    Attributes:
        split: `fit` or `apply`.
        clips: how many of the split's clips each of these members chose its checkpoint on, by name.
        leads: of their chosen epochs, the means over the members; None where they cannot be estimated. They are the
            members', not the fusion's, whose scores may be optimistic by another amount.
        estimated: of how many members.
    """

    split: str
    clips: Mapping[str, int]
    leads: Leads | None
    estimated: int

    def note(self, members: int) -> str:
        """Return a sentence: how many of `members` chose their checkpoints on these clips, and the lead they have."""
        where = "these scores" if self.split == "fit" else "scores on the apply split"
        note = (
            f"{len(self.clips)} of {members} members chose their checkpoints on clips of the {self.split} split, "
            f"so {where} may be optimistic"
        )
        if self.leads is None:
            return f"{note}; their histories are too short to estimate by how much."
        criterion, excess = self.leads.criterion, self.leads.excess
        chosen = {number for best in criterion for number in CHOSEN_BY[best]}
        by = [f"{_CRITERIA[best]} {_lead_text(lead, least=True)}" for best, lead in criterion.items()]
        others = [
            f"{name} {_lead_text(excess[view]['srcc'])}"
            for view, name in _SRCCS.items()
            if (view, "srcc") not in chosen
        ]
        return (
            f"{note}. How far the members' chosen epochs lead those around them, on the mean of {self.estimated}: in "
            f"what they were chosen by, {', '.join(by)}; in other numbers, {', '.join(others)}. This is of the "
            "members, not of the fusion. All measures are in fusion.json."
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        leads = self.leads
        return {
            "clips": dict(self.clips),
            "members_lead_in_what_they_were_chosen_by": dict(leads.criterion) if leads else None,
            "members_lead": leads.excess if leads else None,
            "estimated_of": self.estimated,
        }


def _lead_text(value: float | None, *, least: bool = False) -> str:
    if value is None:
        return "cannot be estimated"
    return "no sign of it" if value <= 0 else f"{'at least ' if least else ''}{value:.4f}"


def clips_of_runs(members: Sequence[Member]) -> dict[str, RunClips]:
    """Read the clips of the members' runs (trained on, chosen by), by member; a warning names members without a record.

    Raises:
        DataError: a run's record cannot be read.
    """
    known = {member.name: clips for member in members if member.run and (clips := read_run_clips(member.run))}
    if silent := [member.name for member in members if member.name not in known]:
        log.warning(
            "not checked, because only runs of this version record their clips: whether these were trained on the "
            "clips that are fused: %s",
            first_five(silent),
        )
    return known


def refuse_trained_on(run_clips: Mapping[str, RunClips], ids: Sequence[str], split: str) -> None:
    """Refuse members that were trained on the clips they are fused on.

    Args:
        run_clips: by member, what `clips_of_runs` returned.
        ids: the clips.
        split: what they are called.
    Raises:
        DataError: names the members, and for each the first five clips and their number.
    """
    trained = {name: sorted(clips.train.intersection(ids)) for name, clips in run_clips.items()}
    if leaks := [f"{name} on {first_five(clips)}" for name, clips in trained.items() if clips]:
        raise DataError(
            f"trained on clips of the {split} split, which would make the fusion look better than it is: "
            f"{'; '.join(leaks[:5])}{f'; ... ({len(leaks)} members in all)' if len(leaks) > 5 else ''}; leave these "
            "clips or these members out"
        )


def early_stopping(
    members: Sequence[Member], run_clips: Mapping[str, RunClips], ids: Sequence[str], split: str
) -> EarlyStopping | None:
    """Find the members that chose their checkpoints on clips of a split, and estimate by how much that flatters them.

    Args:
        members: of the fusion.
        run_clips: by member, what `clips_of_runs` returned.
        ids: the split's clips.
        split: `fit` or `apply`.
    Returns:
        None where no member did.
    """
    counts = {name: len(clips.dev.intersection(ids)) for name, clips in run_clips.items()}
    counts = {name: count for name, count in counts.items() if count}
    if not counts:
        return None
    each = [run_leads(member.run, member.best) for member in members if member.name in counts and member.run]
    known = [leads for leads in each if leads]
    return EarlyStopping(split, counts, _mean_leads(known) if known else None, len(known))


def run_leads(run: Path, best: str | None) -> Leads | None:
    """Estimate from a run's history how much the choice of its checkpoint flatters it; None where it is too short."""
    path = run / HISTORY
    if not path.exists():
        return None
    history = read_json_lines(path, "a history: an epoch a line")
    try:
        chosen = [epoch for epoch, line in enumerate(history) if best in line["best"]]
        excess = selection_excess([line["dev"] for line in history], chosen[-1]) if best and chosen else None
        if best is None or excess is None:
            return None
        return Leads({best: lead_over_neighbours([criterion(line, best) for line in history], chosen[-1])}, excess)
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: cannot be read as a history ({quoted(error)}); train the run again") from error


def criterion(line: Mapping[str, Any], best: str) -> float | None:
    """Return what an epoch, a line of a history, is chosen by: higher is better; None where it is not defined."""
    if best == "loss":
        return -float(line["dev_loss"])
    numbers = [line["dev"][view][measure] for view, measure in CHOSEN_BY[best]]
    return None if None in numbers else fmean(numbers)


def lead_over_neighbours(values: Sequence[float | None], chosen: int) -> float | None:
    """Estimate by how much a chosen epoch looks better than the epochs around it.

    The numbers of an epoch are what the head is worth, plus what is chance on these clips; the epoch that is best by a
    number is also the luckiest in it. Its neighbours are worth about the same and were not chosen, so the chosen
    epoch's lead over their median is about what luck gave it. The lead is too much where an epoch is truly better than
    its neighbours, and too little where neighbours share their luck: in simulations, luck that is new in each epoch and
    gave 0.022 is put at 0.023, and luck of 0.015 at 0.009 where it correlates by 0.9 from one epoch to the next. Luck
    that all epochs share flatters nobody on the average, and is not in it. In numbers that the epoch was not chosen by
    there may be no lead at all.

    Args:
        values: of one number, epoch by epoch; higher is better, None where it is not defined.
        chosen: the index of the chosen epoch.
    Returns:
        The lead over the median of up to five epochs on either side. None where there are fewer than four of them, or
        a value is not defined.
    """
    others = [e for e in range(max(0, chosen - AROUND), min(len(values), chosen + AROUND + 1)) if e != chosen]
    own, around = values[chosen], [value for epoch in others if (value := values[epoch]) is not None]
    if own is None or len(around) < len(others) or len(others) < FEWEST:
        return None
    return float(own - median(around))


def selection_excess(epochs: Sequence[Mapping[str, Any]], chosen: int) -> Excess | None:
    """Estimate by how much a chosen epoch looks better than the epochs around it, in each number.

    Args:
        epochs: the numbers on dev, as `Scores.to_json` gives them, epoch by epoch.
        chosen: the index of the chosen epoch.
    Returns:
        By level and measure what `lead_over_neighbours` gives; positive looks better, MSE included. None instead of
        all where there are fewer than four neighbours.
    """
    if min(chosen, AROUND) + min(len(epochs) - 1 - chosen, AROUND) < FEWEST:
        return None

    def lead(level: str, measure: str) -> float | None:
        numbers = [epoch[level][measure] for epoch in epochs]
        sign = -1 if measure == "mse" else 1
        return lead_over_neighbours([None if number is None else sign * number for number in numbers], chosen)

    return {level: {measure: lead(level, measure) for measure in MEASURES} for level in VIEWS}


def _mean_leads(leads: Sequence[Leads]) -> Leads:
    names = sorted({best for each in leads for best in each.criterion}, key=list(CHOSEN_BY).index)
    criterion = {best: _mean(each.criterion[best] for each in leads if best in each.criterion) for best in names}
    excess = {
        level: {measure: _mean(each.excess[level][measure] for each in leads) for measure in MEASURES}
        for level in VIEWS
    }
    return Leads(criterion, excess)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


_FUSED = (ANSWER_NAME, "fused.jsonl", "fused.*.jsonl")


def refuse_in_fold(path: Path, ids: Sequence[str]) -> None:
    """Refuse a fusion's predictions of the clips that it was fitted on: numbers on them look better than it is.

    Args:
        path: a file of predictions. It is a fusion's if it has the name of one in a folder with a fusion's record.
        ids: its clips.
    Raises:
        DataError: the fusion was fitted on some of them, or its record is damaged.
    """
    for file in dict.fromkeys((path, real_path(path))):  # a link may be in another folder than its fusion
        if not any(fnmatch(file.name, pattern) for pattern in _FUSED) or not (file.parent / RECORD_NAME).is_file():
            continue
        if both := sorted(read_fit_clips(file.parent).intersection(ids)):
            raise DataError(
                f"{path}: the fusion was fitted on {len(both)} of its {len(ids)} clips, so numbers on them would look "
                f"better than it is: {first_five(both)}; {_instead(file.parent)}"
            )


def _instead(folder: Path) -> str:
    if held_out := out_of_fold_file(folder):
        return f"evaluate {held_out}, the same clips out-of-fold, or clips that were held out"
    return "evaluate clips that were held out, or the out-of-fold predictions that fuse writes with --folds"
