"""The record of a clip, and the checks of every name, split and score that a list contains."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Protocol

from audiomos_cache.audio.source import AudioSource
from audiomos_cache.errors import DataError, first_five
from audiomos_cache.files import parse_number

PREFIX = "audiomos2025-track1-"
SPLIT_ORDER = ("train", "dev", "test", "eval")
NO_SPLIT = "all"  # of a clip whose manifest names none

# Our names of splits by the usual ones. MusicEval's labelled `test` stays `test`, though the challenge gave it out as
# `eval`.
USUAL_SPLITS = {
    "train": "train", "training": "train",
    "dev": "dev", "validation": "dev", "valid": "dev", "val": "dev",
    "test": "test", "testing": "test",
    "eval": "eval", "evaluation": "eval",
}  # fmt: skip


class ClipAudio(AudioSource, Protocol):
    """Where the audio of a clip is: a `Path`, or a row of a Parquet file."""

    @property
    def name(self) -> str:
        """The name of the audio file, without folders."""

    def exists(self) -> bool:
        """Return whether it is there."""

    def stat(self) -> os.stat_result:
        """Return when the file that it is in was changed."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One audio file and what is known about it.

    Attributes:
        id: file name without `.wav`, or the manifest's.
        path: where its audio is: a file, or a row of a Parquet file.
        prompt_id: `P044`; the clip's id where its prompt is its own (demo systems, manifests).
        prompt: None where the dataset has none for this clip.
        mi: mean opinion score, 1 to 5; None, as `ta`, where there is no label.
        ta: likewise.
    """

    id: str
    path: ClipAudio
    system: str
    prompt_id: str
    prompt: str | None
    split: str
    mi: float | None
    ta: float | None


def system_of(clip_id: str) -> str:
    """Return the generator of a clip: `S002` of `audiomos2025-track1-S002_P044`; the whole name if it has no `_`."""
    bare = clip_id.removeprefix(PREFIX)
    return bare.partition("_")[0] or bare


def clip_id_of(name: str) -> str:
    """Return a clip's id: its name without a trailing `.wav` (other dots stay)."""
    return name.removesuffix(".wav")


def printable(string: str) -> str:
    r"""Return a string with its control characters as Python writes them: `\n`, `\x1b`."""
    return re.sub(r"[\x00-\x1f\x7f]", lambda found: repr(found[0])[1:-1], string)


def in_other_letters(prompt: str) -> bool:
    """Return whether most letters of a prompt are not Latin: the encoders and the labels of MusicEval are English."""
    letters = [letter for letter in unicodedata.normalize("NFKC", prompt) if letter.isalpha()]  # also of full width
    latin = sum("LATIN" in unicodedata.name(letter, "") for letter in letters)
    return 2 * latin < len(letters)


def check_id(name: str) -> str:
    """Return the clip id of a name, after checking that an answer file can hold it.

    Raises:
        DataError: it is empty, or contains a comma or a control character.
    """
    clip_id = clip_id_of(name)
    if not clip_id or re.search(r"[,\x00-\x1f\x7f]", clip_id):
        raise DataError(f"found the id {clip_id!r}, expected a name without commas and control characters")
    return clip_id


def check_split(split: str) -> str:
    """Return the split itself, after checking that it can name a file.

    Raises:
        DataError: it cannot.
    """
    if not re.fullmatch(r"\w[\w.-]*", split, re.ASCII) or re.search(r"-\d{5}$", split):
        raise DataError(
            f"found the split {split!r}, expected letters, digits, '_', '-' and '.', and no '-' with five digits "
            "at its end, which number the files of a large split"
        )
    return split


def choose_splits(data: Path, existing: Iterable[str], requested: Sequence[str]) -> list[str]:
    """Order the splits of a dataset that are to be read: train, dev, test, eval, then others alphabetically.

    Args:
        data: the dataset, for the message.
        existing: all splits of the dataset.
        requested: those to read, or their usual names; empty: all that exist.
    Raises:
        DataError: a requested one does not exist; names those that do.
    """
    rank = {split: number for number, split in enumerate(SPLIT_ORDER)}
    ordered = sorted(existing, key=lambda split: (rank.get(split, len(rank)), split))
    requested = [split if split in ordered else USUAL_SPLITS.get(split.lower(), split) for split in requested]
    if unknown := [repr(split) for split in requested if split not in ordered]:
        raise DataError(f"{data}: split {first_five(unknown)} not found, expected one of {', '.join(ordered)}")
    return [split for split in ordered if not requested or split in requested]


def check_score(kind: str, value: object) -> float:
    """Read a mean opinion score from a list's string or a JSON number.

    Raises:
        DataError: it is not a number from 1 to 5.
    """
    try:
        number = parse_number(value) if isinstance(value, str) else value
        score = float(number) if isinstance(number, int | float) else 0.0
    except (ValueError, OverflowError):
        score = 0.0
    if isinstance(value, bool) or not 1 <= score <= 5:  # NaN is not
        raise DataError(f"{kind} is {value!r:.50}, expected a number from 1 to 5")
    return score


def inside(folder: Path, *names: str) -> Path:
    """Return the path of a file that a list names, the last of `names`.

    The folder that holds the audio may itself be a link to another disk: the user put it there, not the list.

    Raises:
        DataError: it leaves the folder, on this system or on Windows, by its name or by a symlink.
    """
    path = folder.joinpath(*names)
    leaves = any(PureWindowsPath(name).anchor or ".." in PureWindowsPath(name).parts for name in names)
    try:
        homes = (folder.resolve(), folder.joinpath(*names[:-1]).resolve())
        leaves = leaves or not any(path.resolve().is_relative_to(home) for home in homes)
    except (OSError, RuntimeError, ValueError):  # a loop of symlinks, a NUL
        leaves = True
    if leaves:
        raise DataError(f"{names[-1]!r} leaves the folder, expected a file inside {folder.absolute()}")
    return path
