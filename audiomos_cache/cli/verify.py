"""`audiomos-cache verify`: read a whole cache and say what is damaged."""

from functools import partial
from pathlib import Path

import click

from audiomos_cache.cli.progress import progress


@click.command
@click.argument("cache", type=click.Path(path_type=Path))
@click.option("--split", "splits", multiple=True, metavar="NAME", help="Only this split; repeat for several.")
def verify(cache: Path, splits: tuple[str, ...]) -> None:
    """Read every feature of a cache and check it against its hash. Damaged items are listed; exit code 1.

    To mend them, run extract with --repair: it encodes only what was lost.

    \b
    Example:
      audiomos-cache verify cache/musiceval
    """
    from audiomos_cache.cache.reader import CacheReader
    from audiomos_cache.cache.store import every_file, split_names
    from audiomos_cache.cache.verify import verify_file
    from audiomos_cache.errors import CacheError

    names = splits or split_names(cache)
    if not names:
        raise CacheError(f"{cache}: no finished split in it; run extract first")
    damaged: list[str] = []
    for name in names:
        with progress("clips") as update:
            reports = [verify_file(path, partial(update, f"verify {path.name}")) for path in every_file(cache, name)]
        damaged += [line for report in reports for line in report.damaged]
        if all(report.file for report in reports):
            CacheReader(cache, name)  # no such split, or one of its files is missing
        whole = sum(len(report.whole) for report in reports)
        click.echo(f"{name}: {whole} clips whole, {sum(len(report.damaged) for report in reports)} items damaged")
    for line in damaged:
        click.echo(line)
    if damaged:
        raise CacheError(f"{cache}: {len(damaged)} damaged items; extract with --repair encodes only what was lost")
