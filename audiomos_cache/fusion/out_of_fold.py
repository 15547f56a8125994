"""What a fusion says of clips that it has not seen."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.dataset.labels import Labels
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.fusion.align import take_labels
from audiomos_cache.fusion.base import Fusion
from audiomos_cache.fusion.folds import Folds


def out_of_fold(
    fit: Callable[[Sequence[Predictions], Labels], Fusion],
    members: Sequence[Predictions],
    labels: Labels,
    folds: Folds,
) -> Predictions:
    """Predict each fold's clips with a fusion that was fitted on the others.

    Args:
        fit: makes a fusion of members' predictions and labels of the same clips.
        members: M predictions of the same N clips.
        labels: of these clips.
        folds: how they are shared out.
    Returns:
        Of all N clips.
    Raises:
        DataError: what `fit` raises, or the clips are of one group.
    """
    ids = np.array(members[0].ids)
    fold = folds.assign(members[0].ids)
    parts = []
    for number in range(fold.max() + 1):
        held, rest = ids[fold == number].tolist(), ids[fold != number].tolist()
        fusion = fit([member.take(rest) for member in members], take_labels(labels, rest))
        parts.append(fusion.apply([member.take(held) for member in members]))
    return _concatenated(parts)


def _concatenated(parts: Sequence[Predictions]) -> Predictions:
    def dists(name: str) -> NDArray[np.float64] | None:
        known = [getattr(part, name) for part in parts if getattr(part, name) is not None]
        return np.concatenate(known) if len(known) == len(parts) else None

    return Predictions.build(
        [clip for part in parts for clip in part.ids],
        np.concatenate([part.mi for part in parts]),
        np.concatenate([part.ta for part in parts]),
        dists("mi_dist"),
        dists("ta_dist"),
    )
