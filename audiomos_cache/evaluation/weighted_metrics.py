"""MSE, LCC, SRCC and KTAU of many resamples at once, by matrix products.

A resample of whole systems is a vector of counts w: how often each system was drawn. No clip needs to be repeated for
it. The moments that MSE and LCC need are sums over the systems, linear in w. The mid-rank of a point, but for its mean,
is half the sum over all points of w times sign(x_i - x_j), linear in w too, and SRCC is the weighted LCC of mid-ranks.
KTAU is a quotient of quadratic forms in w: concordant less discordant pairs, and pairs that are not tied.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.evaluation.metrics import same
from audiomos_cache.targets import Floats

_BLOCK = 1 << 20  # numbers in an array that is made for a block of points or resamples: 8 MiB


class WeightedAgreement:
    """The four numbers between predictions and truth, where every point counts as often as its group was drawn.

    Each method takes (B, G) float64 weights, whole numbers from 0, a row for each resample, and returns (B,). LCC, SRCC
    and KTAU are nan where all points that count have one prediction, or one truth, up to rounding. The memory it takes
    is that of a few arrays like the weights, and of (N, G) numbers.

    Args:
        predicted: (N,).
        truth: (N,).
        group: (N,) int, 0 to G - 1, none of them empty.
    """

    def __init__(self, predicted: Floats, truth: Floats, group: NDArray[np.intp]) -> None:
        order = np.argsort(group, kind="stable")
        self._x, self._y, self._group = predicted[order], truth[order], group[order]
        self._starts = np.searchsorted(self._group, np.arange(self._group[-1] + 1))

    @property
    def groups(self) -> int:
        """How many groups there are: G."""
        return len(self._starts)

    def __call__(self, weights: Floats) -> Floats:
        """Return (B, 4): the four numbers of each resample, in the order of `metrics.MEASURES`."""
        return np.stack([self.mse(weights), self.lcc(weights), self.srcc(weights), self.ktau(weights)], axis=1)

    def mse(self, weights: Floats) -> Floats:
        """Return the mean squared errors."""
        totals = weights @ self._sums(np.stack([np.ones_like(self._x), (self._x - self._y) ** 2], axis=1))
        return np.asarray(totals[:, 1] / totals[:, 0])

    def lcc(self, weights: Floats) -> Floats:
        """Return the linear (Pearson) correlations."""
        x, y = self._x - self._x.mean(), self._y - self._y.mean()  # small numbers keep their digits in the squares
        totals = weights @ self._sums(np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1))
        n, sum_x, sum_y, sum_xx, sum_yy, sum_xy = totals.T
        squares = sum_xx - sum_x**2 / n, sum_yy - sum_y**2 / n
        return _quotient(sum_xy - sum_x * sum_y / n, *squares, self._varied(weights))

    def srcc(self, weights: Floats) -> Floats:
        """Return the rank (Spearman) correlations, ties at their mean rank."""
        size = max(1, _BLOCK // len(self._x))
        blocks = [self._srcc(weights[start : start + size]) for start in range(0, len(weights), size)]
        return np.concatenate(blocks) if blocks else np.empty(0)

    def _srcc(self, weights: Floats) -> Floats:
        ranks_x, ranks_y = (signs @ weights.T for signs, _ in self._orders)  # twice the mid-rank less its mean: (N, B)
        counts = weights.T[self._group]
        weighted = counts * ranks_x
        xy, xx = (weighted * ranks_y).sum(axis=0), (weighted * ranks_x).sum(axis=0)
        yy = (counts * ranks_y * ranks_y).sum(axis=0)
        return _quotient(xy, xx, yy, self._varied(weights))

    def ktau(self, weights: Floats) -> Floats:
        """Return Kendall's tau-b."""
        untied_x, untied_y = (self._untied(weights, side) for side in (0, 1))
        return _quotient(_form(self._concordance, weights), untied_x, untied_y, self._varied(weights))

    def _untied(self, weights: Floats, side: int) -> Floats:
        """Count the ordered pairs that differ in the predictions (side 0), or in truth (side 1)."""
        return _form(self._orders[side][1], weights)

    def _varied(self, weights: Floats) -> NDArray[np.bool_]:
        """Return of which resamples neither the predictions nor truth are constant up to rounding: (B,)."""
        varied = np.ones(len(weights), bool)
        for values in (self._x, self._y):
            low, high = np.minimum.reduceat(values, self._starts), np.maximum.reduceat(values, self._starts)
            lowest = np.where(weights > 0, low, np.inf).min(axis=1)
            varied &= ~same(lowest, np.where(weights > 0, high, -np.inf).max(axis=1))
        return varied

    def _sums(self, values: Floats) -> Floats:
        """Add (N, ...) up over each group's points: (G, ...)."""
        return np.add.reduceat(values, self._starts)

    @cached_property
    def _orders(self) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Of predictions and truth, what `_order` returns."""
        return self._order(self._x), self._order(self._y)

    def _order(self, values: Floats) -> tuple[Floats, Floats]:
        """Compare every point with every group.

        Returns:
            (N, G), points of the group below it less points above it; (G, G), pairs of two groups that differ.
        """
        below, above = np.empty((2, len(values), self.groups))
        for number, of_group in enumerate(np.split(values, self._starts[1:])):
            ordered = np.sort(of_group)
            below[:, number] = np.searchsorted(ordered, values, side="left")
            above[:, number] = len(ordered) - np.searchsorted(ordered, values, side="right")
        return below - above, self._sums(below + above)

    @cached_property
    def _concordance(self) -> Floats:
        """Concordant less discordant ordered pairs of points of each two groups: (G, G)."""
        size = max(1, _BLOCK // len(self._x))
        rows = [
            np.add.reduceat(
                np.sign(self._x[start : start + size, None] - self._x)
                * np.sign(self._y[start : start + size, None] - self._y),
                self._starts,
                axis=1,
            )
            for start in range(0, len(self._x), size)
        ]
        return self._sums(np.concatenate(rows))


def _form(matrix: Floats, weights: Floats) -> Floats:
    """Compute w' matrix w of each row w of the weights: (B,)."""
    return np.asarray(((weights @ matrix) * weights).sum(axis=1))


def _quotient(xy: Floats, xx: Floats, yy: Floats, defined: NDArray[np.bool_]) -> Floats:
    """Divide xy by sqrt(xx yy), within -1 and 1; nan where it is not defined."""
    defined = defined & (xx > 0) & (yy > 0)
    root = np.sqrt(np.where(defined, xx, 1.0)) * np.sqrt(np.where(defined, yy, 1.0))
    return np.where(defined, np.clip(xy / root, -1.0, 1.0), np.nan)
