"""Manifests: a row a clip, as CSV, JSON Lines or Parquet, with columns of known names."""

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from json import JSONDecodeError
from pathlib import Path, PurePath
from typing import TypeVar, cast

from audiomos_cache.dataset.audio_paths import audio_folder, file_name_of, find_audio, path_of
from audiomos_cache.dataset.clip import NO_SPLIT, Clip, ClipAudio, check_id, check_score, check_split, system_of
from audiomos_cache.dataset.tables import (
    collect,
    header_columns,
    read_csv,
    read_lines,
    string_of,
    without_padding,
)
from audiomos_cache.errors import DataError, shown
from audiomos_cache.files import parse_json

log = logging.getLogger(__name__)

Value = TypeVar("Value")
Row = Mapping[str, object]
Columns = Mapping[str, str]  # ours -> the name that the file has for it

MANIFESTS = (".csv", ".tsv", ".jsonl", ".parquet")
COLUMNS = ("path", "prompt", "id", "system", "split", "mi", "ta")
FILE_NAME = "file_name"  # what Hugging Face's audiofolder calls `path`

# Words in the names of columns that others give to what listeners said.
_OF_LISTENERS = re.compile(
    r"alignment|impression|listeners?|mi|mos|overall|quality|raters?|ratings?|scores?|ta|weights?"
)


def is_manifest(path: Path) -> bool:
    """Return whether a list of labels is a manifest, by its name (.jsonl, .parquet) or its header."""
    if path.suffix.lower() in (".jsonl", ".parquet"):
        return True
    read_lines(path)  # refuses an empty one
    return not {"path", FILE_NAME}.isdisjoint(header_columns(path, _known({})))


def read_manifest(
    path: Path,
    *,
    audio_root: Path | None = None,
    columns: Columns | None = None,
    needs: Collection[str] = ("audio", "prompt"),
    place: PurePath | None = None,
) -> dict[str, Clip]:
    """Read the clips of a manifest by id, in its order.

    Args:
        path, columns, needs, place: see `read_rows`. Without the need of audio, paths may name what is elsewhere, or
            nowhere.
        audio_root: the folder in which the audio lies; None: that of the manifest.
    Raises:
        DataError: a row is not valid, or an id comes twice (in two splits, too).
    """
    parse = partial(_parse_clip, audio_folder(path, audio_root) if "audio" in needs else None)
    return read_rows(path, parse, columns=columns, needs=needs, place=place, advice=_advise_on_clips)


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
        path: JSONL or Parquet by its name, else CSV with a header that holds `path` (or `file_name`) and `prompt`.
            Columns without a name are ignored, and those at the end have to be empty: what is there belongs to a
            prompt with a comma.
        parse: gets the values by our names of the columns that we read, others by theirs, strings from CSV; of Parquet
            only what we read, `audio` as a `ClipAudio`. It raises a DataError for a row that is not valid.
        advice: what to do about two values with one key, for the message.
        columns: the names that the file has for some of `COLUMNS`; None: the caller does not ask its user for them.
        needs: what will be used of the rows besides their labels: "audio", "prompt".
        place: of a Parquet file, its path in its dataset, which may say what its split is; None: its name alone.
        keeps_others: False: other columns are ignored, with a warning where they look like what listeners said.
    Raises:
        DataError: the first five problems and their count; a key that comes twice is one.
    """
    if path.suffix.lower() == ".parquet":
        from audiomos_cache.dataset.parquet_table import ParquetTable  # pyarrow takes a while

        file = ParquetTable(path, columns, needs, place)
        _warn_of_unread(path, () if keeps_others else tuple(file.unread))
        return collect(path, file.rows(opens_audio="audio" in needs), parse, unit="row", advice=advice)
    named = _NamedColumns(path, columns)
    if path.suffix.lower() == ".jsonl":
        values = collect(path, read_lines(path), lambda line: parse(named(_parse_object(line))), advice=advice)
        named.refuse_absent()
    else:
        table = read_csv(path, _known(named.columns))
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
    table = read_csv(path, _known({}))
    return table.header, [record.raw for record in table.rows]


def _by_name(columns: Sequence[str], fields: Sequence[str]) -> dict[str, str]:
    fields = [*fields[: len(columns)], *without_padding(fields[len(columns) :])]
    if len(fields) != len(columns):
        raise DataError(f"found {len(fields)} fields, expected {len(columns)} as in the header")
    return dict(zip(columns, fields, strict=True))


def _known(columns: Columns) -> set[str]:
    return {*COLUMNS, FILE_NAME, *(name.lower() for name in columns.values())}


class _NamedColumns:
    """Gives the values of a row by our names, and keeps which columns there were.

    Attributes:
        columns: the file's names by ours.
    """

    def __init__(self, path: Path, columns: Columns | None) -> None:
        lower = path.suffix.lower() != ".jsonl"  # a header's names are read in lower case
        self.columns = {
            "path" if ours == "audio" else ours: name.lower() if lower else name
            for ours, name in (columns or {}).items()
        }
        self._other_names = {"audio", *self.columns, *self.columns.values()}
        self._path = path
        self._hint = "" if columns is None else "; name them with --columns"
        self._seen: dict[str, None] = {}

    def __call__(self, row: Row) -> dict[str, object]:
        """Return a row with our names of the columns that we read.

        Raises:
            DataError: `path` and `file_name` name two files.
        """
        self._seen |= dict.fromkeys(row)
        named = {name: value for name, value in row.items() if name not in self._other_names}
        named |= {ours: row[theirs] for ours, theirs in self.columns.items() if theirs in row}
        if FILE_NAME in row and "path" not in self.columns:
            path, name = named.get("path"), row[FILE_NAME]
            named.pop(FILE_NAME, None)
            if path and name and path != name:
                raise DataError(f"path is {path!r:.200}, {FILE_NAME} is {name!r:.200}, expected one, or twice the same")
            named["path"] = path or name
        return named

    def check_header(self, columns: Sequence[str], needs: Collection[str]) -> None:
        """Check the columns of a file with a header.

        Raises:
            DataError: one is lacking, or there twice.
        """
        names = [column for column in columns if column]
        needed = {"path", "prompt"} if "prompt" in needs else {"path"}
        if len(names) != len(set(names)) or not needed <= self(dict.fromkeys(names, "")).keys():
            expected = f"path (or {FILE_NAME}){' and prompt' if 'prompt' in needs else ''}"
            raise DataError(
                f"{self._path}: found the columns {columns}, expected {expected}, and none twice{self._hint}"
            )
        self.refuse_absent()

    def refuse_absent(self) -> None:
        """Refuse names that the user has given to columns, which no row has.

        Raises:
            DataError: lists the columns that there are.
        """
        if absent := [name for name in self.columns.values() if name not in self._seen]:
            found = ", ".join(map(shown, self._seen))
            raise DataError(f"{self._path}: found the columns {found}, expected {', '.join(absent)}{self._hint}")

    def unread(self) -> list[str]:
        """The columns that there were, without those that are read."""
        read = {*COLUMNS, FILE_NAME, *self.columns.values()}
        return [name for name in self._seen if name not in read]


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
    if not (given := string_of(row, "id")) and not name:
        raise DataError("found neither an id nor the name of an audio file, expected one of them; add a column id")
    audio = find_audio(root, row) if root else _named_audio(row)
    clip_id = check_id(given or PurePath(name).stem)
    system = string_of(row, "system") or system_of(clip_id)
    split = check_split(string_of(row, "split") or NO_SPLIT)
    mi, ta = (check_score(kind, row[kind]) if row.get(kind) not in (None, "") else None for kind in ("mi", "ta"))
    if (mi is None) != (ta is None):
        raise DataError(f"found {'ta' if mi is None else 'mi'} alone, expected both mi and ta, or neither")
    return clip_id, Clip(clip_id, audio, system, clip_id, string_of(row, "prompt") or None, split, mi, ta)


def _named_audio(row: Row) -> ClipAudio:
    """Return the audio of a row that will not be opened, so that it can be named."""
    embedded = cast(ClipAudio | None, row.get("audio"))
    return Path(path_of(row)) if embedded is None else embedded
