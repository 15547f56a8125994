"""Labels: the mean opinion scores of a list's clips, the systems' scores, and each listener's ratings."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.dataset.clip import NO_SPLIT, PREFIX, Clip, check_id, check_score, choose_splits, system_of
from audiomos_cache.dataset.manifests import is_manifest, read_manifest
from audiomos_cache.dataset.tables import collect, read_lines
from audiomos_cache.errors import ArgumentError, DataError, first_five

Scores = tuple[float, float]  # MI, TA


@dataclass(frozen=True)
class Labels:
    """Labelled clips in their list's order.

    Attributes:
        ids: N clip ids.
        systems: the N systems they come from.
        mi: (N,) float64, 1 to 5.
        ta: (N,) float64, 1 to 5.
    """

    ids: tuple[str, ...]
    systems: tuple[str, ...]
    mi: NDArray[np.float64]
    ta: NDArray[np.float64]


def read_labels(path: Path, split: str | None = None, *, of: Collection[str] = ()) -> Labels:
    """Read a mos list (`name.wav,MI,TA`), or a manifest with mi and ta in every requested row.

    Args:
        path: the list, or a manifest (.csv, .tsv, .jsonl, .parquet).
        split: of a manifest that names splits, the one whose rows to read; None: all rows. A list has no splits.
        of: clips; without `split`, the one split that they are of is read, if they are of one.
    Returns:
        The labels in the file's order; systems are those of the manifest, or those in a list's names.
    Raises:
        DataError: a row is not valid, an id comes twice, or the manifest does not have the split.
    """
    if is_manifest(path):
        clips = list(read_manifest(path, needs=()).values())
        split = split or _split_of(clips, of)
        clips = _clips_in(path, clips, split)
        if bare := [clip.id for clip in clips if clip.mi is None]:
            expected = "every row" if split is None else f"every row of split {split}"
            raise DataError(f"{path}: no label for {first_five(bare)}, expected mi and ta in {expected}")
        rows = [(clip.id, clip.system, clip.mi, clip.ta) for clip in clips]
    else:
        scores = collect(path, read_lines(path), parse_mos)
        rows = [(name, system_of(name), *pair) for name, pair in scores.items()]
    ids, systems, mi, ta = zip(*rows, strict=True)
    return Labels(ids, systems, np.array(mi, np.float64), np.array(ta, np.float64))


def refuse_split_of_list(path: Path, split: str | None) -> None:
    """Refuse to choose a split of a list of labels, which has none.

    Raises:
        ArgumentError: `path` is not a manifest, and `split` is given.
    """
    if split is not None and not is_manifest(path):
        raise ArgumentError(f"--split goes with a manifest; {path} is a list of one split; leave out --split {split}")


def _split_of(clips: Sequence[Clip], ids: Collection[str]) -> str | None:
    """Return the split that the clips with these ids are of; None if they are not of one split."""
    splits = {clip.split for clip in clips if clip.id in ids}
    return splits.pop() if len(splits) == 1 else None


def _clips_in(path: Path, clips: list[Clip], split: str | None) -> list[Clip]:
    """Return a manifest's clips of one split; all of them if `split` is None, or no row names a split."""
    splits = {clip.split for clip in clips}
    if split is None or splits == {NO_SPLIT}:
        return clips
    chosen = choose_splits(path, splits, [split])
    return [clip for clip in clips if clip.split in chosen]


def read_id_list(path: Path) -> tuple[str, ...]:
    """Read the ids of an eval list (one a line, with or without `.wav`), or of a mos list.

    Raises:
        DataError: a line is not valid, or an id comes twice.
    """
    return tuple(collect(path, read_lines(path), parse_id))


def read_system_truth(path: Path) -> dict[str, Scores]:
    """Read each system's MI and TA from lines of `system,MI,TA`; a header is skipped.

    Raises:
        DataError: a line is not valid, or a system comes twice.
    """
    lines = read_lines(path)
    if not re.search(r",\s*([-+.\d]|nan)", lines[0][1], re.IGNORECASE):
        lines = lines[1:]

    def parse_system(line: str) -> tuple[str, Scores]:
        system, scores = parse_mos(line)
        return system.removeprefix(PREFIX), scores

    return collect(path, lines, parse_system)


def parse_mos(line: str) -> tuple[str, Scores]:
    """Read id, and MI and TA, of a line `name.wav,MI,TA`."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 3:
        raise DataError(f"found {len(fields)} fields, expected 3: name.wav,MI,TA")
    return check_id(fields[0]), (check_score("MI", fields[1]), check_score("TA", fields[2]))


def parse_id(line: str) -> tuple[str, None]:
    """Read the id of a line that holds it alone, or of a mos list's."""
    fields = line.split(",")
    if len(fields) not in (1, 3):
        raise DataError(f"found {len(fields)} fields, expected an id, or name.wav,MI,TA")
    return check_id(fields[0].strip()), None


@dataclass(frozen=True)
class Ratings:
    """Single ratings of clips, in their list's order.

    Attributes:
        source: the list, or lists, for messages.
        ids: N clip ids.
        mi: (N, R) float64, whole numbers 1 to 5, R = the most that a clip has; NaN after those of a clip with fewer.
        ta: likewise, of the same listeners in the same columns.
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
    """Read lists of lines `name.wav,rater,MI,TA`, without a header; a clip's lines may be anywhere in them.

    A rating is one of the ranks of the scale, a whole number. Others are refused: they are means of several ratings,
    and to round them, or to share them out between two ranks, would invent a listener's rating.

    Args:
        paths: one list or more, such as those of the splits.
    Raises:
        DataError: a line is not valid, or a listener rates a clip twice.
    """
    given: dict[str, tuple[str, float, float]] = {}
    for path in paths:
        ratings = collect(path, read_lines(path), _parse_rating)
        if again := [rating for rating in ratings if rating in given]:
            raise DataError(f"{path}: ratings that are in another list too: {first_five(again)}; remove them from one")
        given |= ratings
    of_clip: dict[str, list[tuple[float, float]]] = {}
    for clip_id, mi, ta in given.values():
        of_clip.setdefault(clip_id, []).append((mi, ta))
    both = np.full((2, len(of_clip), max(map(len, of_clip.values()))), np.nan)
    for row, pairs in enumerate(of_clip.values()):
        both[:, row, : len(pairs)] = np.transpose(pairs)
    return Ratings(", ".join(map(str, paths)), tuple(of_clip), *both)


def _parse_rating(line: str) -> tuple[str, tuple[str, float, float]]:
    """Read clip and rater, as a key that may come only once, and the clip's id, MI and TA."""
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
