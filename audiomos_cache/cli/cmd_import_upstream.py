"""`audiomos-cache import-upstream`: a run from a checkpoint of the published code."""

from typing import Any

import click

from audiomos_cache.cli.options import FILE, Command
from audiomos_cache.runs import BESTS


@click.command("import-upstream", cls=Command)
@click.argument("checkpoint", type=FILE)
@click.option("--head", required=True, metavar="PRESET|FILE.yaml", help="The head that it was trained as.")
@click.option("--out", required=True, type=FILE, help="The run folder to make, or to add to.")
@click.option("--cache", type=FILE, help="The cache whose fingerprint is remembered, and checked later.")
@click.option(
    "--best",
    type=click.Choice(BESTS),
    help="The checkpoint of the run that it becomes.  [default: as the file's name says, or loss]",
)
@click.option(
    "--set",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the head, such as layers=12 for a cache of several layers.",
)
@click.option("--overwrite", is_flag=True, help="Replace that checkpoint of the run, or a run of another head.")
def import_upstream(**options: Any) -> None:
    """Make a run from a .pth checkpoint of the published code, which predict and fuse then use like any other.

    The run computes as that code does, its three quirks included (compat: upstream). Predict with a cache that was
    extracted with MuQ and RoBERTa at --pad-to 30. Of the file only tensors are read, and nothing in it is run.
    The three checkpoints of a training become one run, one after the other.

    \b
    Example:
      audiomos-cache import-upstream ckpt_best_val_loss.pth --head transformer-dist --out runs/published
      audiomos-cache import-upstream ckpt_best_val_srcc.pth --head transformer-dist --out runs/published
      audiomos-cache predict runs/published --cache cache/musiceval --split eval
    """
    from audiomos_cache import import_upstream as run

    click.echo(repr(run(**options)))
