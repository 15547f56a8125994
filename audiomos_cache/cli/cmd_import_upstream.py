"""`audiomos-cache import-upstream`: a run from a checkpoint of the published code."""

from pathlib import Path

import click

_BESTS = {"ckpt_best_val_loss": "loss", "ckpt_best_val_srcc": "srcc", "ckpt_best_val_combined": "combined"}


@click.command("import-upstream")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--head", required=True, metavar="PRESET|FILE.yaml", help="The head that it was trained as.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The run folder to make, or to add to.")
@click.option("--cache", type=click.Path(path_type=Path), help="Remember this cache's fingerprint, and check it later.")
@click.option(
    "--best",
    type=click.Choice(("loss", "srcc", "combined")),
    help="Which checkpoint of the run it becomes.  [default: as the file's name says, or loss]",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the head, such as layers=12 for a cache of several layers.",
)
@click.option("--overwrite", is_flag=True, help="Replace that checkpoint of the run, or a run of another head.")
def import_upstream(
    checkpoint: Path,
    head: str,
    out: Path,
    cache: Path | None,
    best: str | None,
    overrides: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Make a run from a .pth checkpoint of the published code, which predict and fuse then use like any other.

    The run computes as that code does, its three quirks included (compat: upstream). Predict with a cache that was
    extracted with MuQ and RoBERTa at --pad-to 30. Of the file only tensors are read, and nothing in it is run.
    The three checkpoints of a training become one run, one after the other.

    \b
    Example:
      audiomos-cache import-upstream ckpt_best_val_loss.pth --head transformer-dist --out runs/published
      audiomos-cache import-upstream ckpt_best_val_srcc.pth --head transformer-dist --out runs/published
      audiomos-cache predict --run runs/published --cache cache/musiceval --split eval
    """
    from audiomos_cache.heads.presets import load_head_config
    from audiomos_cache.upstream.import_run import import_upstream as make_run

    name, config = load_head_config(head, overrides)
    chosen = best or _BESTS.get(checkpoint.stem, "loss")
    make_run(checkpoint, name, config, out, chosen, cache=cache, overwrite=overwrite)
    click.echo(f"{out}: best-{chosen}.safetensors from {checkpoint}")
