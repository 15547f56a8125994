"""Results of an extraction, or of a dry run, as objects and as lines to print."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiomos_cache.errors import first_five
from audiomos_cache.extraction.plan import Plan
from audiomos_cache.progress import counted, duration, gigabytes


@dataclass(slots=True)
class SplitSummary:
    """What was done of a split.

    Attributes:
        split: its name.
        clips: how many are in the split's files, or if there are none yet, are done so far.
        encoded: how many were encoded now.
        missing: clips that other shards have not done yet.
        skipped: clips that were left out: (id, reason).
        warnings: about clips. damaged: what was found damaged, with `repair`.
        files: the finished files; none if clips are missing, or another shard is writing them.
    """

    split: str
    clips: int = 0
    encoded: int = 0
    missing: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class ExtractResult:
    """What `extract` did.

    Attributes:
        cache: the cache folder.
        splits: what was done of each split; empty after a dry run.
        plans: of a dry run, what is to be done of each split.
        estimated_s: of a dry run, the seconds that encoding will take, from the time of one batch; None where nothing
            is left to do, and where it was no dry run.
        untrained: names of the encoders whose weights are random.
    """

    cache: Path
    splits: Mapping[str, SplitSummary]
    plans: Mapping[str, Plan]
    estimated_s: float | None = None
    untrained: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """Warnings about clips, of all splits."""
        return [warning for summary in self.splits.values() for warning in summary.warnings]

    @property
    def skipped(self) -> dict[str, str]:
        """The reason for each clip that was left out, by its id."""
        return {clip_id: reason for summary in self.splits.values() for clip_id, reason in summary.skipped}

    def lines(self) -> list[str]:
        """Return a line for each split, and of a dry run the time that it will take."""
        lines = [summary_line(summary) for summary in self.splits.values()]
        lines += [plan_line(plan) for plan in self.plans.values()]
        if self.estimated_s is not None:
            batch = counted(len(largest(self.plans).typical_batch), "clip")
            lines.append(f"about {duration(self.estimated_s)} in all, estimated from one batch of {batch}")
        return lines

    def __repr__(self) -> str:
        return "\n".join([f"ExtractResult of {self.cache}", *(f"  {line}" for line in self.lines())])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: of each split its counts, files, skipped clips and warnings; of a dry run its plans."""
        return {
            "cache": str(self.cache),
            "untrained": list(self.untrained),
            "splits": {name: _summary(each) for name, each in self.splits.items()},
            "plans": {name: _plan(each) for name, each in self.plans.items()},
            "estimated_s": self.estimated_s,
        }


def largest(plans: Mapping[str, Plan]) -> Plan:
    """Return the plan with the most frames to encode."""
    return max(plans.values(), key=lambda plan: plan.frames)


def plan_line(plan: Plan) -> str:
    """Return a line about what is to be done of a split."""
    return (
        f"{plan.split}: {len(plan.todo)} of {plan.clips} clips to encode, {gigabytes(plan.final_bytes)} when finished; "
        f"up to {gigabytes(plan.needed_bytes)} more on the disk until then, {gigabytes(plan.free_bytes)} free"
    )


def summary_line(summary: SplitSummary) -> str:
    """Return a line about what was done of a split."""
    skipped = f", {len(summary.skipped)} skipped" if summary.skipped else ""
    done = f"{summary.encoded} encoded" if summary.encoded else "nothing left to do"
    if summary.missing:
        outcome = f", {summary.missing} left to other shards"
    elif not summary.files:
        outcome = "; another shard is writing the file; if the disk has no locks, extract without --shard writes it"
    else:
        outcome = f" in {', '.join(map(str, summary.files))}"
    return f"{summary.split}: {counted(summary.clips, 'clip')} ({done}{skipped}){outcome}"


def problem_lines(summary: SplitSummary) -> list[str]:
    """Return lines about a split's damaged files, its warnings and the clips that were skipped."""
    lines = [f"Damaged: {line}" for line in summary.damaged]
    if summary.warnings:
        lines.append(f"Warnings: {first_five(summary.warnings)}")
    return [*lines, *(f"Skipped {clip_id}: {reason}" for clip_id, reason in summary.skipped)]


def _summary(summary: SplitSummary) -> dict[str, Any]:
    return {
        "clips": summary.clips,
        "encoded": summary.encoded,
        "missing": summary.missing,
        "skipped": dict(summary.skipped),
        "warnings": list(summary.warnings),
        "damaged": list(summary.damaged),
        "files": [str(path) for path in summary.files],
    }


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "clips": plan.clips,
        "to_encode": len(plan.todo),
        "final_bytes": plan.final_bytes,
        "needed_bytes": plan.needed_bytes,
        "free_bytes": plan.free_bytes,
    }
