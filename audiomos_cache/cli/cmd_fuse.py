"""`audiomos-cache fuse`: blend the predictions of several members."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from audiomos_cache import registry
from audiomos_cache.cli.options import FILE, Command, advanced_option
from audiomos_cache.runs import BESTS

_OF_MAKING = ("method", "labels", "fit_split", "apply", "best", "folds", "cv_group", "seed")


def _known_method(context: click.Context, option: click.Parameter, value: str) -> str:
    """Refuse a method that is not registered; asked for late, as `--import` may register more."""
    if value not in registry.known("fusion"):
        raise click.BadParameter(registry.unknown("fusion", value), context, option)
    return value


@click.command(cls=Command)
@click.argument("sources", metavar="RUN_OR_FILE...", nargs=-1, required=True, type=FILE)
@click.option(
    "--method",
    metavar="METHOD",
    callback=_known_method,
    default="ridge",
    help="How to blend: mean; or fitted to --labels: weighted (the mean with the best weights), ridge (regression "
    "on the distributions, as the original does), lightgbm (trees on them), greedy (selection); or one of --import.",
)
@click.option(
    "--labels",
    metavar="LIST",
    type=FILE,
    help="The fit split's scores: lines `name.wav,MI,TA`, or a .csv or .jsonl manifest that holds that split.",
)
@click.option("--fit-split", metavar="NAME", show_default="dev with runs", help="The split to fit the blend on.")
@click.option(
    "--apply-split",
    metavar="NAME",
    show_default="eval with runs",
    help="The split to blend. With files and without this option, the output names no split.",
)
@click.option(
    "--apply",
    metavar="FILE",
    multiple=True,
    type=FILE,
    help="With files: one of the apply split for each of the fit split, in the same order.",
)
@click.option(
    "--from",
    "from_fusion",
    metavar="DIR",
    type=FILE,
    help="Apply the fusion that this folder holds; nothing is fitted.",
)
@click.option("--out", required=True, type=FILE, help="The folder to make.")
@click.option("--overwrite", is_flag=True, help="Replace the fusion that the folder holds.")
@advanced_option(
    "--best", type=click.Choice(BESTS), default="loss", help="With runs: which of their best checkpoints is a member."
)
@advanced_option(
    "--folds",
    type=click.IntRange(0),
    default=5,
    help="Number of cross-validation folds that give the out-of-fold scores; 0: no such scores.",
)
@advanced_option(
    "--cv-group",
    metavar="GROUP",
    default="prompt",
    help="What is held out together in a fold: prompt, system or none.",
)
@advanced_option(
    "--seed", type=click.IntRange(0), default=0, help="Random seed for the folds and the bootstrap's resamples."
)
@advanced_option("--allow-missing", is_flag=True, help="Leave out, and count, the clips that not all members have.")
@click.pass_context
def fuse(context: click.Context, /, sources: tuple[Path, ...], from_fusion: Path | None, **options: Any) -> None:
    """Blend the predictions of several members: fit the blend on one split, apply it to another.

    Takes runs, folders of runs, or predictions files (.jsonl, the original system's .pt, an answer.txt). Writes the
    fused predictions, answer.txt and fusion.json to --out; for a fitted method also the out-of-fold predictions of the
    fit split, with their scores: each clip by a fusion that was not fitted on it.

    \b
    Examples:
      audiomos-cache fuse runs --method ridge --labels sets/dev_mos_list.txt --out fused
      audiomos-cache fuse a_dev.jsonl b_dev.jsonl --labels sets/dev_mos_list.txt \\
        --apply a_eval.jsonl --apply b_eval.jsonl --out fused
      audiomos-cache fuse --from fused runs --apply-split test --out fused-test
      audiomos-cache --import my_fusions.py fuse runs --method trimmed-mean --out fused
    """
    if from_fusion:
        _refuse_given(context)
    from audiomos_cache.fusion.fuse import fuse as fuse_members

    result = fuse_members(sources, from_fusion=from_fusion, **options)
    click.echo(result.headline)
    if tested := result.out_of_fold:
        from rich.console import Console

        from audiomos_cache.cli.tables import scores_table

        click.echo(tested.headline)
        Console().print(scores_table(tested.scores, "out-of-fold", tested.uncertainty))
        for note in tested.uncertainty.notes if tested.uncertainty else ():
            click.echo(note)
    for note in result.notes:
        click.echo(note)


def _refuse_given(context: click.Context) -> None:
    given = [name for name in _OF_MAKING if context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{options}: the fusion of --from is made already; leave it out")
