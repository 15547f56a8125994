"""Where the time goes: seconds per named stage of a piece of work, and its peak of GPU memory.

    profile = Profile()                          # or profiling.OFF, whose stages cost nothing
    with profile.stage("decode"): ...            # from any thread; times of one name are added up
    with profile.stage("encode", device): ...    # on CUDA: what the GPU takes for it, without waiting for the GPU
    profile.stop()
    print(*profile.lines(), sep="\\n")

torch is imported only where a stage is on CUDA.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

_NOTHING: AbstractContextManager[None] = nullcontext()


@dataclass(frozen=True, slots=True)
class Stage:
    """The time that a stage took.

    Attributes:
        name: of the stage.
        seconds: in it, summed over threads.
        share: of the wall time; those of stages that run at the same time add up to more than 1.
    """

    name: str
    seconds: float
    share: float


class Profile:
    """Collects times from the moment it is made until `stop`."""

    def __init__(self, *, on: bool = True) -> None:
        self.on = on
        self._seconds: dict[str, float] = {}
        self._events: list[tuple[str, Any, Any]] = []
        self._lock = threading.Lock()
        self._start = time.perf_counter()
        self._wall: float | None = None

    def stage(self, name: str, device: Any = "cpu") -> AbstractContextManager[None]:
        """Add the time that a block takes to a stage.

        Args:
            name: of the stage.
            device: of torch, or its name. For CUDA the time is that from the start to the end of the block on the GPU's
                current stream: the block itself may only queue the work.
        """
        if not self.on:
            return _NOTHING
        return self._on_gpu(name, device) if str(device).startswith("cuda") else self._timed(name)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds that were measured elsewhere to a stage."""
        if self.on:
            with self._lock:
                self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def stop(self) -> None:
        """Take the wall time, and the times of the work on the GPU, which it waits for."""
        for name, start, end in self._events:
            end.synchronize()
            self.add(name, start.elapsed_time(end) / 1000)
        self._events.clear()
        self._wall = time.perf_counter() - self._start

    @property
    def wall(self) -> float:
        """Seconds from the start until `stop`, or until now."""
        return time.perf_counter() - self._start if self._wall is None else self._wall

    @property
    def stages(self) -> list[Stage]:
        """All stages, in the order in which they first began."""
        wall = self.wall
        return [Stage(name, spent, spent / wall) for name, spent in self._seconds.items()]

    def as_json(self) -> dict[str, Any]:
        """Return values that JSON can hold."""
        stages = [asdict(stage) for stage in self.stages]
        return {"wall_s": self.wall, "gpu_peak_bytes": gpu_peak_bytes(), "stages": stages}

    def lines(self) -> list[str]:
        """Return a table: seconds and share of the wall time, and the peak of GPU memory."""
        lines = [f"{'stage':<12} {'seconds':>9} {'share':>7}"]
        lines += [f"{each.name:<12} {each.seconds:>9.2f} {each.share:>7.1%}" for each in self.stages]
        lines.append(f"{'wall':<12} {self.wall:>9.2f}")
        peak = gpu_peak_bytes()
        return [*lines, f"GPU memory: {peak / 1e9:.2f} GB at most"] if peak is not None else lines

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    @contextmanager
    def _on_gpu(self, name: str, device: Any) -> Iterator[None]:
        import torch

        stream = torch.cuda.current_stream(device)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        with self._lock:
            self._seconds.setdefault(name, 0.0)
        start.record(stream)
        try:
            yield
        finally:
            end.record(stream)
            with self._lock:
                self._events.append((name, start, end))


OFF = Profile(on=False)


def gpu_peak_bytes() -> int | None:
    """Return the most bytes that this process has held on its GPU, or None where it has used none."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_allocated())
