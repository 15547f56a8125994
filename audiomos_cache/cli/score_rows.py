"""Scores on a terminal: a table whose rows come as clips are scored."""

import json
import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

from audiomos_cache.cli.options import wrapped_line
from audiomos_cache.cli.rendering import cut_in_the_middle
from audiomos_cache.errors import escaped, in_one_line
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.lines import Row
from audiomos_cache.scoring.results import Interval, is_target
from audiomos_cache.targets import TARGETS

if TYPE_CHECKING:
    from audiomos_cache.scoring.scorer import Scorer

_GAP = "  "
_SHORTEST_NAME = 12  # cells, however narrow the terminal
_INDENT = "    "
_SCORE, _WITH_INTERVAL, _HEARD = 4, 17, ("heard", 15)  # cells
# The first one that there is room for; the last two where there are no intervals.
_LAYOUTS = ((_WITH_INTERVAL, (_HEARD,)), (_WITH_INTERVAL, ()), (_SCORE, (_HEARD,)), (_SCORE, ()))


class ScoreRows:
    """Prints a row for each clip, and below it what is wrong with it; it fits the terminal.

    Where that is narrow, it leaves out what was heard, then the intervals. A row cannot wait for the others, so the
    widths follow from what is to be scored. Scores of a bundle without MI, and those of several bundles, stand below
    the row of their clip, a line for each bundle.

    Args:
        show: prints a line.
    Attributes:
        has_prompts: whether any clip has one, so that there is a column of TA.
        has_intervals: whether there is room for them; True where there are none.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._width = shutil.get_terminal_size().columns - 1
        self._columns: list[tuple[str, int]] = []
        self._begun, self.has_intervals = False, True
        self.has_prompts = self.hears_prompts = False
        self._shown: set[str] = set()  # warnings

    def begin(self, items: Sequence[Item], scorer: "Scorer") -> None:
        """Take what is to be scored, and by what, before the first row."""
        self.has_prompts = any(item.text for item in items)
        self.hears_prompts = any(target.hears_prompt for target in scorer.targets)
        names = [target.name for target in scorer.targets]
        columns = ["MI"] if "mi" in names else []
        if columns and self.has_prompts:
            columns.append("TA")
        longest = max(cell_len(escaped(_name(str(item.path) if item.path else None, item.id))) for item in items)
        least = min(longest, _SHORTEST_NAME)
        layouts: Sequence[tuple[int, tuple[tuple[str, int], ...]]] = (
            _LAYOUTS if scorer.is_calibrated and columns else _LAYOUTS[2:]
        )
        if len(scorer.entries) > 1:
            layouts = _LAYOUTS[3:]
        for score_width, last in layouts:
            others = [("length", 7), *((target, score_width) for target in columns), *last]
            room = self._width - sum(len(_GAP) + width for _, width in others)
            if room >= least:
                break
        self.has_intervals = score_width > _SCORE or not scorer.is_calibrated or not columns
        self._columns = [("file", max(min(longest, max(room, least)), len("file"))), *others]

    def write(self, line: bytes) -> None:
        """Print a line of scores as a row."""
        if not self._begun:
            self._begun = True
            self._print_cells({name: name for name, _ in self._columns})
        row: Row = json.loads(line)
        cells = {"file": escaped(_name(row["path"], row["id"])), "length": _length(row["duration_s"])}
        if "bundles" in row:
            self._print_cells(cells)
            for label, each in row["bundles"].items():
                if each["error"] is None:
                    self.write_wrapped(f"{escaped(label)}: {_listed(each)}; heard {_heard(each, row)}", _INDENT)
                self._write_warnings(each["warnings"], 2 * _INDENT)
        else:
            with_intervals = any(width > _SCORE for name, width in self._columns if name in ("MI", "TA"))
            for name, target in (("MI", "mi"), ("TA", "ta")):
                cells[name] = _score(row[target], row[f"{target}_interval"] if with_intervals else None)
            self._print_cells(cells | {"heard": _heard(row, row)})
            if row["error"] is None and not any(name == "MI" for name, _ in self._columns):
                self.write_wrapped(_listed(row), _INDENT)
        if row["error"] is not None:
            self.write_wrapped(f"error: {escaped(in_one_line(row['error']))}", _INDENT)
        self._write_warnings(row["warnings"], _INDENT)

    def write_wrapped(self, text: str, indent: str = "") -> None:
        """Print a sentence on as many lines as it needs."""
        for line in wrapped_line(f"{indent}{text}", self._width):
            self._show(line)

    def _write_warnings(self, warnings: Sequence[str], indent: str) -> None:
        if warnings:
            self.write_wrapped("; ".join(self._once(escaped(each)) for each in warnings), indent)

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


def _length(seconds: float | None) -> str:
    """Return a duration as players show it: 3:12, 1:03:12; of less than a minute with a decimal: 41.5 s."""
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if seconds < 59.95 else _clock(max(seconds, 60.0))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _heard(of_bundle: Row, row: Row) -> str:
    """Say what was heard of a clip: `all`, `1:31-1:41`, `2 windows`."""
    windows, span = of_bundle["windows"], of_bundle["heard"]
    if not windows or span is None:
        return "-"
    if windows > 1:
        return f"{windows} windows"
    is_all = span[0] == 0 and span[1] >= row["duration_s"] - 1e-3
    return "all" if is_all else f"{_clock(span[0])}-{_clock(span[1])}"


def _listed(of_bundle: Row) -> str:
    """List scores by name: `MI 3.41 [2.90, 3.92], coherence 2.80`."""
    named = ((name, value) for name, value in of_bundle["scores"].items() if is_target(name))
    return ", ".join(
        f"{name.upper() if name in TARGETS else name} {_score(value, of_bundle.get(f'{name}_interval'))}"
        for name, value in named
    )


def _score(score: float | None, interval: Interval | None) -> str:
    if score is None:
        return "-"
    return f"{score:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
