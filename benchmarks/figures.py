"""Times taken in turns, compared with a limit and a goal."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import xxhash

Trial = Callable[[], float]  # does its own preparation; returns the seconds of what is measured


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the result.

    Attributes:
        values: of each run.
        unit: of the values.
        goal: the median is to be at least this, or below it where `at_most`; None: shown for comparison only.
        detail: what the values come from.
    """

    name: str
    values: tuple[float, ...]
    unit: str
    goal: float | None
    at_most: bool = False
    detail: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.median <= self.goal if self.at_most else self.median >= self.goal

    def as_json(self) -> dict[str, Any]:
        """Return a dict of numbers and strings."""
        return {
            "name": self.name, "unit": self.unit, "median": self.median, "min": min(self.values),
            "max": max(self.values), "runs": len(self.values), "goal": self.goal,
            "goal_is": "at most" if self.at_most else "at least", "met": self.met, "detail": self.detail,
        }  # fmt: skip


def seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_turns(trials: dict[str, Trial], runs: int) -> dict[str, list[float]]:
    """Run all trials once without counting, then `runs` rounds of them, every other round in reverse order."""
    taken: dict[str, list[float]] = {name: [] for name in trials}
    for number in range(runs + 1):
        for name in reversed(trials) if number % 2 else trials:
            spent = trials[name]()
            if number:
                taken[name].append(spent)
    return taken


def ratios(
    taken: Mapping[str, Sequence[float]], limit: str, size: int, goals: Mapping[str, float | None]
) -> list[Figure]:
    """Compare trials with the limit that was measured in the same rounds, round by round.

    Args:
        taken: seconds of each trial, as `in_turns` gives them.
        limit: which of them is the limit.
        size: bytes that each trial moves.
        goals: the trials to compare, with the share of the limit that each is to reach.
    """

    def speed(name: str) -> str:
        return f"{size / statistics.median(taken[name]) / 1e9:.1f} GB/s"

    return [
        Figure(
            name,
            tuple(most / own for most, own in zip(taken[limit], taken[name], strict=True)),
            "of limit",
            goal,
            detail=f"{speed(name)}; {limit} {speed(limit)}",
        )
        for name, goal in goals.items()
    ]


def machine() -> dict[str, Any]:
    """Say where this was measured."""
    return {
        "platform": platform.platform(), "cores": os.cpu_count(), "load": os.getloadavg(),
        "python": platform.python_version(), "numpy": np.__version__, "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version, "xxhash": xxhash.VERSION,
    }  # fmt: skip
