"""The devices and the free memory of this machine."""

from pathlib import Path
from typing import Literal

from audiomos_cache.errors import ArgumentError

DEVICES = ("auto", "cpu", "cuda")
MOST_AT_ONCE = 65536  # clips or windows in a batch: no device has the memory for so many


def available_ram(root: Path = Path("/")) -> int:
    """Return how many bytes the process can still take: the machine's, or its cgroup's where that has fewer.

    0 where the system does not report it: one without /proc.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    machine = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min(machine + _left_in_cgroups(root)) if machine else 0


Compile = Literal["auto", "on", "off"]


def should_compile(requested: Compile, device: str, saved_s: float, cost_s: float) -> bool:
    """Return whether to compile a model: as requested, or for "auto" on a GPU where that saves more time than it costs.

    Args:
        requested: what the user gave.
        device: where the model is, "cpu" or "cuda".
        saved_s: the seconds that compiled code saves in all.
        cost_s: the seconds that compiling takes.
    """
    return requested == "on" or (requested == "auto" and device == "cuda" and saved_s > cost_s)


def _left_in_cgroups(root: Path) -> list[int]:
    """Return what the process's cgroup (version 2) and those around it have left, each that has a limit."""
    top = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    left = []
    for own in (line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::")):
        for group in (top / own, *(top / own).parents):
            try:
                limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
                statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            except OSError:
                continue
            if limit != "max":
                # Files that were read long ago count as used, but make room at once.
                left.append(max(int(limit) - int(used) + int(statistics["inactive_file"]), 0))
    return left


def resolve_device(device: str) -> str:
    """Return `cuda` or `cpu`; `auto` is the GPU where there is one.

    Args:
        device: one of `DEVICES`.
    Raises:
        ArgumentError: the name is unknown, or CUDA was requested and PyTorch has none.
    """
    if device not in DEVICES:
        raise ArgumentError(f"device {device!r} is not one of {', '.join(DEVICES)}")
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ArgumentError("--device cuda: PyTorch sees no CUDA device here; use --device cpu")
    return "cuda" if available and device != "cpu" else "cpu"


def resolve_numbered_device(device: str) -> str:
    """Return what `resolve_device` does, or one GPU of several, such as `cuda:1`.

    Raises:
        ArgumentError: as there; or there is no such GPU.
    """
    import torch

    kind, colon, number = device.partition(":") if isinstance(device, str) else (device, "", "")
    if kind != "cuda" or not colon:
        return resolve_device(device)
    resolve_device(kind)
    if not number.isdecimal() or int(number) >= torch.cuda.device_count():
        raise ArgumentError(f"device is {device!r}, expected cuda:0 to cuda:{torch.cuda.device_count() - 1}")
    return device
