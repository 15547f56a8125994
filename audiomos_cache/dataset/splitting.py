"""Divide a labelled list in two: clips to train on, and clips to choose checkpoints by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.artifacts import atomic_write, refuse_occupied
from audiomos_cache.dataset.labels import Labels, parse_mos, read_labels, refuse_split_of_list
from audiomos_cache.dataset.loading import read_prompts_of
from audiomos_cache.dataset.manifests import csv_lines, is_manifest, read_manifest
from audiomos_cache.dataset.tables import collect, read_lines
from audiomos_cache.errors import DataError, one_of

Chosen = NDArray[np.bool_]


def stratified(ids: Sequence[str], systems: Sequence[str], fraction: float, seed: int) -> Chosen:
    """Set the same share of each system's clips aside, as near as whole clips allow.

    A system with one clip keeps it, and none gives its last clip: every system is also trained on.

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
    tie_breaks = rng.random(len(quotas)) * 1e-6  # decides between equal remainders
    while counts.sum() < min(total, most.sum()):
        counts[np.argmax(np.where(counts < most, quotas - counts + tie_breaks, -np.inf))] += 1
    return counts


def held_out(groups: Sequence[str], fraction: float, seed: int, kind: str = "groups") -> Chosen:
    """Set whole groups (systems, prompts) aside, chosen at random, as near to the share of clips as they come.

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


HeldOut = Literal["clips", "systems", "prompts"]
SIDES = ("train", "dev")


@dataclass(frozen=True, eq=False)
class LabelledList:
    """A list or manifest, row by row.

    Attributes:
        path: the file.
        labels: of its N clips.
        prompts: the N prompts where they are known, else their ids.
        header: the manifest's, with its line break; empty where there is none.
        rows: the N rows, unchanged, with their line breaks.
    """

    path: Path
    labels: Labels
    prompts: tuple[str, ...]
    header: str
    rows: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two lists.

    Attributes:
        path: where it is written.
        clips: its N ids.
        systems, prompts: how many there are.
        mi, ta: (N,) float64, the labels.
    """

    path: Path
    clips: tuple[str, ...]
    systems: int
    prompts: int
    mi: NDArray[np.float64]
    ta: NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class SplitResult:
    """Two lists that were written.

    Attributes:
        source: the list that was divided.
        sides: "train" and "dev".
    """

    source: Path
    sides: Mapping[str, Side]

    def __repr__(self) -> str:
        return "\n".join(
            f"{name}: {side.path}, {len(side.clips)} clips of {side.systems} systems and {side.prompts} prompts, "
            f"MI {side.mi.mean():.3f}, TA {side.ta.mean():.3f}"
            for name, side in self.sides.items()
        )

    def to_dict(self) -> dict[str, Any]:
        """Return of each side its path, clip ids, counts, and the labels' means and deviations."""
        return {
            name: {
                "path": str(side.path),
                "clips": list(side.clips),
                "systems": side.systems,
                "prompts": side.prompts,
                "mi": {"mean": float(side.mi.mean()), "sd": float(side.mi.std())},
                "ta": {"mean": float(side.ta.mean()), "sd": float(side.ta.std())},
            }
            for name, side in self.sides.items()
        }


def split(
    path: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    hold_out: HeldOut = "clips",
    fraction: float = 0.1,
    seed: int = 1984,
    split: str | None = None,
    overwrite: bool = False,
) -> SplitResult:
    """Divide a labelled list in two, `NAME-train` and `NAME-dev`, with its own lines.

    Args:
        path: a mos list, or a .csv, .tsv or .jsonl manifest with labels.
        out: the folder of the two; None: that of `path`, which a manifest's must be.
        hold_out: what is set aside: "clips" of each system, whole "systems", or whole "prompts".
        fraction: the share of clips to set aside, between 0 and 1.
        seed: of the choice.
        split: of a manifest that names splits, the one to divide; None: all rows.
        overwrite: whether lists of these names are replaced.
    Raises:
        ArgumentError: an unknown `hold_out`, or a split of a list. DataError: the list or the fraction is not valid,
        or it cannot be divided so.
        OutputExistsError: a list of one of these names exists.

    >>> from pathlib import Path
    >>> size = Path("list.txt").write_text("".join(f"S{n % 2}_P{n}.wav,3.0,4.0\\n" for n in range(10)))
    >>> result = split("list.txt", fraction=0.2)
    >>> {name: len(side.clips) for name, side in result.sides.items()}
    {'train': 8, 'dev': 2}
    """
    one_of("hold_out", hold_out, get_args(HeldOut))
    path, out = Path(path), None if out is None else Path(out)
    if not 0 < fraction < 1:
        raise DataError(f"fraction is {fraction}, expected a share between 0 and 1")
    refuse_split_of_list(path, split)
    if path.suffix.lower() == ".parquet":
        raise DataError(f"{path}: a Parquet file, expected a list, or a manifest of text (.csv, .tsv, .jsonl)")
    folder = path.parent if out is None else out
    paths = {side: folder / f"{path.stem}-{side}{path.suffix}" for side in SIDES}
    if is_manifest(path) and folder.resolve() != path.parent.resolve():
        raise DataError(f"{path}: names audio from its own folder, where the two manifests must be; leave out --out")
    whole = read_list(path, split)
    try:
        chosen = _choose(whole, hold_out, fraction, seed)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    rows_of = dict(zip(SIDES, (np.flatnonzero(~chosen).tolist(), np.flatnonzero(chosen).tolist()), strict=True))
    contents = {
        paths[side]: (whole.header + "".join(whole.rows[row] for row in rows)).encode()
        for side, rows in rows_of.items()
    }
    left = [each for each, content in contents.items() if not (each.is_file() and each.read_bytes() == content)]
    refuse_occupied(left, what="list", overwrite=overwrite)  # not those that an interrupted call has written
    for each in left:
        atomic_write(each, contents[each])
    return SplitResult(path, {side: _side(whole, rows, paths[side]) for side, rows in rows_of.items()})


def read_list(path: Path, split: str | None = None) -> LabelledList:
    """Read a mos list or a manifest, with its rows unchanged.

    Raises:
        DataError: as `read_labels`.
    """
    labels = read_labels(path, split)
    header, rows = _rows_of(path)
    prompts = read_prompts_of(path, labels.ids)
    return LabelledList(
        path,
        labels,
        tuple(map(prompts.__getitem__, labels.ids)),
        header,
        tuple(rows[clip_id] for clip_id in labels.ids),
    )


def _rows_of(path: Path) -> tuple[str, dict[str, str]]:
    """Return the header, and each clip's row; a row of CSV may take several lines."""
    if not is_manifest(path):
        return "", collect(path, read_lines(path), lambda line: (parse_mos(line)[0], f"{line}\n"))
    clips = read_manifest(path, needs=())
    if path.suffix.lower() == ".jsonl":
        return "", dict(zip(clips, (f"{line}\n" for _, line in read_lines(path)), strict=True))
    header, rows = csv_lines(path)
    return header, dict(zip(clips, rows, strict=True))


def _choose(whole: LabelledList, hold_out: HeldOut, fraction: float, seed: int) -> Chosen:
    if hold_out == "clips":
        return stratified(whole.labels.ids, whole.labels.systems, fraction, seed)
    return held_out(whole.labels.systems if hold_out == "systems" else whole.prompts, fraction, seed, hold_out)


def _side(whole: LabelledList, rows: Sequence[int], path: Path) -> Side:
    labels = whole.labels
    return Side(
        path,
        tuple(labels.ids[row] for row in rows),
        len({labels.systems[row] for row in rows}),
        len({whole.prompts[row] for row in rows}),
        labels.mi[rows],
        labels.ta[rows],
    )
