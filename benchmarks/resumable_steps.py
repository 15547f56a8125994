"""Steps of a long run, each done once: which are done, with their seconds, is kept in a file."""

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from audiomos_cache.artifacts import atomic_write, differences
from audiomos_cache.cli.progress_bar import say
from audiomos_cache.errors import OutputExistsError, first_five
from audiomos_cache.files import read_json

STEPS = "steps.json"

Facts = dict[str, Any]


class Steps:
    """What is done of a folder, with the seconds that it took and what was found: `steps.json` in it.

    Args:
        out: the folder.
        made_with: what decides the results.
    Attributes:
        done: each step that was begun.
        machine: what did the last one.
    Raises:
        OutputExistsError: it holds a run that was made otherwise.
    """

    def __init__(self, out: Path, made_with: Facts) -> None:
        self._path = out / STEPS
        content = read_json(self._path, "the steps of a reproduction", advice="give another OUT=")
        if content and (found := differences(content["made_with"], made_with)):
            raise OutputExistsError(f"{out}: holds other results: {first_five(found)}; give another OUT=")
        self.made_with = made_with
        self.done: dict[str, Facts] = content["steps"] if content else {}
        self.machine: Facts = content["machine"] if content else {}
        self._repeats = False

    def run(self, name: str, product: Path, work: Callable[[], Facts]) -> Facts:
        """Do a step, unless it is done and its product is there; what follows a step that is done is done again.

        Args:
            name: of the step.
            product: what it makes.
            work: does it, or the rest of it after an interrupt, and returns plain values.
        Returns:
            What it found now, or before.
        """
        before = self.done.get(name)
        if before and before["finished"] and product.exists() and not self._repeats:
            say(f"{name}: done before, in {before['seconds']:.0f} s")
            earlier: Facts = before["found"]
            return earlier
        self._repeats = True
        self.machine = machine_in_words()
        say(f"{name} ...")
        took = before["seconds"] if before and product.exists() else 0.0
        start, found = time.monotonic(), None
        try:
            found = work()
        finally:
            seconds = round(took + time.monotonic() - start, 1)
            self.done[name] = {"finished": found is not None, "seconds": seconds, "found": found}
            content = {"made_with": self.made_with, "machine": self.machine, "steps": self.done}
            atomic_write(self._path, f"{json.dumps(content, indent=1, allow_nan=False)}\n".encode())
        return found

    @property
    def seconds(self) -> dict[str, float]:
        """How long each step took, interrupted attempts included."""
        return {name: step["seconds"] for name, step in self.done.items()}


def machine_in_words() -> Facts:
    """Say what computed, but not whose it is."""
    gpu = torch.cuda.is_available()
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": ", ".join(map(torch.cuda.get_device_name, range(torch.cuda.device_count()))) if gpu else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if gpu else None,
    }


def _processor() -> str:
    """Return the name of the CPU; Linux has it in a file alone."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
