"""`audiomos-cache predict`: a run's predictions of a cached split."""

from pathlib import Path

import click

from audiomos_cache.devices import DEVICES, resolve_device
from audiomos_cache.runs import BESTS


@click.command
@click.option("--run", "run_folder", required=True, type=click.Path(path_type=Path), help="A run folder.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("cache/default"), help="The cache folder.")
@click.option("--split", default="eval", help="The split to predict.")
@click.option("--best", type=click.Choice(BESTS), default="loss", help="Which checkpoint.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="File to write.  [default: RUN/predictions/SPLIT.BEST.jsonl]"
)
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", help="Where to compute.")
def predict(
    run_folder: Path, cache: Path, split: str, best: str, out: Path | None, overwrite: bool, device: str
) -> None:
    """Predict MI and TA of a cached split with a trained head.

    \b
    Example:
      audiomos-cache predict --run runs/transformer-dist-seed1984 --cache cache/musiceval --split eval
    """
    from audiomos_cache.training.predict import predict_split

    path = predict_split(run_folder, cache, split, best, out, overwrite=overwrite, device=resolve_device(device))
    click.echo(str(path))
