"""What manifests call our columns, the same for CSV, JSON Lines and Parquet, and what they hold of them."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from audiomos_cache.errors import DataError, shown

Row = Mapping[str, object]
Columns = Mapping[str, str]  # ours -> the name that the file has for it

COLUMNS = ("path", "prompt", "id", "system", "split", "mi", "ta")
AUDIO = "audio"  # embedded, in Parquet alone
OF_AN_ITEM = {AUDIO, "path", "prompt", "id"}  # which is scored

# The usual names, ours first: those of Hugging Face's audiofolder and of MusicEval on the hub.
_USUAL = {
    AUDIO: (AUDIO,),
    **{name: (name,) for name in COLUMNS},
    "path": ("path", "file name"),
    "prompt": ("prompt", "text", "caption"),
    "mi": ("mi", "overall quality"),
    "ta": ("ta", "textual alignment"),
}
_OURS = {name: ours for ours, names in _USUAL.items() for name in names}

PATH, PROMPT = "path (or file_name)", "prompt (or text, caption)"  # for messages


def ours_of(name: str) -> str | None:
    """Return which of our columns usually has this name. Letter case does not matter; blanks, `_` and `-` are one.

    >>> ours_of("Overall_quality"), ours_of("quality")
    ('mi', None)
    """
    return _OURS.get(re.sub(r"[\s_-]+", " ", name.strip().lower()))


def find_columns(names: Iterable[str], given: Columns, reads: Collection[str], *, can_be_given: bool) -> dict[str, str]:
    """Return a file's names of our columns: those given, else our own, else the one that has a usual name.

    Usual names of scores count if both MI and TA are found: one alone is no label.

    Args:
        names: of the file's columns.
        given: names of some of ours, which are no other's, but perhaps the path's.
        reads: our columns of which there must be no doubt; of another that may be one of several, none is taken.
        can_be_given: whether the user can choose by `--columns`, for the message.
    Raises:
        DataError: two or more may be one of `reads`.
    """
    candidates: dict[str, list[str]] = {}
    for name in names:
        ours = ours_of(name)
        if ours is not None and ours not in given and (ours == "path" or name not in given.values()):
            candidates.setdefault(ours, []).append(name)
    found = dict(given)
    for ours, several in candidates.items():
        usual = [ours] if ours in several else [name for name in several if _is_own(name, ours)] or several
        if len(usual) == 1:
            found[ours] = usual[0]
        elif ours in reads:
            choice = f"choose with --columns {ours}={usual[0]}, or call" if can_be_given else "call"
            listed = ", ".join(map(shown, usual))
            raise DataError(f"any of the columns {listed} may be {ours}, expected one; {choice} one {ours}")
    alone = {"mi", "ta"} & found.keys() & set(reads)
    if len(alone) == 1 and not alone & given.keys():
        [score] = alone
        if not _is_own(found[score], score):
            del found[score]
    return found


def _is_own(name: str, ours: str) -> bool:
    return name.strip().lower() == ours


def is_known(columns: Columns) -> Callable[[str], bool]:
    """Return what tells whether a header may name one of our columns so; these are the names that were given."""
    given = {name.lower() for name in columns.values()}
    return lambda name: name in given or ours_of(name) not in (None, AUDIO)


class NamedColumns:
    """Gives the values of a row of text by our names, and keeps which columns there were.

    Attributes:
        columns: the names that were given, by ours.
    """

    def __init__(
        self, path: Path, columns: Columns | None, reads: Collection[str], *, others_as_they_are: bool
    ) -> None:
        lower = path.suffix.lower() != ".jsonl"  # a header's names are read in lower case
        self.columns = {
            "path" if ours == AUDIO else ours: name.lower() if lower else name for ours, name in (columns or {}).items()
        }
        self._path, self._reads, self._others_as_they_are = path, reads, others_as_they_are
        self._can_be_given = columns is not None
        self._hint = "; name them with --columns" if self._can_be_given else ""
        self._found: dict[tuple[str, ...], tuple[dict[str, str], list[str]]] = {}  # by the names of a row
        self._seen: dict[str, None] = {}
        self._unread: dict[str, None] = {}

    def __call__(self, row: Row) -> dict[str, object]:
        """Return a row with our names of the columns that we read.

        Raises:
            DataError: a column may be one of several; or `path` and `file_name` name two files.
        """
        found, again = self._find(tuple(row))
        used = {AUDIO, *self.columns, *found.values()}
        named = {name: value for name, value in row.items() if name not in used}
        named |= {ours: row[theirs] for ours, theirs in found.items() if theirs in row}
        for name in again:
            named["path"] = _one_path(named["path"], name, named.pop(name))
        return named

    def _find(self, names: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
        """Return a row's names of our columns, and those that say again what `path` says.

        In JSON a row may have other names than the one before it.
        """
        if names not in self._found:
            found = find_columns(names, self.columns, self._reads, can_be_given=self._can_be_given)
            if self._others_as_they_are:
                found = {ours: name for ours, name in found.items() if ours in self._reads}
            found.pop(AUDIO, None)
            again = [name for name in names if ours_of(name) == "path" and name not in found.values()]
            self._found[names] = found, [] if "path" in self.columns else again
            self._seen |= dict.fromkeys(names)
            self._unread |= dict.fromkeys(name for name in names if name not in (*found.values(), *COLUMNS))
        return self._found[names]

    def check_header(self, columns: Sequence[str], needs: Collection[str]) -> None:
        """Check the columns of a file with a header.

        Raises:
            DataError: one is lacking, or there twice, or may be one of several.
        """
        names = [column for column in columns if column]
        needed = {"path", "prompt"} if "prompt" in needs else {"path"}
        try:
            found = self._find(tuple(names))[0] if len(names) == len(set(names)) else {}
        except DataError as problem:
            raise DataError(f"{self._path}: {problem}") from None
        if not needed <= found.keys():
            expected = f"{PATH} and {PROMPT}" if "prompt" in needs else PATH
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
        """The columns that there were, of some row at least, without those that are read."""
        return list(self._unread)


def _one_path(path: object, other: str, again: object) -> object:
    if path and again and path != again:
        raise DataError(f"path is {path!r:.200}, {other} is {again!r:.200}, expected one, or twice the same")
    return path or again
