"""`audiomos-cache fuse`: blend the predictions of several members."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from audiomos_cache.runs import BESTS

if TYPE_CHECKING:
    from audiomos_cache.fusion.fitting import OutOfFold
    from audiomos_cache.fusion.leakage import EarlyStopping


METHODS = ("mean", "rank", "weighted", "ridge", "lightgbm", "greedy")
GROUPS = ("prompt", "system", "none")
_OF_MAKING = ("method", "labels", "fit_split", "apply", "best", "folds", "cv_group", "seed", "n_boot")

_CRITERIA = {
    "loss": "dev loss",
    "srcc": "system SRCC MI",
    "combined": "the mean of utterance SRCC MI and system SRCC TA",
}
_SRCCS = {
    "utt_mi": "utterance SRCC MI",
    "utt_ta": "utterance SRCC TA",
    "sys_mi": "system SRCC MI",
    "sys_ta": "system SRCC TA",
}

_FILE = click.Path(path_type=Path)


@click.command
@click.argument("sources", metavar="RUN_OR_FILE...", nargs=-1, required=True, type=_FILE)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="ridge",
    help="How to blend: the mean; the mean rank (for correlation only: the scale is lost); or learned with --labels: "
    "the mean with the best weights, a ridge regression on the distributions (as the original does), LightGBM on them, "
    "or greedy selection.",
)
@click.option(
    "--labels",
    metavar="LIST",
    type=_FILE,
    help="The fit split's scores: lines `name.wav,MI,TA`, or a .csv or .jsonl manifest that holds that split.",
)
@click.option("--fit-split", metavar="NAME", show_default="dev with runs", help="The split to learn the blend on.")
@click.option(
    "--apply-split",
    metavar="NAME",
    show_default="eval with runs",
    help="The split to blend. With files and without it, the output names no split.",
)
@click.option(
    "--apply",
    metavar="FILE",
    multiple=True,
    type=_FILE,
    help="With files: one of the apply split for each of the fit split, in the same order.",
)
@click.option("--best", type=click.Choice(BESTS), default="loss", help="With runs: which best checkpoint.")
@click.option("--folds", type=click.IntRange(0), default=5, help="Of the out-of-fold scores; 0: no such scores.")
@click.option("--cv-group", type=click.Choice(GROUPS), default="prompt", help="What is held out together in a fold.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the folds and the resamples.")
@click.option("--n-boot", type=click.IntRange(0), default=10_000, metavar="N", help="Resamples; 0: no intervals.")
@click.option("--allow-missing", is_flag=True, help="Leave out, and count, the clips that not all members have.")
@click.option("--from", "fused", metavar="DIR", type=_FILE, help="Apply the fusion in this folder; nothing is learned.")
@click.option("--out", required=True, type=_FILE, help="The folder to make.")
@click.option("--overwrite", is_flag=True, help="Replace the fusion that the folder holds.")
@click.pass_context
def fuse(
    context: click.Context,
    /,
    sources: tuple[Path, ...],
    fused: Path | None,
    out: Path,
    overwrite: bool,
    **options: Any,
) -> None:
    """Blend the predictions of several members: learn how on one split, apply it to another.

    Takes runs, folders of runs, or predictions files (.jsonl, the original system's .pt, an answer.txt). Writes the
    fused predictions, answer.txt and fusion.json to --out, and of what was learned the out-of-fold predictions of the
    fit split, with their scores: those of clips the fusion was not fitted on.

    \b
    Examples:
      audiomos-cache fuse runs --method ridge --labels sets/dev_mos_list.txt --out fused
      audiomos-cache fuse a_dev.jsonl b_dev.jsonl --labels sets/dev_mos_list.txt \\
        --apply a_eval.jsonl --apply b_eval.jsonl --out fused
      audiomos-cache fuse --from fused runs --apply-split test --out fused-test
    """
    from audiomos_cache.fusion.fitting import Recipe
    from audiomos_cache.fusion.fuse import apply_fusion
    from audiomos_cache.fusion.fuse import fuse as fuse_members

    if fused:
        _refuse_given(context, _OF_MAKING)
        chosen = {name: options[name] for name in ("apply_split", "allow_missing")}
        result = apply_fusion(fused, sources, out, overwrite=overwrite, **chosen)
    else:
        result = fuse_members(sources, out, Recipe(**options), overwrite=overwrite)
    made = result.fusion
    clips = len(result.predictions.ids)
    click.echo(f"{out / 'answer.txt'}: {made.method} of {len(made.names)} members, {clips} clips")
    if result.out_of_fold:
        _show_out_of_fold(result.out_of_fold)
    for stopping in result.early_stopping:
        click.echo(_early_stopping_note(stopping, len(made.names)))


def _show_out_of_fold(tested: "OutOfFold") -> None:
    from rich.console import Console

    from audiomos_cache.cli.tables import scores_table

    click.echo(f"Out-of-fold on the fit split: each clip by a fusion that was fitted without it, {tested.folds}.")
    Console().print(scores_table(tested.scores, "out-of-fold", tested.uncertainty))
    for note in tested.uncertainty.notes if tested.uncertainty else ():
        click.echo(note)


def _refuse_given(context: click.Context, names: tuple[str, ...]) -> None:
    given = [name for name in names if context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{options}: the fusion of --from is made already; leave it out")


def _early_stopping_note(stopping: "EarlyStopping", members: int) -> str:
    """Say that members chose their checkpoints on the clips, and by how much that may flatter the members."""
    from audiomos_cache.fusion.leakage import CHOSEN_BY

    where = "these scores" if stopping.split == "fit" else "scores on the apply split"
    note = (
        f"{len(stopping.clips)} of {members} members chose their checkpoints on clips of the {stopping.split} split, "
        f"so {where} may be optimistic"
    )
    leads = stopping.leads
    if leads is None:
        return f"{note}; by how much cannot be told from their histories."
    chosen = {number for best in leads.criterion for number in CHOSEN_BY[best]}
    by = [f"{_CRITERIA[best]} {_lead(lead, least=True)}" for best, lead in leads.criterion.items()]
    others = [
        f"{name} {_lead(leads.excess[view]['srcc'])}" for view, name in _SRCCS.items() if (view, "srcc") not in chosen
    ]
    return (
        f"{note}. How far the members' chosen epochs lead those around them, on the mean of {stopping.estimated}: in "
        f"what they were chosen by, {', '.join(by)}; beside that, {', '.join(others)}. This is of the members, not of "
        "the fusion. All measures are in fusion.json."
    )


def _lead(value: float | None, *, least: bool = False) -> str:
    if value is None:
        return "cannot be told"
    return "no sign of it" if value <= 0 else f"{'at least ' if least else ''}{value:.4f}"
