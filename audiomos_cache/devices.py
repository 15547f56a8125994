"""What this machine has: devices to compute on, and memory that is free."""

from pathlib import Path

from audiomos_cache.errors import ArgumentError

DEVICES = ("auto", "cpu", "cuda")


def available_ram(root: Path = Path("/")) -> int:
    """Return how many bytes the process can still take: the machine's, or its cgroup's where that has fewer.

    0 where the system does not say: one without /proc.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    machine = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min(machine + _left_in_cgroups(root)) if machine else 0


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

    Raises:
        ArgumentError: the name is unknown, or CUDA was asked for and PyTorch has none.
    """
    if device not in DEVICES:
        raise ArgumentError(f"device {device!r}: is not one of {', '.join(DEVICES)}")
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ArgumentError("--device cuda: PyTorch sees no CUDA device here; use --device cpu")
    return "cuda" if available and device != "cpu" else "cpu"
