"""`audiomos-cache fuse`: blend the predictions of several members."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from audiomos_cache import registry
from audiomos_cache.cli.options import FILE, SEED, Command, Integer, advanced_option, announce, echo
from audiomos_cache.runs import BESTS

_OF_MAKING = ("method", "labels", "fit_split", "apply", "best", "folds", "cv_group", "seed")


def _known_method(context: click.Context, option: click.Parameter, value: str) -> str:
    """Refuse a method that is not registered; looked up now, because `--import` may have registered more."""
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
    help="Blend by mean; or, fitted to --labels, by weighted (the mean with the best weights), ridge (regression on "
    "the distributions, as the original does), lightgbm (trees on them) or greedy (selection); or by one of --import.",
)
@click.option(
    "--labels",
    metavar="LIST",
    type=FILE,
    help="Fit to these scores of the fit split: lines `name.wav,MI,TA`, or a manifest (.csv, .tsv, .jsonl, .parquet).",
)
@click.option("--fit-split", metavar="NAME", help="Fit the blend on this split.  [default: dev with runs]")
@click.option(
    "--apply-split",
    metavar="NAME",
    help="Blend this split. With files and without this option, the output names no split.  [default: eval with runs]",
)
@click.option(
    "--apply",
    metavar="FILE",
    multiple=True,
    type=FILE,
    help="Blend this file, with files: give one of the apply split for each of the fit split, in the same order.",
)
@click.option(
    "--from",
    "from_fusion",
    metavar="DIR",
    type=FILE,
    help="Apply the fusion in this folder; nothing is fitted.",
)
@click.option("--out", required=True, type=FILE, help="Make this folder.")
@click.option("--overwrite", is_flag=True, help="Replace the fusion in the --out folder.")
@advanced_option(
    "--best", type=click.Choice(BESTS), default="loss", help="Take this checkpoint of each run as a member."
)
@advanced_option(
    "--folds",
    type=Integer(0),
    default=5,
    metavar="N",
    help="Give the out-of-fold scores by so many cross-validation folds; 0 gives none.",
)
@advanced_option(
    "--cv-group",
    metavar="GROUP",
    default="prompt",
    help="Hold out together in a fold the clips of one prompt, of one system, or none.",
)
@advanced_option(
    "--seed", type=SEED, default=0, metavar="N", help="Draw the folds and the bootstrap's resamples by this seed."
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
      audiomos-cache fuse runs --labels sets/dev_mos_list.txt --out fused
      audiomos-cache fuse a_dev.jsonl b_dev.jsonl --apply a_eval.jsonl \\
        --apply b_eval.jsonl --labels sets/dev_mos_list.txt --out fused
      audiomos-cache fuse --from fused runs --apply-split test --out fused-test
      audiomos-cache --import my_fusions.py fuse runs --method trimmed_mean \\
        --out fused
    """
    if from_fusion:
        _refuse_given(context)
    announce("reading", sources)
    from audiomos_cache.fusion.fuse import fuse as fuse_members

    result = fuse_members(sources, from_fusion=from_fusion, **options)
    echo(result.headline)
    if tested := result.out_of_fold:
        from rich.console import Console

        from audiomos_cache.cli.rendering import scores_table

        echo(tested.headline)
        Console().print(scores_table(tested.scores, "out-of-fold", tested.uncertainty))
        for note in tested.uncertainty.notes if tested.uncertainty else ():
            echo(note)
    for note in result.notes:
        echo(note)


def _refuse_given(context: click.Context) -> None:
    given = [name for name in _OF_MAKING if context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{options}: the fusion of --from is made already; leave it out")
