"""What the machine can do at best, by the plainest code."""

import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audiomos_cache.artifacts import sync_folder
from audiomos_cache.encoders.muq import MuQEncoder

BLOCK_BYTES = 8 << 20
MEL_BANDS = 128  # of MuQ's spectrogram
MATRIX_SIDE = {"cuda": 8192, "cpu": 1024}
COPIED_BYTES = {"cuda": 1 << 30, "cpu": 1 << 27}
SENT_BYTES = 1 << 26


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Measure floating-point operations a second of a large matrix product."""
    side = MATRIX_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))  # ones take less power
    return 2 * side**3 / median_seconds(lambda: a @ b, device)


def copy_bytes_per_s(device: torch.device) -> float:
    """Measure bytes a second of a copy within the device's memory."""
    source = torch.ones(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return COPIED_BYTES[device.type] / median_seconds(lambda: target.copy_(source), device)


def send_bytes_per_s(device: torch.device) -> float:
    """Measure bytes a second of a copy to the GPU, from memory of the CPU that the GPU reaches by itself."""
    host = torch.empty(SENT_BYTES, dtype=torch.uint8, pin_memory=True)
    return SENT_BYTES / median_seconds(lambda: host.to(device, non_blocking=True), device)


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


def muq_flops(audio: MuQEncoder, samples: int) -> float:
    """Count MuQ's floating-point operations for one waveform: those of its convolutions and matrix products."""
    frames, mel_frames, model = audio.frames_for(samples), samples // 240, audio._model
    total = 0.0
    for block, halved in zip(model.conv.conv, (2, 4), strict=True):
        positions = math.ceil(mel_frames / halved) * (MEL_BANDS // halved)
        total += positions * sum(conv.weight.numel() for conv in (block.conv1, block.conv2, block.conv3))
    total += frames * model.conv.linear.weight.numel()
    for layer in model.conformer.layers[: max(audio.layers)]:
        total += frames * (sum(p.numel() for p in layer.parameters() if p.ndim > 1) + 2 * frames * audio.dim)
    return float(2 * total)


def copy_from_memory(clip: NDArray[Any], row: NDArray[Any]) -> None:
    """Copy a clip to its row of a batch, and zero the rest of the row."""
    row[: len(clip)] = clip
    row[len(clip) :] = 0


def write_whole(path: Path, content: NDArray[Any]) -> None:
    """Write a new file in blocks of 8 MiB, and force it and its name to the disk."""
    view = content.reshape(-1).view(np.uint8).data
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        while view:
            view = view[os.write(descriptor, view[:BLOCK_BYTES]) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def read_in_order(path: Path) -> None:
    """Read a file from its begin to its end into one buffer of 8 MiB."""
    buffer = np.empty(BLOCK_BYTES, np.uint8)  # in pages of 2 MiB, faster than a bytearray
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer.data):
            pass


def forget(path: Path) -> bool:
    """Ask the system to drop a file from its page cache; say whether it did."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(file.fileno(), [bytearray(1 << 16)], path.stat().st_size // 2, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
    return False
