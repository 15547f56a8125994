"""What a device can do at best, measured: the speed of its matrix products, and of an action."""

import statistics
import time
from collections.abc import Callable

import torch

_SIDE = {"cuda": 8192, "cpu": 1024}  # of the matrices


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Measure floating-point operations a second of a large matrix product."""
    side = _SIDE[device.type]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))  # ones take less power
    return 2 * side**3 / median_seconds(lambda: a @ b, device)


def median_seconds(action: Callable[[], object], device: torch.device, runs: int = 5) -> float:
    """Return the median of the seconds an action takes, after two runs that do not count."""
    taken = []
    for _ in range(runs + 2):
        _wait(device)
        start = time.perf_counter()
        action()
        _wait(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[2:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
