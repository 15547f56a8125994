"""What stacking sees of a member: its distributions, or a gaussian around its score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from audiomos_cache.errors import DataError
from audiomos_cache.evaluation.metrics import Floats
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.targets import gaussian_distribution

SCORE_SIGMA = 0.35  # of the gaussian that stands for a member without distributions
DEFAULT_BINS = 20
MOST_BINS = 2**16  # a record says how many there are, and each takes memory


@dataclass(frozen=True)
class Layout:
    """What the features of a target are made of, member by member.

    Attributes:
        kinds: M times `distribution`, or `score` for a gaussian around it.
        bins: of each member's features.
    """

    kinds: tuple[str, ...]
    bins: int

    @classmethod
    def of(cls, members: Sequence[Predictions], target: str) -> Self:
        """Take each member's distributions where it has them; scores become gaussians on the same bins."""
        dists = [getattr(member, f"{target}_dist") for member in members]
        known = [dist.shape[1] for dist in dists if dist is not None]
        kinds = tuple("score" if dist is None else "distribution" for dist in dists)
        return cls(kinds, known[0] if known else DEFAULT_BINS)

    @classmethod
    def from_json(cls, content: dict[str, Any], members: int) -> Self:
        """Make it of what `to_json` returned, for so many members."""
        kinds, bins = tuple(content["features"]), content["bins"]
        if len(kinds) != members:
            raise ValueError(f"{len(kinds)} features, expected {members}")
        if not set(kinds) <= {"score", "distribution"} or type(bins) is not int or not 1 <= bins <= MOST_BINS:
            raise ValueError(f"features {kinds} on {bins!r} bins")
        return cls(kinds, bins)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"features": list(self.kinds), "bins": self.bins}

    def features(self, members: Sequence[Predictions], target: str, names: Sequence[str]) -> Floats:
        """Return the members' features side by side: (N, M * bins).

        Raises:
            DataError: a member has others than those it was fitted with.
        Source: Ritter-Gutierrez et al. 2025, published code (sigma 0.35).
        """
        blocks = []
        for name, member, kind in zip(names, members, self.kinds, strict=True):
            dist = getattr(member, f"{target}_dist")
            found = "score" if dist is None else f"distribution on {dist.shape[1]} bins"
            expected = "score" if kind == "score" else f"distribution on {self.bins} bins"
            if found != expected:
                raise DataError(
                    f"{name}: {target} is a {found}, expected a {expected} as in the fit split; give the same "
                    "members in the same order"
                )
            blocks.append(
                gaussian_distribution(getattr(member, target), self.bins, SCORE_SIGMA) if dist is None else dist
            )
        return np.concatenate(blocks, axis=1)
