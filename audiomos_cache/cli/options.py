"""What the commands share: their class, with its two-part help, and the options that several of them have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from audiomos_cache.devices import DEVICES
from audiomos_cache.errors import ArgumentError

FILE = click.Path(path_type=Path)
DEVICE = click.Choice(DEVICES)
SEED = click.IntRange(0, 2**63 - 1)
SHOWN_FIRST = 10  # a command shows at most that many options before the advanced ones

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


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
        parameters = self.get_params(ctx)
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

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ArgumentError as error:
            raise click.UsageError(str(error), ctx) from error


def advanced_option(*declarations: str, **attributes: Any) -> Callable[[_Decorated], _Decorated]:
    """Declare an option as click.option does; the help of a `Command` shows it under "Advanced"."""
    return click.option(*declarations, cls=AdvancedOption, **attributes)


device_option = advanced_option("--device", type=DEVICE, default="auto", help="The device to compute on.")
