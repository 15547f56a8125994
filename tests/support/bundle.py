"""Helpers of the tests of bundle."""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from audiomos_cache.bundle.make import make_bundle
from audiomos_cache.errors import AudiomosError, BundleError

Floats = NDArray[np.float64]


def brute_force(scores: Floats, spread: Floats, truth: Floats, fold: NDArray[np.intp]) -> tuple[float, float, float]:
    """The same by the definition: the least factor whose intervals hold ceil(0.8 (n + 1)) of n labels."""

    def factor(rows: Sequence[int]) -> float:
        wanted = math.ceil(Fraction(4, 5) * (len(rows) + 1))
        for candidate in sorted(abs(truth[row] - scores[row]) / spread[row] for row in rows):
            if sum(abs(truth[row] - scores[row]) / spread[row] <= candidate for row in rows) >= wanted:
                return float(candidate)
        raise AssertionError("too few clips")

    held, widths = [], []
    for row in range(len(scores)):
        half = factor([other for other in range(len(scores)) if fold[other] != fold[row]]) * spread[row]
        low, high = max(scores[row] - half, 1), min(scores[row] + half, 5)
        held.append(low <= truth[row] <= high)
        widths.append(high - low)
    return factor(range(len(scores))), float(np.mean(held)), float(np.mean(widths))


def refusal(
    runs: Sequence[Path], fusion: Path | None, out: Path, error: type[AudiomosError] = BundleError, **options: Any
) -> str:
    """What the message of a bundle that cannot be made says; nothing is written."""
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(AudiomosError) as caught:
        make_bundle(runs, out, fusion, **{"check": False} | options)
    assert type(caught.value) is error
    assert sorted(out.parent.rglob("*")) == before
    return str(caught.value)


METHODS = ("ridge", "weighted", "greedy", "mean")
