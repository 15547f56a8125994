"""Trimmed mean: the highest and the lowest member of each clip do not count."""

import numpy as np

from audiomos_cache.fusion.base import Blend, Fusion, Members
from audiomos_cache.registry import register


@register("fusion", "trimmed_mean")
class TrimmedMeanFusion(Fusion):
    """The mean of the members without the highest and the lowest; of one or two members, their mean."""

    def blend(self, members: Members) -> Blend:
        """Blend the members' scores, (M, N) of each target; distributions are not blended."""
        return Blend({target: _trimmed(scores) for target, scores in members.scores.items()})


def _trimmed(scores: np.ndarray) -> np.ndarray:
    inner = np.sort(scores, axis=0)[1:-1]
    return (inner if len(inner) else scores).mean(axis=0)
