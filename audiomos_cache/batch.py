"""Batches: sequences of different lengths put together, padded and masked; in a mask True is valid."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def chunks(items: Sequence[T], size: int) -> list[list[T]]:
    """Cut items, in their order, into lists of at most `size`."""
    return [list(items[i : i + size]) for i in range(0, len(items), size)]


def valid_mask(lengths: Tensor, longest: int) -> Tensor:
    """Say which positions of B sequences are valid: (B, longest) bool, on the device of `lengths` (B,)."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]
