"""`audiomos-cache predict`: a run's predictions of a cached split."""

from pathlib import Path
from typing import Any

import click

from audiomos_cache.cli.options import FILE, Command, announce, device_option
from audiomos_cache.errors import escaped
from audiomos_cache.runs import BESTS


@click.command(cls=Command)
@click.argument("run", type=FILE)
@click.option("--cache", type=FILE, default=Path("cache/default"), help="Read the features from this cache.")
@click.option("--split", metavar="NAME", default="eval", help="Predict this split.")
@click.option("--best", type=click.Choice(BESTS), default="loss", help="Predict with this checkpoint of the run.")
@click.option("--out", type=FILE, help="Write to this .jsonl file.  [default: RUN/predictions/SPLIT.BEST.jsonl]")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@device_option
def predict(**options: Any) -> None:
    """Predict MI and TA of a cached split with the trained head in the folder RUN.

    \b
    Example:
      audiomos-cache predict runs/transformer-dist-seed1984 --split test \\
        --cache cache/musiceval
    """
    announce("reading", [options["run"]])
    from audiomos_cache import predict as run

    click.echo(escaped(str(run(**options).path)))
