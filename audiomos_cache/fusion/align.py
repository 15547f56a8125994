"""The edge where clips lose and get their ids: predictions and labels joined by id into arrays, and back."""

from collections.abc import Iterable, Sequence

import numpy as np

from audiomos_cache.dataset.labels import Labels
from audiomos_cache.errors import DataError, first_five
from audiomos_cache.evaluation.predictions import Predictions, join_ids
from audiomos_cache.fusion.base import Blend, Fusion, Members, Truth
from audiomos_cache.targets import HIGHEST, LOWEST, TARGETS


def join_members(predictions: Sequence[Predictions], names: Sequence[str]) -> tuple[tuple[str, ...], Members]:
    """Join the predictions of M members by clip id.

    Args:
        predictions: M, of the same N clips.
        names: what to call them in messages.
    Returns:
        The N clip ids, sorted, and the arrays with a row or column for each.
    Raises:
        DataError: there is no member, or not one name for each; the members do not hold the same clips, or have
        distributions on different numbers of bins.
    """
    if not predictions or len(predictions) != len(names):
        raise DataError(f"{len(predictions)} predictions to fuse, expected {len(names) or 'at least 1'}")
    ids = predictions[0].ids
    for member, name in zip(predictions[1:], names[1:], strict=True):
        if member.ids != ids:
            join_ids(member.ids, ids, name, names[0])
    scores = {target: np.stack([getattr(member, target) for member in predictions]) for target in TARGETS}
    dists = {target: [getattr(member, f"{target}_dist") for member in predictions] for target in TARGETS}
    return ids, Members(tuple(names), scores, dists)


def predictions_of(ids: Sequence[str], blend: Blend) -> Predictions:
    """Give the N clips of a blend their ids back.

    Raises:
        DataError: the blend holds numbers that cannot be predictions; see `Predictions.build`.
    """
    scores, dists = blend.scores, blend.dists
    return Predictions.build(ids, scores["mi"], scores["ta"], dists.get("mi"), dists.get("ta"))


def blend_of(predictions: Predictions) -> Blend:
    """Return the arrays of fused predictions, in the order of their ids."""
    dists = {target: getattr(predictions, f"{target}_dist") for target in TARGETS}
    return Blend(
        {target: getattr(predictions, target) for target in TARGETS},
        {target: dist for target, dist in dists.items() if dist is not None},
    )


def common_clips(members: Sequence[Predictions], expected: Iterable[str] = ()) -> tuple[list[Predictions], list[str]]:
    """Keep of each member the clips that all have.

    Args:
        members: M, each of some clips.
        expected: clips that they should have.
    Returns:
        The members, now of the same clips; and the ids of those that only some have, or none but should, sorted.
    Raises:
        DataError: no clip is left.
    """
    ids = [set(member.ids) for member in members]
    kept = set.intersection(*ids)
    dropped = sorted(set.union(*ids, set(expected)) - kept)
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
        DataError: the two do not hold the same clips, a label occurs twice, or is not from 1 to 5.
    """
    rows = join_ids(ids, labels.ids, name, "the labels")
    ordered = Labels(tuple(ids), tuple(labels.systems[row] for row in rows), labels.mi[rows], labels.ta[rows])
    for target, values in (("MI", ordered.mi), ("TA", ordered.ta)):
        inside = (values >= LOWEST) & (values <= HIGHEST)  # NaN is not
        if bad := [ids[row] for row in np.flatnonzero(~inside).tolist()]:
            raise DataError(f"labels of {target} that are not from 1 to 5: {first_five(bad)}; correct the list")
    return ordered


def truth_of(labels: Labels) -> Truth:
    """Return the labels' arrays, in the order of their ids."""
    return {"mi": labels.mi, "ta": labels.ta}


def take_labels(labels: Labels, ids: Sequence[str]) -> Labels:
    """Return the labels of some of the clips, which all have one, in the order of `ids`."""
    row_of = {clip: row for row, clip in enumerate(labels.ids)}
    rows = [row_of[clip] for clip in ids]
    return Labels(tuple(ids), tuple(labels.systems[row] for row in rows), labels.mi[rows], labels.ta[rows])


def fuse_predictions(fusion: Fusion, predictions: Sequence[Predictions]) -> Predictions:
    """Apply a fusion to predictions of its members, in the order of its `names`.

    Raises:
        DataError: see `join_members`, `Fusion.apply` and `predictions_of`.
    """
    ids, members = join_members(predictions, fusion.names)
    return predictions_of(ids, fusion.apply(members))
