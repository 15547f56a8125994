"""`audiomos-cache verify`: read a whole cache and report what is damaged."""

from pathlib import Path

import click

from audiomos_cache.cli.options import FILE, Command, announce, echo
from audiomos_cache.cli.progress_bar import progress


@click.command(cls=Command)
@click.argument("cache", type=FILE)
@click.option("--split", multiple=True, metavar="NAME", help="Read this split; repeat it for several.  [default: all]")
def verify(cache: Path, split: tuple[str, ...]) -> None:
    """Read every feature of a cache and check it against its hash.

    If items are damaged, they are listed, and the exit code is 1. To replace them, run extract with --repair: it
    encodes only those again.

    \b
    Example:
      audiomos-cache verify cache/musiceval
    """
    announce("reading", [cache])
    from audiomos_cache import verify as run

    with progress("clips") as update:
        result = run(cache, split, progress=update)
    for line in result.lines():
        echo(line)
    result.raise_if_damaged()
