"""Small helpers on sequences."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def chunks(items: Sequence[T], size: int) -> list[list[T]]:
    """Cut items, in their order, into lists of at most `size`."""
    return [list(items[i : i + size]) for i in range(0, len(items), size)]
