"""How near an extraction came to what its GPU can do at best."""

import torch

from audiomos_cache.encoders.base import DTYPES, AudioEncoder
from audiomos_cache.encoders.muq import MuQEncoder
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.limits import matmul_flops, median_seconds
from audiomos_cache.profiling import Profile

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


def copy_bytes_per_s(device: torch.device) -> float:
    """Measure copies from the CPU's memory, of the kind that the GPU reaches by itself, to the GPU."""
    host = torch.empty(_COPIED_BYTES, dtype=torch.uint8, pin_memory=True)
    return _COPIED_BYTES / median_seconds(lambda: host.to(device, non_blocking=True), device)
