"""`audiomos-cache bundle`: trained heads and their fusion as one folder."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from audiomos_cache.runs import BESTS

if TYPE_CHECKING:
    from audiomos_cache.bundle.make import MadeBundle


_FILE = click.Path(path_type=Path)


@click.command
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=_FILE)
@click.option("--fusion", metavar="DIR", type=_FILE, help="What fuse wrote of the runs. Without it, one run as it is.")
@click.option("--out", required=True, type=_FILE, help="The folder to make.")
@click.option("--best", type=click.Choice(BESTS), default="loss", help="Of one run without --fusion: which checkpoint.")
@click.option(
    "--labels",
    metavar="LIST",
    type=_FILE,
    help="The list that the fusion was fitted on, if it was moved since. Of one run or a mean: labels of --fit-split, "
    "for the card's table and the intervals.",
)
@click.option("--fit-split", metavar="NAME", show_default="dev", help="Of one run or a mean: the split of --labels.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle that the folder holds.")
@click.pass_context
def bundle(
    context: click.Context,
    runs: tuple[Path, ...],
    fusion: Path | None,
    out: Path,
    best: str,
    labels: Path | None,
    fit_split: str | None,
    overwrite: bool,
) -> None:
    """Make one folder of trained heads and their fusion, to score new music with, here or elsewhere.

    Takes runs, or folders of runs. Writes the heads' weights (safetensors), the fusion, bundle.yaml, which says what
    they need and the hash of each part, and a model card. The folder can be put on the Hugging Face hub as it is. Its
    scores come with 80 % intervals, calibrated on what the fusion said of labelled clips that it was not fitted on.

    \b
    Examples:
      audiomos-cache bundle runs --fusion fused --out model
      audiomos-cache bundle runs/transformer-dist-seed1984 --labels sets/dev_mos_list.txt --out model
    """
    if fusion and context.get_parameter_source("best") == ParameterSource.COMMANDLINE:
        raise click.UsageError("--best: the fusion says which checkpoints it is of; leave it out")
    from audiomos_cache.bundle.make import make_bundle

    _show(make_bundle(runs, fusion, out, labels=labels, fit_split=fit_split, best=best, overwrite=overwrite))


def _show(made: "MadeBundle") -> None:
    from audiomos_cache.units import gigabytes

    names = [member.name for member in made.manifest.members]
    click.echo(f"{made.folder}: {made.manifest.fusion.method} of {len(names)} heads, {gigabytes(made.size_bytes)}")
    click.echo(f"heads: {', '.join(names)}")
    click.echo(f"digest: {made.digest}")
    if intervals := made.manifest.intervals:
        for target, each in (("MI", intervals.mi), ("TA", intervals.ta)):
            ends = each.coverage_ci
            known = f" (95 % interval {ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
            click.echo(
                f"{100 * intervals.level:.0f} % intervals of {target}: coverage {each.coverage:.3f}{known} on "
                f"{each.clips} clips that they were calibrated without, mean width {each.mean_width:.3f}"
            )
