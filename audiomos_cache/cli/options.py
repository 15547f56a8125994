"""What the commands share: their class, with its two-part help, the options of several of them, and how they print."""

import logging
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from audiomos_cache.devices import DEVICES, MOST_AT_ONCE
from audiomos_cache.errors import ArgumentError, escaped, shown
from audiomos_cache.files import parse_integer, parse_number

log = logging.getLogger(__name__)

DEVICE = click.Choice(DEVICES)
SHOWN_FIRST = 10  # a command shows at most that many options before the advanced ones

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


class Integer(click.IntRange):
    """A whole number in a range, as everybody writes it: Python takes `1_000` and digits of other alphabets too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or refuse what is none."""
        try:
            return super().convert(parse_integer(str(value)), param, ctx)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Number(click.FloatRange):
    """A number in a range, likewise."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or refuse what is none."""
        try:
            return super().convert(parse_number(str(value)), param, ctx)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class File(click.Path):
    """A path; as `pathlib.Path` it has no slash at its end.

    An empty string, as of a variable that is not set, would be the current folder.
    """

    def __init__(self, *, dir_okay: bool = True, file_okay: bool = True, path_type: type[Path | str] = Path) -> None:
        super().__init__(dir_okay=dir_okay, file_okay=file_okay, path_type=path_type)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or refuse an empty one."""
        if value == "":
            self.fail("found '', expected a path; is a variable not set?", param, ctx)
        return super().convert(value, param, ctx)


class _Place(click.types.StringParamType):
    """A name, a folder or a repository of the hub, as it was given."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the string, or refuse an empty one."""
        if value == "":
            self.fail("found '', expected a name, a folder or a repository; is a variable not set?", param, ctx)
        return super().convert(value, param, ctx)


FILE, PLACE = File(), _Place()


class _Seed(click.types.IntParamType):
    """A random seed. A range of click's would be shown in every help."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seed, or refuse what is none."""
        try:
            seed = parse_integer(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not 0 <= seed < 2**63:
            self.fail(f"{seed} is not a seed, expected 0 to {2**63 - 1}", param, ctx)
        return seed


SEED = _Seed()
BATCH_SIZE = Integer(min=1, max=MOST_AT_ONCE)


class AdvancedOption(click.Option):
    """An option that `--help` shows under "Advanced"."""


class Command(click.Command):
    """A command whose `--help` shows the options that most people need first, and the others under "Advanced".

    Arguments that contradict each other (ArgumentError of the library) are wrong usage: exit code 2.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in two sections; `--help` closes the last one."""
        first: list[tuple[str, str]] = []
        advanced: list[tuple[str, str]] = []
        parameters = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        any_advanced = any(isinstance(parameter, AdvancedOption) for parameter in parameters)
        help_option = self.get_help_option(ctx)
        for parameter in parameters:
            last = any_advanced and help_option is not None and parameter.name == help_option.name
            if (record := parameter.get_help_record(ctx)) is not None:
                (advanced if last or isinstance(parameter, AdvancedOption) else first).append(record)
        for title, records in (("Options", first), ("Advanced", advanced)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments as they were given, for records of how something was made."""
        ctx.meta[__name__] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ArgumentError as error:
            raise click.UsageError(wrapped_error(error), ctx) from error


def announce(what: str, paths: Sequence[Path]) -> None:
    """Log what a command begins with, before it imports what takes seconds to import."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    log.info("%s %s%s ...", what, shown(str(paths[0])), more)


def command_line(ctx: click.Context) -> str:
    """Return the command as it was given, as one would type it again."""
    return shlex.join(["audiomos-cache", str(ctx.info_name), *ctx.meta[__name__]])


def advanced_option(*declarations: str, **attributes: Any) -> Callable[[_Decorated], _Decorated]:
    """Declare an option as click.option does; the help of a `Command` shows it under "Advanced"."""
    return click.option(*declarations, cls=AdvancedOption, **attributes)


device_option = advanced_option("--device", type=DEVICE, default="auto", help="Compute on this device.")


def wrapped(text: str, stream: TextIO) -> str:
    """Escape what a terminal would obey, and break lines between words where it would break them anywhere."""
    lines = [escaped(line) for line in text.split("\n")]
    if stream.isatty():
        width = shutil.get_terminal_size().columns - 1
        lines = [each for line in lines for each in wrapped_line(line, width)]
    return "\n".join(lines)


def wrapped_line(line: str, width: int) -> list[str]:
    """Break a line between words, so that none takes more cells of a terminal; each has the first one's indent.

    A word that is longer, such as a path, stays whole, so that it can be copied. Some letters take two cells.
    """
    if 2 * len(line) <= width:
        return [line]
    from rich.cells import cell_len

    if cell_len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    lines, current = [], ""
    for blanks, word in re.findall(r"(\s*)(\S+)", line):
        if current and cell_len(longer := f"{current}{blanks}{word}") > width:
            lines.append(current)
            current = f"{indent}{word}"
        else:
            current = longer if current else f"{blanks}{word}"
    return [*lines, current]


def wrapped_error(error: Exception) -> str:
    """Return the message of an error as click prints it on stderr, where "Error: " comes before it."""
    start = "Error: "
    return wrapped(f"{start}{error}", sys.stderr).removeprefix(start)


def echo(text: object) -> None:
    """Print sentences on stdout."""
    click.echo(wrapped(str(text), sys.stdout))
