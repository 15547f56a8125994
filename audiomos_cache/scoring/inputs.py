"""What is to be scored: files, folders, arrays, or the rows of a manifest."""

import logging
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from audiomos_cache.audio.decode import Audio
from audiomos_cache.audio.source import AudioSource, EncodedAudio
from audiomos_cache.dataset.audio_paths import audio_folder, file_name_of, find_audio
from audiomos_cache.dataset.clip import clip_id_of, printable
from audiomos_cache.dataset.columns import OF_AN_ITEM
from audiomos_cache.dataset.manifests import MANIFESTS, advise_on_ids, read_rows
from audiomos_cache.dataset.tables import string_of
from audiomos_cache.errors import DataError, first_five
from audiomos_cache.files import is_folder
from audiomos_cache.progress import counted
from audiomos_cache.scoring.results import Score
from audiomos_cache.scoring.windows import DecodedClip

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Item:
    """A clip to score.

    Attributes:
        id: its score has the same.
        audio: an audio file, its bytes, or samples; or what is wrong with what was given, which is raised when the
            clip is to be scored.
        prompt: the text that the music was made from, as it was given; None: MI alone is asked for.
        columns: what else a manifest says of it; its score has the same.
        problem: what is wrong with its prompt, which is raised likewise.
    """

    id: str
    audio: AudioSource | Audio | DataError
    prompt: str | None = None
    columns: Mapping[str, object] = field(default_factory=dict)
    problem: DataError | None = None

    @property
    def path(self) -> AudioSource | None:
        """The file, where it is one, or the row of a Parquet file."""
        return None if isinstance(self.audio, Audio | EncodedAudio | DataError) else self.audio

    @property
    def text(self) -> str | None:
        """The string that is encoded: the prompt without outer blanks, as in every list of prompts; None: nothing."""
        return (self.prompt or "").strip() or None

    def decode(self) -> DecodedClip:
        """Read the clip, whole.

        Raises:
            DataError: it cannot be read, or is silent.
        """
        if isinstance(self.audio, DataError):
            raise self.audio
        if self.problem:
            raise self.problem
        if isinstance(self.audio, Audio):
            return DecodedClip(f"clip {self.id}", self.audio)
        return DecodedClip.read(self.audio)

    def score(self, **values: Any) -> Score:
        """Return its score, with what was found; the keywords are those of `Score`."""
        return Score(self.id, str(self.path) if self.path else None, self.prompt, columns=self.columns, **values)

    def failed(self, error: Exception) -> Score:
        """Return a score without numbers, with the error."""
        return self.score(error=str(error))


SUFFIXES = (
    ".wav",
    ".flac",
    ".mp3",
    ".ogg",
    ".oga",
    ".opus",
    ".m4a",
    ".aac",
    ".mp4",
    ".webm",
    ".aif",
    ".aiff",
    ".aifc",
    ".caf",
    ".rf64",
    ".w64",
    ".au",
)  # of what is taken from a folder, in any letter case


def items_of_paths(paths: Iterable[Path], prompt: str | None) -> list[Item]:
    r"""List files to score with one prompt, in the order given, those of a folder sorted by name.

    Args:
        paths: files, which need not exist (each then has an error), and folders, of which every audio file is taken
            at any depth, but hidden ones, and those in linked folders. A file's id is its name, in a
            folder its path there; without a trailing `.wav`, control characters as Python writes them (`\n`).
        prompt: of all of them, taken without outer blanks; None: MI alone is asked for.
    Raises:
        DataError: a manifest, a folder without audio, a file or an id twice, a file named `.wav` alone, a prompt that
            is not UTF-8. The first five problems are named.
        OSError: a folder cannot be read.
    """
    prompt = string_of({"prompt": prompt}, "prompt")
    paths = [*paths]
    if lists := [path for path in paths if path.suffix.lower() in MANIFESTS and not is_folder(path)]:
        name = printable(str(lists[0]))
        raise DataError(f"{name}: a manifest, expected audio; give it as --manifest {shlex.quote(name)}")
    items: dict[str, Item] = {}
    known: set[Path] = set()
    problems = []
    for given in paths:
        for name, path, real in _files(given):
            try:
                item = Item(_id_of_file(name), path, prompt)
                if real in known:
                    raise DataError("given twice")
                if item.id in items:
                    first = printable(str(items[item.id].path))
                    raise DataError(f"found the id {item.id!r} again, expected it only of {first}")
                items[item.id] = item
                known.add(real)
            except DataError as problem:
                problems.append(f"{str(path)!r}: {problem}")
    if problems:
        raise DataError(f"{first_five(problems)}; give each file once, or ids of their own in a --manifest")
    return list(items.values())


def items_of_manifest(path: Path, audio_root: Path | None = None) -> list[Item]:
    """Read what to score from a manifest, in its order, with the columns `path`, `prompt` and perhaps `id`.

    A blank prompt is "", JSON's null None. Without an id it is the file's name, as if the file had been given (a
    dataset's manifest takes it without any suffix); a trailing `.wav` is left out of both. Other columns
    are kept, of Parquet those that a dataset's manifest has.

    Args:
        path: the manifest (.csv, .tsv, .jsonl, .parquet); of Parquet, `audio` may hold the files.
        audio_root: the folder in which the audio lies; None: that of the manifest.
    Raises:
        DataError: it is no manifest, or a row is not what it should be: no path, no prompt, an id twice, a file that is
            not in the folder. The first five problems are named.
    """
    if path.suffix.lower() not in MANIFESTS:
        raise DataError(f"{path}: a file of another kind, expected a manifest ({', '.join(MANIFESTS)})")
    parse = partial(_parse_item, audio_folder(path, audio_root))
    return list(read_rows(path, parse, advice=_advise_on_items, keeps_others=True).values())


def _advise_on_items(first: Item, again: Item) -> str:
    return advise_on_ids(first.path, again.path)


def _parse_item(root: Path, row: Mapping[str, object]) -> tuple[str, Item]:
    name = file_name_of(row)
    if "prompt" not in row:
        raise DataError("found no prompt, expected a string, or null for MI alone")
    audio = find_audio(root, row)
    given = string_of(row, "id")
    clip_id = _check_id(given) if given else _id_of_file(name)
    return clip_id, Item(clip_id, audio, string_of(row, "prompt"), _others(row))


def _others(row: Mapping[str, object]) -> dict[str, object]:
    """Return the columns that are not read here, as JSON can hold them: an infinity of Parquet is nothing."""
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in row.items()
        if name and name not in OF_AN_ITEM
    }


def _files(given: Path) -> Iterator[tuple[str, Path, Path]]:
    """Give the name, the path and the resolved path of each file that is asked for by one path."""
    try:
        folder = given.is_dir()
        home = (given if folder else given.parent).resolve()  # a link next to its file is another one
    except (OSError, RuntimeError):  # a name that is too long, a loop of symlinks: its score has the error
        folder, home = False, given.parent.absolute()
    for name in _audio_in(given) if folder else [given.name]:
        yield name, given / name if folder else given, home / name


def _audio_in(folder: Path) -> list[str]:
    def stop(error: OSError) -> None:
        raise error

    found = []
    left_out: Counter[str] = Counter()
    for root, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = Path(root).relative_to(folder)
        for name in names:
            suffix = Path(name).suffix.lower()
            if name.startswith(".") or suffix not in SUFFIXES:
                left_out["hidden" if name.startswith(".") else suffix or "no suffix"] += 1
            else:
                found.append((here / name).as_posix())
    if not found:
        raise DataError(f"{folder}: no audio in it, expected files named {', '.join(SUFFIXES)}, not hidden ones")
    if left_out:
        kinds = first_five([f"{printable(kind)} {count}" for kind, count in sorted(left_out.items())])
        log.info("%s: %s left out: %s", printable(str(folder)), counted(left_out.total(), "file"), kinds)
    return sorted(found)


def _id_of_file(name: str) -> str:
    """Return the id of a file, whose name may hold anything: an odd one must not keep others from their scores."""
    return _check_id(printable(name))


def _check_id(name: str) -> str:
    clip_id = clip_id_of(name)
    if not clip_id or clip_id != printable(clip_id):
        raise DataError(f"found the id {clip_id!r}, expected a name without control characters")
    return clip_id
