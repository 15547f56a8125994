"""How near a training came to what its device can do at best."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from audiomos_cache.limits import matmul_flops, median_seconds
from audiomos_cache.profiling import Profile
from audiomos_cache.training.precision import Computing

_COPIED_BYTES = {"cuda": 1 << 30, "cpu": 1 << 27}
STAGES = ("forward", "backward")


class WorkCounter:
    """Counts the arithmetic of a head's steps for a profile: of the first step in fact, of others in proportion.

    Matrix products and attention are counted.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._per_clip: dict[str, float] = {}

    def done(self, stage: str, clips: int, counter: FlopCounterMode | None) -> None:
        """Count what was done in a stage with so many clips; `counter` is what `counting` gave for it."""
        if counter is not None:
            self._per_clip[stage] = counter.get_total_flops() / clips
        self.profile.count(f"{stage} flops", round(self._per_clip.get(stage, 0.0) * clips))

    def counting(self, stage: str) -> FlopCounterMode | None:
        """Return what counts the arithmetic of a block, if that is not known yet and wanted."""
        return FlopCounterMode(display=False) if self.profile.on and stage not in self._per_clip else None


def note_limits(profile: Profile, device: torch.device, computing: Computing) -> None:
    """Measure the device, and note what the stages of a training would take at its speed."""
    dtype = torch.bfloat16 if computing.precision == "bf16" else torch.float32
    speed = matmul_flops(device, dtype)
    for stage in STAGES:
        if done := profile.counted(f"{stage} flops"):
            profile.at_best(stage, done / speed)
    if gathered := profile.counted("gathered bytes"):
        profile.at_best("gather", gathered / copy_bytes_per_s(device))


def copy_bytes_per_s(device: torch.device) -> float:
    """Measure bytes a second of a copy within the device's memory."""
    source = torch.ones(_COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return _COPIED_BYTES[device.type] / median_seconds(lambda: target.copy_(source), device)
