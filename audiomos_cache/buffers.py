"""Memory that is used again: a fresh array for every clip would spend its time in page faults."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
