"""`audiomos-cache merge`: join caches and shards into one cache."""

from pathlib import Path

import click

from audiomos_cache.cli.progress import progress


@click.command
@click.argument("caches", nargs=-1, required=True, metavar="CACHE...", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder of the new cache.")
def merge(caches: tuple[Path, ...], out: Path) -> None:
    """Join caches, or the shards of one, into a new cache. All must have one fingerprint, and no clip twice.

    The shards of a dataset give the same files as a single extraction of it. Clips of different datasets come one
    after the other, in the order of the arguments. The merged caches stay as they are.

    \b
    Example:
      audiomos-cache merge cache/shard-1 cache/shard-2 --out cache/musiceval
    """
    from audiomos_cache.cache.maintenance import merge_caches

    with progress("clips") as update:
        merged = merge_caches(
            caches, out, progress=lambda split, done, total: update(f"merge {split}", done, total)
        )  # fmt: skip
    for each in merged:
        click.echo(f"{each.split}: {each.clips} clips in {', '.join(map(str, each.files))}")
