"""A terminal of a few columns: what a stream of text and escape codes leaves on it."""

import io
import re
from dataclasses import dataclass, field

from rich.cells import cell_len

_CODE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|.", re.DOTALL)


@dataclass
class Screen:
    """What is shown, lines that have scrolled away included.

    Args:
        columns: cells of a line. The cursor goes to the next one as soon as the last cell is written, as it does in
            terminals that are stricter than most.
    """

    columns: int
    lines: list[str] = field(default_factory=lambda: [""])
    _row: int = 0
    _column: int = 0

    def feed(self, stream: str) -> "Screen":
        """Interpret text, `\\r`, `\\n`, and the codes that move the cursor up or erase a line; colours are ignored."""
        for found in _CODE.finditer(stream):
            if found[2]:
                self._obey(found[2], int(found[1]) if found[1].isdecimal() else 1)
            elif found[0] == "\r":
                self._column = 0
            elif found[0] == "\n":
                self._next_line()
            else:
                self._write(found[0])
        return self

    def shown(self) -> list[str]:
        """Return the lines without blanks at their ends, and without empty ones at the end."""
        lines = [line.rstrip() for line in self.lines]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def _obey(self, code: str, count: int) -> None:
        if code == "A":
            self._row = max(0, self._row - count)
        elif code == "K":
            self.lines[self._row] = "" if count == 2 else self.lines[self._row][: self._column]
        elif code not in "mhl":
            raise ValueError(f"unknown code {code!r}")

    def _next_line(self) -> None:
        self._row, self._column = self._row + 1, 0
        if self._row == len(self.lines):
            self.lines.append("")

    def _write(self, letter: str) -> None:
        line = self.lines[self._row].ljust(self._column)
        self.lines[self._row] = line[: self._column] + letter + line[self._column + 1 :]
        self._column += 1
        if cell_len(self.lines[self._row][: self._column]) >= self.columns:
            self._next_line()


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True
