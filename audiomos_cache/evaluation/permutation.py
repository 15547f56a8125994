"""Whether two predictions differ: a test that swaps them, system by system.

The null hypothesis is that it makes no difference whose prediction is whose: within a system, all of A's predictions
can be swapped with all of B's. Systems, not clips, are swapped, since the errors of a system's clips go together. For
MSE the predictions are swapped as they are. LCC does not see their scale, so a swap must not mix two scales: each is
brought to mean 0 and variance 1 first. SRCC and KTAU see order alone, so ranks are swapped.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from audiomos_cache.evaluation.weighted import WeightedAgreement
from audiomos_cache.metrics import MEASURES, Floats, Points

_ROUNDING = 1e-12
_ALL = 4096  # ways to swap that are always all made: drawing fewer would save nothing


def choose_swaps(n_swaps: int, systems: int, seed: int) -> NDArray[np.bool_]:
    """Choose which systems to swap, (B, G): all ways there are, but to swap none, if they are few; else some.

    Few are `n_swaps` or 4,096. Some are `n_swaps`, drawn at random, but not as the bootstrap of the same seed draws.
    """
    if 2**systems <= max(n_swaps, _ALL):
        return np.asarray((np.arange(1, 2**systems)[:, None] >> np.arange(systems)) % 2 == 1)
    return np.random.default_rng([seed, 1]).integers(0, 2, (n_swaps, systems)).astype(bool)


def least_swap_p_value(systems: int) -> float:
    """Return the least p-value that swaps can give: to swap all systems makes the same difference as to swap none."""
    return 2.0 ** (1 - systems)


def swap_p_values(a: Points, b: Points, swaps: NDArray[np.bool_]) -> Floats:
    """Return (4,) two-sided p-values of the differences between A's numbers and B's, in the order of `MEASURES`.

    Each is the share of swaps, the predictions as they are among them, with a difference as large or larger. A swap in
    which a number is not defined counts as such. nan where a number of A or B is not defined.

    Args:
        a, b: predictions of the same points, in the same order.
        swaps: (B, G), True where a system is swapped.
    Source: Phipson and Smyth 2010, "Permutation P-values should never be zero".
    """
    as_they_are = np.zeros((1, swaps.shape[1]), bool)
    swapped = np.vstack([as_they_are, swaps])
    taken = np.hstack([~swapped, swapped]).astype(np.float64)  # (1 + B, 2 G), from A's systems and from B's
    p_values = {}
    for comparable, measures in _COMPARABLE:
        # One set of points, A's and then B's: a swap chooses from which of the two a system's points are taken.
        both = WeightedAgreement(
            np.concatenate([comparable(a.predicted), comparable(b.predicted)]),
            np.concatenate([a.truth, b.truth]),
            np.concatenate([a.system, b.system + swaps.shape[1]]),
        )
        for measure in measures:
            numbers = getattr(both, measure)
            p_values[measure] = _p_value(np.abs(numbers(taken) - numbers(1 - taken)))
    return np.array([p_values[measure] for measure in MEASURES])


def _p_value(differences: Floats) -> float:
    """Compare the first difference with all of them."""
    if np.isnan(differences[0]):
        return float("nan")
    smaller = np.count_nonzero(differences < differences[0] - _ROUNDING)  # nan is not smaller
    return float((len(differences) - smaller) / len(differences))


def _standardised(values: Floats) -> Floats:
    spread = np.std(values)
    return (values - np.mean(values)) / (spread if spread > 0 else 1.0)


def _as_they_are(values: Floats) -> Floats:
    return values


def _ranks(values: Floats) -> Floats:
    return np.asarray(rankdata(values), np.float64)


_COMPARABLE = ((_as_they_are, ("mse",)), (_standardised, ("lcc",)), (_ranks, ("srcc", "ktau")))
