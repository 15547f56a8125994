"""What the machine can do at best, by the plainest code."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.artifacts import sync_folder

BLOCK_BYTES = 8 << 20


def copy_from_memory(clip: NDArray[Any], row: NDArray[Any]) -> None:
    """Copy a clip to its row of a batch, and zero the rest of the row."""
    row[: len(clip)] = clip
    row[len(clip) :] = 0


def write_plainly(path: Path, content: NDArray[Any]) -> None:
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
