"""Scores on a terminal: a table whose rows come as clips are scored."""

import json
import shutil
from collections.abc import Callable, Sequence

from rich.cells import cell_len

from audiomos_cache.cli.options import wrapped_line
from audiomos_cache.cli.rendering import cut_in_the_middle
from audiomos_cache.errors import escaped, in_one_line
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.results import Interval, Row

_GAP = "  "
_SHORTEST_NAME = 12  # cells, however narrow the terminal
_INDENT = "    "
_SCORE, _WITH_INTERVAL, _HEARD = 4, 17, ("heard", 10)  # cells
_LAYOUTS = ((_WITH_INTERVAL, (_HEARD,)), (_WITH_INTERVAL, ()), (_SCORE, ()))  # the first one that there is room for


class ScoreRows:
    """Prints a row for each clip, and below it what is wrong with it; it fits the terminal.

    Where that is narrow, it leaves out how many windows were heard, then the intervals. A row cannot wait for the
    others, so the widths follow from what is to be scored.

    Args:
        show: prints a line.
    Attributes:
        has_prompts: whether any clip has one, so that there is a column of TA.
        has_intervals: whether there is room for them.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._width = shutil.get_terminal_size().columns - 1
        self._columns: list[tuple[str, int]] = []
        self._begun, self.has_intervals = False, True
        self.has_prompts = False
        self._shown: set[str] = set()  # warnings

    def begin(self, items: Sequence[Item]) -> None:
        """Take what is to be scored, before the first row."""
        self.has_prompts = any(item.text for item in items)
        longest = max(cell_len(escaped(_name(str(item.path) if item.path else None, item.id))) for item in items)
        least = min(longest, _SHORTEST_NAME)
        for score_width, last in _LAYOUTS:
            others = [("length", 7), *((target, score_width) for target in ("MI", "TA")[: 1 + self.has_prompts]), *last]
            room = self._width - sum(len(_GAP) + width for _, width in others)
            if room >= least:
                break
        self.has_intervals = score_width > _SCORE
        self._columns = [("file", max(min(longest, max(room, least)), len("file"))), *others]

    def write(self, line: bytes) -> None:
        """Print a line of scores as a row."""
        if not self._begun:
            self._begun = True
            self._print_cells({name: name for name, _ in self._columns})
        row: Row = json.loads(line)
        seconds, windows = row["duration_s"], row["windows"]
        self._print_cells(
            {
                "file": escaped(_name(row["path"], row["id"])),
                "length": "-" if seconds is None else _length(seconds),
                "MI": _score(row["mi"], row["mi_interval"] if self.has_intervals else None),
                "TA": _score(row["ta"], row["ta_interval"] if self.has_intervals else None),
                "heard": f"{windows} window{'s' if windows > 1 else ''}" if windows else "-",
            }
        )
        if row["error"] is not None:
            self.write_wrapped(f"error: {escaped(in_one_line(row['error']))}", _INDENT)
        if row["warnings"]:
            self.write_wrapped("; ".join(self._once(escaped(each)) for each in row["warnings"]), _INDENT)

    def write_wrapped(self, text: str, indent: str = "") -> None:
        """Print a sentence on as many lines as it needs."""
        for line in wrapped_line(f"{indent}{text}", self._width):
            self._show(line)

    def _print_cells(self, cells: dict[str, str]) -> None:
        self._show(
            _GAP.join(_fit(cells[name], width, right=name == "length") for name, width in self._columns).rstrip()
        )

    def _once(self, warning: str) -> str:
        """Return a warning: whole when it comes for the first time, then what it begins with."""
        if warning in self._shown:
            return warning.partition(":")[0]
        self._shown.add(warning)
        return warning


def _name(path: str | None, clip_id: str) -> str:
    return clip_id if path is None else path


def _fit(text: str, width: int, *, right: bool) -> str:
    cut = cut_in_the_middle(text, width)
    blanks = " " * (width - cell_len(cut))
    return blanks + cut if right else cut + blanks


def _length(seconds: float) -> str:
    """Return a duration as players show it: 3:12, 1:03:12; of a short clip with a decimal: 4.5 s."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _score(score: float | None, interval: Interval | None) -> str:
    if score is None:
        return "-"
    return f"{score:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
