"""Reads at given offsets from a file that must not change, into memory that is used again."""

import math
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.cache.hdf5_checks import REMEDY
from audiomos_cache.errors import CacheError


class Buffer:
    """One allocation that grows as needed. What `take` returns is overwritten by the next `take`."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a contiguous array of that shape, its content undefined."""
        size = math.prod(shape) * dtype.itemsize
        if self._bytes.size < size:
            self._bytes = np.empty(1 << (size - 1).bit_length(), np.uint8)  # at least twice what it was
        return self._bytes[:size].view(dtype).reshape(shape)


class StableFile:
    """A file that was opened once, and is read at given offsets from then on.

    Args:
        path: the file.
        raw: the same file, open; may be closed afterwards.
        keep_open: hold a descriptor, so that a file that is replaced later is still read as it was. Otherwise the file
            is opened for each read, and it is an error if it was replaced; any number of files can be in use then.
    """

    def __init__(self, path: Path, raw: BinaryIO, *, keep_open: bool) -> None:
        self.path = path
        self._identity = _identity(raw.fileno())
        self._kept: int | None = None
        if keep_open:
            self._keep(raw.fileno())

    def read(self, position: int, target: NDArray[Any], what: Callable[[], str]) -> None:
        """Fill `target`, C-contiguous, with the bytes at `position`.

        Args:
            position: in bytes.
            target: any array.
            what: names what is read, where it cannot be.
        Raises:
            CacheError: the file is too short, was replaced, or the disk fails; names it and `what`.
        """
        view = target.reshape(-1).view(np.uint8).data
        try:
            with self._opened() as descriptor:
                while view:
                    count = os.preadv(descriptor, [view], position)
                    if count == 0:
                        raise CacheError(f"{self.path}, {what()}: the file ends before it; {REMEDY}")
                    view, position = view[count:], position + count
        except OSError as error:
            raise CacheError(f"{self.path}, {what()}: cannot be read ({error.strerror}); {REMEDY}") from error

    def release(self) -> None:
        """Close the descriptor that is kept; the file is opened for each read from now on."""
        if self._kept is not None:
            self._kept = None
            self._close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": self._kept is not None, "_close": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _kept=None)
        if state["_kept"]:
            with self._opened() as descriptor:
                self._keep(descriptor)

    def _keep(self, descriptor: int) -> None:
        self._kept = os.dup(descriptor)
        self._close = weakref.finalize(self, os.close, self._kept)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Yield a descriptor: the one that is kept, or one for this read, which costs some microseconds."""
        if self._kept is not None:
            yield self._kept
            return
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _identity(descriptor) != self._identity:
                raise CacheError(f"{self.path}: was replaced after it was opened; start again to read the new file")
            yield descriptor
        finally:
            os.close(descriptor)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
