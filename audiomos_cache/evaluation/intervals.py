"""Intervals and p-values of one number from its bootstrap distribution.

BCa: bias-corrected and accelerated (Efron 1987, "Better Bootstrap Confidence Intervals"; DiCiccio and Efron 1996,
"Bootstrap Confidence Intervals"). The bootstrap takes the few systems there are for all there could be, which makes its
distribution too narrow by sqrt((G - 1) / G), and reads normal quantiles where few systems call for Student's t; both
are mended by asking BCa for a higher level (Hesterberg 2015, "What Teachers Should Know About the Bootstrap").
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from audiomos_cache.metrics import Floats

MOST_UNDEFINED = 0.05  # of the resamples, beyond which what is left says too little
_LEAST = 1e-9  # of a divisor, beyond which a normal quantile is infinite for all purposes
_SAME = 1e-12  # relative to the largest: what rounding may make of equal numbers


class UndefinedIntervalError(ValueError):
    """A bootstrap distribution from which no interval follows; the message says why."""


@dataclass(frozen=True, eq=False)
class Bca:
    """A number's bootstrap distribution, with what corrects its bias and skewness. Made by `of`.

    Attributes:
        replicates: (B,) float64, the number in each resample where it is defined.
        undefined: how many resamples were left out because it is not.
        bias: z0, the normal quantile of the share of replicates below the number itself.
        acceleration: a, a sixth of the skewness of the jackknife's values.
        groups: G, how many systems were resampled.
    """

    replicates: Floats
    undefined: int
    bias: float
    acceleration: float
    groups: int

    @classmethod
    def of(cls, replicates: Floats, estimate: float, jackknife: Floats) -> Self:
        """Correct a bootstrap distribution.

        Args:
            replicates: (B,), the number in each resample; nan where it is not defined.
            estimate: the number itself.
            jackknife: (G,), the number without each of the systems.
        Raises:
            UndefinedIntervalError: the number, one of the jackknife's or more than `MOST_UNDEFINED` of the resamples'
                are not defined; all resamples give the same, or none of them gives less, or more, than the number.
        """
        if math.isnan(estimate):
            raise UndefinedIntervalError("it is not defined")
        if np.isnan(jackknife).any():
            raise UndefinedIntervalError("it is not defined without one of the systems")
        defined = replicates[~np.isnan(replicates)]
        undefined = len(replicates) - len(defined)
        if undefined > MOST_UNDEFINED * len(replicates):
            raise UndefinedIntervalError(f"it is not defined in {undefined} of {len(replicates)} resamples")
        if np.ptp(defined) <= _SAME * np.abs(defined).max():
            raise UndefinedIntervalError("it is the same in every resample")
        share = (np.mean(defined < estimate) + np.mean(defined <= estimate)) / 2
        if not 0 < share < 1:
            raise UndefinedIntervalError(f"it is {'above' if share else 'below'} what every resample gives")
        influence = jackknife.mean() - jackknife
        spread = np.sum(influence**2)
        acceleration = float(np.sum(influence**3) / (6 * spread**1.5)) if spread > 0 else 0.0
        return cls(defined, undefined, float(ndtri(share)), acceleration, len(jackknife))

    def interval(self, level: float) -> tuple[float, float]:
        """Return the ends of the BCa interval at a level between 0 and 1.

        Where bias and skewness are so large that an end is nowhere, it is the most extreme replicate.
        """
        half = ndtri((1 + level) / 2)
        shifted = self.bias + np.array([-half, half])
        shares = ndtr(self.bias + shifted / np.maximum(1 - self.acceleration * shifted, _LEAST))
        low, high = np.quantile(self.replicates, shares)
        return float(low), float(high)

    def expanded_interval(self, level: float) -> tuple[float, float]:
        """Return the ends of the BCa interval at a level raised for few systems."""
        return self.interval(expanded_level(level, self.groups))

    def expanded_p_value(self, null: float = 0.0) -> float:
        """Return one less the level of the expanded interval that just reaches `null`: a two-sided p-value.

        It is 1 / (B + 1) at least, since B resamples cannot tell apart what is rarer.
        Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 15 (BCa significance levels).
        """
        share = (np.mean(self.replicates < null) + np.mean(self.replicates <= null)) / 2
        least = 1 / (len(self.replicates) + 1)
        shifted = ndtri(min(max(share, least), 1 - least)) - self.bias
        z = shifted / max(1 + self.acceleration * shifted, _LEAST) - self.bias
        t = -abs(z) * math.sqrt((self.groups - 1) / self.groups)
        return float(np.clip(2 * stdtr(self.groups - 1, t), least, 1.0))


def expanded_level(level: float, groups: int) -> float:
    """Return the level to ask a bootstrap interval of few groups for, so that it holds the truth as often as `level`.

    Args:
        level: between 0 and 1.
        groups: G, how many were resampled, 2 or more.
    Source: Hesterberg 2015 (the expanded percentile interval).
    """
    quantile = math.sqrt(groups / (groups - 1)) * stdtrit(groups - 1, (1 + level) / 2)
    return float(2 * ndtr(quantile) - 1)
