"""`audiomos-cache demo`: the whole line on made-up music."""

from pathlib import Path

import click


@click.command
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), help="The folder to make.")
@click.option("--overwrite", is_flag=True, help="Start anew; an earlier demo in the folder is deleted.")
def demo(out: Path, overwrite: bool) -> None:
    """Make music by code, then extract, train heads, fuse and evaluate on it: the whole line in minutes.

    \b
    Example:
      audiomos-cache demo --out demo
    """
    click.echo(f"{out} {overwrite}")
