"""What each listener said of each clip: MusicEval's `person_mos` lists."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.dataset.clip import check_id, check_score
from audiomos_cache.dataset.lines import collect, read_lines
from audiomos_cache.errors import DataError, first_five


@dataclass(frozen=True)
class Ratings:
    """Single ratings of clips, in their list's order.

    Attributes:
        source: the list, or lists, for messages.
        ids: N clip ids.
        mi: (N, R) float64, whole numbers 1 to 5, R = the most that a clip has; NaN after those of a clip with fewer.
        ta: likewise, of the same listeners in the same places.
    """

    source: str
    ids: tuple[str, ...]
    mi: NDArray[np.float64]
    ta: NDArray[np.float64]

    def of(self, ids: Sequence[str]) -> "Ratings":
        """Take the ratings of these clips, in this order.

        Raises:
            DataError: there are none of a clip; names it.
        """
        rows = {clip_id: row for row, clip_id in enumerate(self.ids)}
        if unrated := [clip_id for clip_id in ids if clip_id not in rows]:
            raise DataError(f"{self.source}: no ratings of {first_five(unrated)}, expected one or more of every clip")
        chosen = [rows[clip_id] for clip_id in ids]
        return replace(self, ids=tuple(ids), mi=self.mi[chosen], ta=self.ta[chosen])


def read_ratings(*paths: Path) -> Ratings:
    """Read lists of lines `name.wav,rater,MI,TA`, without a header; a clip's lines may stand anywhere in them.

    A rating is one of the ranks of the scale, a whole number. Others are refused: they are means of several ratings,
    and to round them, or to share them out between two ranks, would make up what a listener said.

    Args:
        paths: one list or more, such as those of the splits.
    Raises:
        DataError: a line is not such, or a listener rates a clip twice.
    """
    given: dict[str, tuple[str, float, float]] = {}
    for path in paths:
        ratings = collect(path, read_lines(path), _parse_rating)
        if again := [rating for rating in ratings if rating in given]:
            raise DataError(f"{path}: ratings that another list holds too: {first_five(again)}; remove them from one")
        given |= ratings
    of_clip: dict[str, list[tuple[float, float]]] = {}
    for clip_id, mi, ta in given.values():
        of_clip.setdefault(clip_id, []).append((mi, ta))
    both = np.full((2, len(of_clip), max(map(len, of_clip.values()))), np.nan)
    for row, pairs in enumerate(of_clip.values()):
        both[:, row, : len(pairs)] = np.transpose(pairs)
    return Ratings(", ".join(map(str, paths)), tuple(of_clip), *both)


def _parse_rating(line: str) -> tuple[str, tuple[str, float, float]]:
    """Read clip and rater, as what comes only once, and the clip's id, MI and TA."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 4:
        raise DataError(f"found {len(fields)} fields, expected 4: name.wav,rater,MI,TA")
    clip_id, rater = check_id(fields[0]), fields[1]
    if not rater:
        raise DataError(f"found no rater of {clip_id!r}, expected a name or number in the second field")
    return f"{clip_id},{rater}", (clip_id, _check_rank("MI", fields[2]), _check_rank("TA", fields[3]))


def _check_rank(kind: str, value: str) -> float:
    rank = check_score(kind, value)
    if not rank.is_integer():
        raise DataError(f"{kind} is {value!r:.50}, expected a whole number: one listener's rating, not a mean")
    return rank
