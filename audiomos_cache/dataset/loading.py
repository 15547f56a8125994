"""A MusicEval folder or a manifest becomes `Clip` records. No audio is opened here."""

from collections.abc import Sequence
from pathlib import Path

from audiomos_cache.dataset.clip import Clip, check_split, choose_splits, clip_id_of, system_of
from audiomos_cache.dataset.labels import Labels, Ratings, read_id_list, read_labels, read_ratings, read_system_truth
from audiomos_cache.dataset.musiceval import find_lists, read_split
from audiomos_cache.dataset.tables import read_manifest
from audiomos_cache.errors import DataError

__all__ = [
    "Clip",
    "Labels",
    "Ratings",
    "check_split",
    "clip_id_of",
    "load_dataset",
    "read_id_list",
    "read_labels",
    "read_ratings",
    "read_system_truth",
    "system_of",
]


def load_dataset(data: Path, splits: Sequence[str] = ()) -> dict[str, tuple[Clip, ...]]:
    """Read a MusicEval folder, its eval-phase folder (or that one's `DATA`), or a .csv or .jsonl manifest.

    Args:
        data: the folder or the manifest.
        splits: those to read; none = all there are.
    Returns:
        Clips in their list's order, by split: train, dev, test, eval, then others alphabetically.
    Raises:
        DataError: a list, label or name is not what it should be, or a split is not there.
    """
    if data.is_dir():
        lists = find_lists(data)
        return {split: read_split(split, lists[split]) for split in choose_splits(data, lists, splits)}
    if data.suffix.lower() not in (".csv", ".jsonl"):
        found = "a file of another kind" if data.exists() else "nothing there"
        raise DataError(f"{data}: {found}, expected a MusicEval folder, or a .csv or .jsonl manifest")
    by_split: dict[str, list[Clip]] = {}
    for clip in read_manifest(data).values():
        by_split.setdefault(clip.split, []).append(clip)
    return {split: tuple(by_split[split]) for split in choose_splits(data, by_split, splits)}
