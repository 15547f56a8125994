"""The clips that members and labels have in common, joined by id."""

from collections.abc import Iterable, Sequence

import numpy as np

from audiomos_cache.dataset.labels import Labels
from audiomos_cache.errors import DataError, first_five
from audiomos_cache.evaluation.predictions import Predictions, join_ids
from audiomos_cache.targets import HIGHEST, LOWEST


def align(members: Sequence[Predictions], names: Sequence[str]) -> tuple[str, ...]:
    """Return the ids that all members hold, in the order of their rows.

    Raises:
        DataError: no member, not one name for each, members that do not hold the same clips, or distributions on
        different numbers of bins.
    """
    if not members or len(members) != len(names):
        raise DataError(f"{len(members)} predictions to fuse, expected {len(names) or 'at least 1'}")
    for member, name in zip(members[1:], names[1:], strict=True):
        if member.ids != members[0].ids:
            join_ids(member.ids, members[0].ids, name, names[0])
    for target in ("mi", "ta"):
        dists = [getattr(member, f"{target}_dist") for member in members]
        bins = {name: dist.shape[1] for name, dist in zip(names, dists, strict=True) if dist is not None}
        if len(set(bins.values())) > 1:
            found = first_five([f"{name} has {count}" for name, count in bins.items()])
            raise DataError(
                f"distributions of {target} on different bins: {found}; fuse heads of one number of bins, or answers"
            )
    return members[0].ids


def common_clips(members: Sequence[Predictions], wanted: Iterable[str] = ()) -> tuple[list[Predictions], list[str]]:
    """Keep of each member the clips that all have.

    Args:
        members: M, each of some clips.
        wanted: clips that they should have.
    Returns:
        The members, now of the same clips; and the ids of those that only some have, or none but should, sorted.
    Raises:
        DataError: no clip is left.
    """
    ids = [set(member.ids) for member in members]
    kept = set.intersection(*ids)
    dropped = sorted(set.union(*ids, set(wanted)) - kept)
    if not kept:
        raise DataError(f"no clip that all {len(members)} members have, expected at least one")
    return [member.take(sorted(kept)) if dropped else member for member in members], dropped


def align_labels(labels: Labels, ids: Sequence[str], name: str) -> Labels:
    """Put labels into the order of `ids`.

    Args:
        labels: N, in any order.
        ids: the N clips of the predictions.
        name: of the predictions, for messages.
    Raises:
        DataError: the two do not hold the same clips, a label stands twice, or is not from 1 to 5.
    """
    rows = join_ids(ids, labels.ids, name, "the labels")
    ordered = Labels(tuple(ids), tuple(labels.systems[row] for row in rows), labels.mi[rows], labels.ta[rows])
    for target, values in (("MI", ordered.mi), ("TA", ordered.ta)):
        inside = (values >= LOWEST) & (values <= HIGHEST)  # NaN is not
        if bad := [ids[row] for row in np.flatnonzero(~inside).tolist()]:
            raise DataError(f"labels of {target} that are not from 1 to 5: {first_five(bad)}; mend the list")
    return ordered


def take_labels(labels: Labels, ids: Sequence[str]) -> Labels:
    """Return the labels of some of the clips, which all have one, in the order of `ids`."""
    place = {clip: row for row, clip in enumerate(labels.ids)}
    rows = [place[clip] for clip in ids]
    return Labels(tuple(ids), tuple(labels.systems[row] for row in rows), labels.mi[rows], labels.ta[rows])
