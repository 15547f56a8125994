"""`audiomos-cache fuse`: blend the predictions of several runs."""

from pathlib import Path

import click

from audiomos_cache.runs import BESTS

METHODS = ("mean", "ridge")

_FILE = click.Path(path_type=Path)


@click.command
@click.argument(
    "sources",
    metavar="RUN_OR_FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
)
@click.option("--method", type=click.Choice(METHODS), default="ridge", help="How to blend; ridge needs --labels.")
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
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option("--overwrite", is_flag=True, help="Replace the fusion that the folder holds.")
def fuse(
    sources: tuple[Path, ...],
    method: str,
    labels: Path | None,
    fit_split: str | None,
    apply_split: str | None,
    apply: tuple[Path, ...],
    best: str,
    out: Path,
    overwrite: bool,
) -> None:
    """Blend the predictions of several runs: learn how on one split, apply it to another.

    Takes run folders, or predictions files (.jsonl, or the original system's .pt). Writes the fused
    predictions, answer.txt and fusion.json to --out.

    \b
    Examples:
      audiomos-cache fuse runs/* --method ridge --labels sets/dev_mos_list.txt --out fused
      audiomos-cache fuse a_dev.jsonl b_dev.jsonl --labels sets/dev_mos_list.txt \\
        --apply a_eval.jsonl --apply b_eval.jsonl --out fused
    """
    from audiomos_cache import fusion

    fused = fusion.fuse(
        sources,
        out,
        method=method,
        labels=labels,
        fit_split=fit_split,
        apply_split=apply_split,
        apply=apply,
        best=best,
        overwrite=overwrite,
    )
    click.echo(f"{out / 'answer.txt'}: {method} of {len(sources)} predictions, {len(fused.ids)} clips")
