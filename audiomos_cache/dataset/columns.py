"""What manifests call our columns, the same for CSV, JSON Lines and Parquet."""

import re
from collections.abc import Collection, Iterable, Mapping

from audiomos_cache.errors import DataError, shown

Columns = Mapping[str, str]  # ours -> the name that the file has for it

COLUMNS = ("path", "prompt", "id", "system", "split", "mi", "ta")
AUDIO = "audio"  # embedded, in Parquet alone

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
