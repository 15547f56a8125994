"""How near an extraction came to what its GPU can do at best."""

import statistics
import time
from collections.abc import Callable

import torch

from audiomos_cache.encoders import AudioEncoder
from audiomos_cache.encoders.base import DTYPES
from audiomos_cache.encoders.muq import MuQEncoder
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.profiling import Profile

_SIDE = {"cuda": 8192, "cpu": 1024}  # of the matrices
_COPIED_BYTES = 1 << 26


def note_limits(profile: Profile, audio: AudioEncoder, options: ExtractionOptions) -> None:
    """Measure the device's matrix products, and note what the clips of the stage `encode` would take at that speed."""
    clips = profile.counted("clips")
    if clips and isinstance(audio, MuQEncoder):
        work = clips * audio.flops(round(options.max_seconds * audio.sample_rate_hz))
        # Of a CPU's speeds float32's is the limit: without instructions for half precision it is slower in that.
        dtype = DTYPES[audio.precision] if audio.device.type == "cuda" else torch.float32
        profile.at_best("encode", work / matmul_flops(audio.device, dtype))
    if (copied := profile.counted("copied bytes")) and audio.device.type == "cuda":
        profile.at_best("copy", copied / copy_bytes_per_s(audio.device))


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Measure floating-point operations a second of a large matrix product."""
    side = _SIDE[device.type]
    a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds(lambda: a @ b, device)


def copy_bytes_per_s(device: torch.device) -> float:
    """Measure copies from the CPU's memory, of the kind that the GPU reaches by itself, to the GPU."""
    host = torch.empty(_COPIED_BYTES, dtype=torch.uint8, pin_memory=True)
    return _COPIED_BYTES / seconds(lambda: host.to(device, non_blocking=True), device)


def seconds(action: Callable[[], object], device: torch.device, runs: int = 5) -> float:
    """Return the median of the seconds an action takes, after two runs that do not count."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    taken = []
    for _ in range(runs + 2):
        wait()
        start = time.perf_counter()
        action()
        wait()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[2:])
