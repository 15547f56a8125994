"""Which labelled clips are held out together in cross-validation."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.dataset.labels import Labels
from audiomos_cache.dataset.loading import prompt_id_of
from audiomos_cache.errors import ConfigError, DataError, quoted

GROUPS = ("prompt", "system", "none")
DEFAULT_FOLDS = 5


@dataclass(frozen=True)
class Folds:
    """How labelled clips are shared out over folds: clips of a group are held out together.

    Attributes:
        group: what the groups are, one of `GROUPS`.
        group_of: the group of each clip, by id.
        count: of folds; `by` makes no more than there are groups.
        seed: decides which groups are held out together.
    """

    group: str
    group_of: Mapping[str, str]
    count: int = DEFAULT_FOLDS
    seed: int = 0

    @classmethod
    def by(
        cls,
        group: str,
        labels: Labels,
        *,
        prompts: Mapping[str, str] | None = None,
        count: int = DEFAULT_FOLDS,
        seed: int = 0,
    ) -> "Folds":
        """Group clips by their prompt, by their system, or not at all.

        Args:
            group: one of `GROUPS`.
            labels: the clips and their systems.
            prompts: of each clip, by id; None: what the ids contain (`P044` of `audiomos2025-track1-S002_P044`).
            count: of folds.
            seed: decides which groups are held out together.
        Raises:
            ConfigError: another group, or fewer than two folds.
        """
        if group not in GROUPS:
            raise ConfigError(f"clips cannot be grouped by {quoted(group)}, expected one of {', '.join(GROUPS)}")
        if count < 2:
            raise ConfigError(f"{count} folds, expected at least 2")
        if group == "prompt":
            group_of = {clip: prompts[clip] if prompts else prompt_id_of(clip) for clip in labels.ids}
        elif group == "system":
            group_of = dict(zip(labels.ids, labels.systems, strict=True))
        else:
            group_of = {clip: clip for clip in labels.ids}
        groups = len(set(group_of.values()))
        return cls(group, group_of, min(count, groups), seed)

    def assign(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """Return the fold of each of N clips, (N,) from 0; the order of the clips does not change the folds.

        Raises:
            DataError: the clips are of one group.
        """
        return assign_folds([self.group_of[clip] for clip in ids], self.count, self.seed)

    def __str__(self) -> str:
        return f"{self.count} folds" if self.group == "none" else f"{self.count} folds by {self.group}"


def assign_folds(groups: Sequence[str], folds: int, seed: int) -> NDArray[np.intp]:
    """Share clips out over folds of about the same size, each group whole.

    Args:
        groups: the group of each of N clips.
        folds: how many; fewer where there are fewer groups.
        seed: decides which groups are held out together.
    Returns:
        (N,) the fold of each clip, from 0.
    Raises:
        DataError: there is only one group.
    """
    sizes = Counter(groups)
    if len(sizes) < 2:
        raise DataError(
            f"all {len(groups)} clips are of one group, {quoted(next(iter(sizes), None))}, so none "
            "can be held out; give "
            "another --cv-group, for example none"
        )
    shuffled = np.random.default_rng(seed).permutation(sorted(sizes)).tolist()
    filled = [0] * min(folds, len(sizes))
    fold_of = {}
    for group in sorted(shuffled, key=lambda group: -sizes[group]):
        fold_of[group] = filled.index(min(filled))  # the largest groups first, each where there is most room
        filled[fold_of[group]] += sizes[group]
    return np.array([fold_of[group] for group in groups], dtype=np.intp)
