"""Which clips of a list are set aside to choose checkpoints by: pure functions on names and a seed.

The result depends on what the names are, not on their order in the list.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.errors import DataError

Chosen = NDArray[np.bool_]


def stratified(ids: Sequence[str], systems: Sequence[str], fraction: float, seed: int) -> Chosen:
    """Set the same share of each system's clips aside, as near as whole clips come to it.

    A system with one clip keeps it, and none gives its last: nothing is set aside whose system is not trained on.

    Args:
        ids: N distinct clip ids.
        systems: the N systems they come from.
        fraction: the share, between 0 and 1.
        seed: of the choice.
    Returns:
        (N,) True for the clips that are set aside: round(fraction N) of them, one at least, of each system its share
        rounded up or down, as near as keeping one of each allows.
    Raises:
        DataError: every system has one clip.
    """
    rng = np.random.default_rng(seed)
    names, system = np.unique(systems, return_inverse=True)
    sizes = np.bincount(system)
    most = sizes - 1
    if not most.any():
        raise DataError(f"each of the {len(names)} systems has one clip, none can be on both sides; hold out systems")
    counts = _share_out(np.asarray(fraction * sizes, np.float64), most, max(1, round(fraction * len(ids))), rng)
    by_id = np.argsort(np.asarray(ids))
    chosen = np.zeros(len(ids), bool)
    for number, count in enumerate(counts):
        clips = by_id[system[by_id] == number]
        chosen[rng.permutation(clips)[:count]] = True
    return chosen


def _share_out(
    quotas: NDArray[np.float64],
    most: NDArray[np.int_],
    total: int,
    rng: np.random.Generator,
) -> NDArray[np.int_]:
    """Round quotas to whole numbers, the largest remainders up, until their sum is `total` or all are at their most."""
    counts = np.asarray(np.minimum(np.floor(quotas).astype(int), most))
    lot = rng.random(len(quotas)) * 1e-6  # decides between equal remainders
    while counts.sum() < min(total, most.sum()):
        counts[np.argmax(np.where(counts < most, quotas - counts + lot, -np.inf))] += 1
    return counts


def held_out(groups: Sequence[str], fraction: float, seed: int, kind: str = "groups") -> Chosen:
    """Set whole groups (systems, prompts) aside, chosen at random, until that is as near as it comes to the share.

    Args:
        groups: the group of each of N clips.
        fraction: the share of clips, between 0 and 1.
        seed: of the choice.
        kind: what the groups are, for the message.
    Returns:
        (N,) True for the clips that are set aside: of one group at least, and not of all.
    Raises:
        DataError: there is one group.
    """
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise DataError(f"found 1 of {kind}, expected 2 or more to hold out some")
    order = np.random.default_rng(seed).permutation(len(names))
    clips = np.cumsum(np.bincount(group)[order])[:-1]
    taken = 1 + int(np.argmin(np.abs(clips - fraction * len(groups))))
    return np.isin(group, order[:taken])
