"""`audiomos-cache import-upstream`: a run from a checkpoint of the published code."""

from typing import Any

import click

from audiomos_cache.cli.options import FILE, Command, announce
from audiomos_cache.errors import escaped
from audiomos_cache.runs import BESTS


@click.command("import-upstream", cls=Command)
@click.argument("checkpoint", type=FILE)
@click.option("--head", required=True, metavar="PRESET|FILE.yaml", help="Name the head that was trained.")
@click.option("--out", required=True, type=FILE, help="Make this run folder, or add to it.")
@click.option("--cache", type=FILE, help="Record the fingerprint of this cache, so that others are refused later.")
@click.option(
    "--best",
    type=click.Choice(BESTS),
    help="Make it this checkpoint of the run.  [default: the one in the file's name, or loss]",
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
    extracted with MuQ and RoBERTa at --pad-to 30. Only tensors are read from the file, and nothing in it is run.
    The three checkpoints of a training become one run: import one after the other.

    \b
    Example:
      audiomos-cache import-upstream ckpt_best_val_loss.pth \\
        --head transformer-dist --out runs/published
      audiomos-cache predict runs/published --cache cache/musiceval --split eval
    """
    announce("reading", [options["checkpoint"]])
    from audiomos_cache import import_upstream as run

    click.echo(escaped(repr(run(**options))))
