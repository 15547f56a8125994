"""`audiomos-cache merge`: join caches and shards into one cache."""

from pathlib import Path

import click

from audiomos_cache.cli.options import FILE, Command, announce, echo
from audiomos_cache.cli.progress_bar import progress


@click.command(cls=Command)
@click.argument("caches", nargs=-1, required=True, metavar="CACHE...", type=FILE)
@click.option("--out", required=True, type=FILE, help="Write the new cache to this folder.")
def merge(caches: tuple[Path, ...], out: Path) -> None:
    """Join caches, or the shards of one, into a new cache. All must have one fingerprint, and no clip twice.

    The shards of a dataset give the same files as a single extraction of it, made with the same number of threads.
    Clips of different datasets come one after the other, in the order of the arguments. The given caches are not
    changed.

    \b
    Example:
      audiomos-cache merge cache/shard-1 cache/shard-2 --out cache/musiceval
    """
    announce("reading", caches)
    from audiomos_cache import merge as run

    with progress("clips") as update:
        result = run(caches, out, progress=update)
    for line in result.lines():
        echo(line)
