"""Helpers of the tests of bundle."""

import math
from fractions import Fraction

import numpy as np
import pytest

from audiomos_cache.bundle.make import make_bundle
from audiomos_cache.errors import AudiomosError, BundleError


def brute_force(scores, spread, truth, fold):
    """The same by the definition: the least factor whose intervals hold ceil(0.8 (n + 1)) of n labels."""

    def factor(rows):
        wanted = math.ceil(Fraction(4, 5) * (len(rows) + 1))
        for candidate in sorted(abs(truth[row] - scores[row]) / spread[row] for row in rows):
            if sum(abs(truth[row] - scores[row]) / spread[row] <= candidate for row in rows) >= wanted:
                return candidate
        return None

    held, widths = [], []
    for row in range(len(scores)):
        half = factor([other for other in range(len(scores)) if fold[other] != fold[row]]) * spread[row]
        low, high = max(scores[row] - half, 1), min(scores[row] + half, 5)
        held.append(low <= truth[row] <= high)
        widths.append(high - low)
    return factor(range(len(scores))), np.mean(held), np.mean(widths)


def refusal(runs, fusion, out, error=BundleError, **options):
    """What the message of a bundle that cannot be made says; nothing is written."""
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(AudiomosError) as caught:
        make_bundle(runs, fusion, out, **options)
    assert type(caught.value) is error
    assert sorted(out.parent.rglob("*")) == before
    return str(caught.value)


METHODS = ("ridge", "weighted", "greedy", "mean")
