"""Manifests: a row a clip, as CSV, JSON Lines or Parquet, with columns of known names."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from json import JSONDecodeError
from pathlib import Path, PurePath
from typing import TypeVar

from audiomos_cache.dataset.audio_paths import audio_folder, embedded_audio, file_name_of, find_audio, path_of
from audiomos_cache.dataset.clip import (
    NO_SPLIT,
    USUAL_SPLITS,
    Clip,
    ClipAudio,
    check_id,
    check_score,
    check_split,
    system_of,
)
from audiomos_cache.dataset.columns import (
    AUDIO,
    COLUMNS,
    OF_AN_ITEM,
    Columns,
    NamedColumns,
    Row,
    is_known,
    ours_of,
)
from audiomos_cache.dataset.tables import (
    collect,
    header_columns,
    read_csv,
    read_lines,
    string_of,
    without_padding,
)
from audiomos_cache.errors import DataError
from audiomos_cache.files import parse_json, parse_number

log = logging.getLogger(__name__)

Value = TypeVar("Value")

MANIFESTS = (".csv", ".tsv", ".jsonl", ".parquet")

# The columns that tell a manifest's header from a list's first line.
_OF_A_HEADER = {"path", "prompt", "mi", "ta"}

# Words in the names of columns that others give to what listeners said.
_OF_LISTENERS = re.compile(
    r"alignment|impression|listeners?|mi|mos|overall|quality|raters?|ratings?|scores?|ta|weights?"
)


def is_manifest(path: Path) -> bool:
    """Return whether a list of labels is a manifest, by its name (.jsonl, .parquet) or its header."""
    if path.suffix.lower() in (".jsonl", ".parquet"):
        return True
    read_lines(path)  # refuses an empty one
    names = header_columns(path, is_known({}))
    return not _OF_A_HEADER.isdisjoint(map(ours_of, names)) and not any(map(_is_number, names))


def read_manifest(
    path: Path,
    *,
    audio_root: Path | None = None,
    columns: Columns | None = None,
    needs: Collection[str] = ("audio", "prompt"),
    place: PurePath | None = None,
) -> dict[str, Clip]:
    """Read the clips of a manifest by id, in its order.

    A split that has one of the usual names is called by ours: `validation` is `dev`, unless there is a `dev` besides.

    Args:
        path, columns, needs, place: see `read_rows`. Without the need of audio, paths may name what is elsewhere, or
            nowhere.
        audio_root: the folder in which the audio lies; None: that of the manifest.
    Raises:
        DataError: a row is not valid, or an id comes twice (in two splits, too).
    """
    parse = partial(_parse_clip, audio_folder(path, audio_root) if "audio" in needs else None)
    clips = read_rows(path, parse, columns=columns, needs=needs, place=place, advice=_advise_on_clips)
    ours = _our_splits({clip.split for clip in clips.values()})
    return {name: replace(clip, split=ours[clip.split]) for name, clip in clips.items()} if ours else clips


def _our_splits(splits: Collection[str]) -> dict[str, str]:
    """Return our names of splits, if they are other than these and no two are one."""
    ours = {split: USUAL_SPLITS.get(split.lower(), split) for split in splits}
    taken = Counter(ours.values())
    ours = {split: name if taken[name] == 1 else split for split, name in ours.items()}
    return {} if all(split == name for split, name in ours.items()) else ours


def read_rows(
    path: Path,
    parse: Callable[[Row], tuple[str, Value]],
    *,
    advice: Callable[[Value, Value], str],
    columns: Columns | None = None,
    needs: Collection[str] = ("audio", "prompt"),
    place: PurePath | None = None,
    keeps_others: bool = False,
) -> dict[str, Value]:
    """Parse every row of a manifest into a key and a value, in its order.

    Args:
        path: JSONL or Parquet by its name, else CSV with a header that holds `path` and `prompt`, or their usual names.
            Columns without a name are ignored, and those at the end have to be empty: what is there belongs to a
            prompt with a comma.
        parse: gets the values by our names of the columns that we read, others by theirs, strings from CSV; of Parquet
            only what we read, `audio` as a `ClipAudio`. It raises a DataError for a row that is not valid.
        advice: what to do about two values with one key, for the message.
        columns: the names that the file has for some of `COLUMNS`; None: the caller does not ask its user for them.
        needs: what will be used of the rows besides their labels: "audio", "prompt".
        place: of a Parquet file, its path in its dataset, which may say what its split is; None: its name alone.
        keeps_others: False: other columns are ignored, with a warning where they look like what listeners said. True:
            only the audio, the prompt and the id are read; all others, labels too, are what they are in the file.
    Raises:
        DataError: the first five problems and their count; a key that comes twice is one.
    """
    reads = {*COLUMNS, AUDIO} if not keeps_others else OF_AN_ITEM
    reads = reads if "prompt" in needs else reads - {"prompt"}
    if path.suffix.lower() == ".parquet":
        from audiomos_cache.dataset.parquet_table import ParquetTable  # pyarrow takes a while

        file = ParquetTable(path, columns, needs, reads, place)
        _warn_of_unread(path, () if keeps_others else tuple(file.unread))
        return collect(path, file.rows(opens_audio="audio" in needs), parse, unit="row", advice=advice)
    named = NamedColumns(path, columns, reads, others_as_they_are=keeps_others)
    if path.suffix.lower() == ".jsonl":
        values = collect(path, read_lines(path), lambda line: parse(named(_parse_object(line))), advice=advice)
        named.refuse_absent()
    else:
        table = read_csv(path, is_known(named.columns))
        named.check_header(table.columns, needs)
        rows = ((record.line, record.fields) for record in table.rows)
        values = collect(path, rows, lambda fields: parse(named(_by_name(table.columns, fields))), advice=advice)
    _warn_of_unread(path, () if keeps_others else tuple(named.unread()))
    return values


def csv_lines(path: Path) -> tuple[str, list[str]]:
    """Read the lines of a CSV manifest's header, and those of each row, as they are in the file.

    Raises:
        DataError: it cannot be read, or is not CSV.
    """
    table = read_csv(path, is_known({}))
    return table.header, [record.raw for record in table.rows]


def _by_name(columns: Sequence[str], fields: Sequence[str]) -> dict[str, str]:
    fields = [*fields[: len(columns)], *without_padding(fields[len(columns) :])]
    if len(fields) != len(columns):
        raise DataError(f"found {len(fields)} fields, expected {len(columns)} as in the header")
    return dict(zip(columns, fields, strict=True))


def _is_number(field: str) -> bool:
    try:
        parse_number(field)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=256)
def _warn_of_unread(path: Path, columns: tuple[str, ...]) -> None:
    """Log, once for a file, which columns look like what listeners said, but are not read."""
    odd = [name for name in columns if any(map(_OF_LISTENERS.fullmatch, _words(name)))]
    if odd:
        log.warning(
            "%s: nothing reads the column%s %s; scores are read from mi and ta alone, one row a clip, unweighted",
            path,
            "s" if len(odd) > 1 else "",
            ", ".join(map(repr, odd)),
        )


def _words(name: str) -> list[str]:
    """Split the name of a column: MI_score, overallQuality, textual alignment."""
    return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def _parse_object(line: str) -> dict[str, object]:
    row, reason = None, ""
    try:
        row = parse_json(line)
    except JSONDecodeError:
        pass
    except ValueError as error:  # a key twice, NaN
        reason = f"; {error}"
    if not isinstance(row, dict):
        raise DataError(f"found {line[:40]!r}, expected a JSON object a line{reason}")
    return row


def advise_on_ids(first: object, again: object) -> str:
    """Say what to do about two rows with one id."""
    both = "" if str(first) == str(again) else f", of {str(first)!r} and {str(again)!r}"
    return f"{both}; add a column id, with an id of its own for each row"


def _advise_on_clips(first: Clip, again: Clip) -> str:
    return advise_on_ids(first.path, again.path)


def _parse_clip(root: Path | None, row: Row) -> tuple[str, Clip]:
    """Read the clip of a row; `root` None: its audio will not be opened, and may lie anywhere."""
    name = file_name_of(row)
    audio = find_audio(root, row) if root else _named_audio(row)
    clip_id = check_id(string_of(row, "id") or PurePath(name).stem)
    system = string_of(row, "system") or system_of(clip_id)
    split = check_split(string_of(row, "split") or NO_SPLIT)
    mi, ta = (check_score(kind, row[kind]) if row.get(kind) not in (None, "") else None for kind in ("mi", "ta"))
    if (mi is None) != (ta is None):
        raise DataError(f"found {'ta' if mi is None else 'mi'} alone, expected both mi and ta, or neither")
    return clip_id, Clip(clip_id, audio, system, clip_id, string_of(row, "prompt") or None, split, mi, ta)


def _named_audio(row: Row) -> ClipAudio:
    """Return the audio of a row that will not be opened, so that it can be named."""
    return embedded_audio(row) or Path(path_of(row))
