"""`audiomos-cache verify`: read a whole cache and say what is damaged."""

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
    from audiomos_cache.cache.paths import require_names
    from audiomos_cache.cache.verify import verify_split
    from audiomos_cache.errors import CacheError

    damaged = 0
    for name in require_names(cache, splits):
        try:
            with progress("clips") as update:
                reports = verify_split(cache, name, lambda path, *counts: update(f"verify {path.name}", *counts))
        except CacheError as error:  # the other splits are read all the same
            click.echo(f"{name}: {error}")
            damaged += 1
            continue
        found = [line for report in reports for line in report.damaged]
        whole = sum(len(report.whole) for report in reports)
        click.echo("\n".join([f"{name}: {whole} clips whole, {len(found)} items damaged", *found]))
        damaged += len(found)
    if damaged:
        raise CacheError(f"{cache}: {damaged} damaged items; extract with --repair encodes only what was lost")
