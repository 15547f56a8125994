"""How far listeners may be from a score: intervals that were calibrated on clips that the fusion had not seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiomos_cache.metrics import Floats
from audiomos_cache.predictions import Predictions
from audiomos_cache.targets import HIGHEST, LOWEST, bin_centres

LEVEL = 0.8


@dataclass(frozen=True, slots=True)
class Calibration:
    """How wide a target's intervals are.

    Attributes:
        factor: half an interval's width, in spreads.
        clips: that it was calibrated on.
        coverage: the share of these clips whose label an interval held that was calibrated without their fold.
        mean_width: of these intervals.
    """

    factor: float
    clips: int
    coverage: float
    mean_width: float

    def interval(self, score: float, spread: float) -> tuple[float, float]:
        """Return an interval around a score, within 1 to 5."""
        half = self.factor * spread
        low, high = np.clip((score - half, score + half), LOWEST, HIGHEST)
        return float(low), float(high)


def spreads(members: Sequence[Predictions], fused: Predictions, target: str) -> Floats:
    """Return how far apart the opinions on each clip are that a fusion was made of.

    Args:
        members: M predictions of N clips.
        fused: of the same clips.
        target: `mi` or `ta`.
    Returns:
        (N,) standard deviations of the fused distributions, or where the fusion has none, of the mean of those of the
        members that have one; so members that disagree count too. 1 where none has one.
    """
    own = getattr(fused, f"{target}_dist")
    dists = [own] if own is not None else [d for m in members if (d := getattr(m, f"{target}_dist")) is not None]
    if not dists:
        return np.ones(len(fused.ids))
    dist = np.mean(dists, axis=0)  # (N, bins)
    centres = bin_centres(dist.shape[1])
    mean = dist @ centres
    return np.asarray(np.sqrt((dist * (centres - mean[:, None]) ** 2).sum(axis=1)))
