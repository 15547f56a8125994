"""`audiomos-cache bundle`: trained heads and their fusion as one folder."""

from typing import Any

import click
from click.core import ParameterSource

from audiomos_cache.cli.options import FILE, Command
from audiomos_cache.runs import BESTS


@click.command(cls=Command)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=FILE)
@click.option("--fusion", metavar="DIR", type=FILE, help="The folder that fuse wrote of the runs.  [default: none]")
@click.option("--out", required=True, type=FILE, help="The folder to make.")
@click.option("--best", type=click.Choice(BESTS), default="loss", help="The checkpoint of a run without --fusion.")
@click.option(
    "--labels",
    metavar="LIST",
    type=FILE,
    help="The list that the fusion was fitted on, if it was moved since. Of one run or a mean: labels of --fit-split, "
    "for the card's table and the intervals.",
)
@click.option("--fit-split", metavar="NAME", help="The split of --labels, of one run or a mean.  [default: dev]")
@click.option("--overwrite", is_flag=True, help="Replace the bundle that the folder holds.")
@click.pass_context
def bundle(context: click.Context, /, **options: Any) -> None:
    """Make one folder of trained heads and their fusion, to score new music with, here or elsewhere.

    Takes runs, or folders of runs. Writes the heads' weights (safetensors), the fusion, bundle.yaml, which says what
    they need and the hash of each part, and a model card. The folder can be put on the Hugging Face hub as it is. Its
    scores come with 80 % intervals, calibrated on what the fusion predicts of labelled clips that it was not fitted on.

    \b
    Examples:
      audiomos-cache bundle runs --fusion fused --out model
      audiomos-cache bundle runs/transformer-dist-seed1984 --labels sets/dev_mos_list.txt --out model
    """
    if options["fusion"] and context.get_parameter_source("best") == ParameterSource.COMMANDLINE:
        raise click.UsageError("--best: the fusion says which checkpoints it is of; leave it out")
    from audiomos_cache import make_bundle

    for line in make_bundle(**options).lines():
        click.echo(line)
