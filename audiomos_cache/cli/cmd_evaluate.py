"""`audiomos-cache evaluate`: how well predictions agree with listeners, how sure that is, which are better."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from audiomos_cache.cli.options import FILE, SEED, Command, Integer, advanced_option, announce, echo
from audiomos_cache.errors import escaped

if TYPE_CHECKING:
    from audiomos_cache.evaluation.evaluate import Evaluation


@click.command(cls=Command)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option(
    "--labels",
    metavar="LIST",
    required=True,
    type=FILE,
    help="Compare with these scores of the clips: lines `name.wav,MI,TA`, or a manifest (.csv, .tsv, .jsonl, "
    ".parquet) with mi and ta.",
)
@click.option("--split", metavar="NAME", help="Read only this split of a manifest.  [default: all]")
@click.option("--by", type=click.Choice(["system"]), help="List every system of one file: its means, bias and ranks.")
@click.option(
    "--out",
    metavar="FILE",
    type=FILE,
    help="Also write the numbers to a file, in the format of its suffix: .csv, .json or .tex.",
)
@click.option("--overwrite", is_flag=True, help="Replace the --out file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@advanced_option(
    "--system-truth",
    metavar="CSV",
    type=FILE,
    help="Compare with these scores of the systems: lines `system,MI,TA`.  [default: the means of the list]",
)
@advanced_option(
    "--as-original",
    is_flag=True,
    help="Rank systems of equal means by float rounding, in the order of the list, as the original does; without it, "
    "they tie.",
)
@advanced_option(
    "--n-boot",
    type=Integer(0),
    default=10_000,
    metavar="N",
    help="Draw so many bootstrap resamples; 0 gives no intervals.",
)
@advanced_option("--seed", type=SEED, default=0, metavar="N", help="Draw the bootstrap's resamples by this seed.")
@click.pass_context
def evaluate(context: click.Context, /, files: tuple[Path, ...], labels: Path, as_json: bool, **options: Any) -> None:
    """Compare the predictions in FILE (.jsonl, an answer.txt, or the original system's .pt) with listeners' scores.

    Prints MSE, LCC, SRCC and KTAU of MI and TA, per clip (utt) and per system (sys), each with its 95 % interval. A
    resample draws whole systems, so an interval is about other systems judged by as many clips. With several files, the
    first is compared with each of the others. A fusion's predictions of clips that it was fitted on are refused;
    evaluate its out-of-fold predictions.

    \b
    Examples:
      audiomos-cache evaluate fused/out-of-fold.dev.jsonl --labels dev.csv
      audiomos-cache evaluate a.jsonl b.jsonl --labels sets/dev_mos_list.txt
      audiomos-cache evaluate a.jsonl --by system --labels sets/dev_mos_list.txt
    """
    if options["by"]:
        _refuse_unread(context)
    announce("reading", files)
    from audiomos_cache.evaluation.evaluate import evaluate as evaluate_files

    result = evaluate_files(files, labels, **options)
    if as_json:
        click.echo(result.to_json())
    else:
        _show(result)
    if options["out"]:
        click.echo(escaped(str(options["out"])), err=as_json)


def _show(result: "Evaluation") -> None:
    from rich.console import Console

    from audiomos_cache.cli.rendering import comparison_table, scores_table, systems_table

    console, first = Console(), result.files[0]
    for each in result.comparisons:
        click.echo(f"A: {escaped(first.name)}\n{each.letter}: {escaped(each.other.name)}")
        console.print(comparison_table(each.comparison, first.scores, each.other.scores, each.letter))
    if result.systems:
        console.print(systems_table(result.systems, first.name))
    elif not result.comparisons:
        console.print(scores_table(result.scores, first.name, result.uncertainty))
    for note in result.notes:
        echo(note)


def _refuse_unread(context: click.Context) -> None:
    """Refuse options that a list of systems does not read."""
    unread = [
        f"--{name.replace('_', '-')}"
        for name in ("as_original", "n_boot", "seed")
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE
    ]
    if unread:
        raise click.UsageError(f"--by system shows means and ranks, without resamples; leave out {', '.join(unread)}")
