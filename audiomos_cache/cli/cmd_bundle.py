"""`audiomos-cache bundle`: trained heads and their fusion as one folder."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from audiomos_cache.cli.options import FILE, PLACE, Command, advanced_option, announce, echo
from audiomos_cache.cli.progress_bar import progress
from audiomos_cache.runs import BESTS


@click.command(cls=Command)
@click.argument("runs", metavar="[RUN...]", nargs=-1, type=FILE)
@click.option(
    "--fusion",
    metavar="DIR",
    type=FILE,
    help="Bundle the fusion of the runs that fuse wrote in this folder.  [default: none]",
)
@click.option("--out", required=True, type=FILE, help="Make this folder.")
@click.option(
    "--published",
    metavar="NAME",
    help="Bundle the head that others published under this name, instead of runs; see info bundles.",
)
@click.option(
    "--weights", metavar="PATH", type=FILE, help="Take the published head's files from here: their folder, or the file."
)
@click.option(
    "--audio-encoder",
    metavar="NAME|DIR|REPO[@REV]",
    type=PLACE,
    help="Use this MuQ with the published head.  [default: the one in its checkpoint, else muq]",
)
@click.option(
    "--best", type=click.Choice(BESTS), default="loss", help="Take this checkpoint of a run, without --fusion."
)
@click.option(
    "--labels",
    metavar="LIST",
    type=FILE,
    help="Give the list that the fusion was fitted on, if it was moved since; or, of one run or a mean, the labels of "
    "--fit-split, for the card's table and the intervals.",
)
@click.option(
    "--fit-split", metavar="NAME", help="Say which split --labels are of, of one run or a mean.  [default: dev]"
)
@click.option(
    "--check",
    metavar="CLIP",
    multiple=True,
    type=FILE,
    help="Check for the card whether the scores fall when this clip gets worse; a folder or a manifest (path,prompt) "
    "too. Repeat it for several.  [default: made-up music]",
)
@advanced_option("--no-check", is_flag=True, help="Leave the check out, as long as scoring 96 clips of 10 s.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle in the --out folder.")
@click.pass_context
def bundle(context: click.Context, /, check: tuple[Path, ...], no_check: bool, **options: Any) -> None:
    """Make one folder of trained heads and their fusion, to score new music with, here or elsewhere.

    Or of a head that others published: --published NAME --weights PATH, on a machine without a network for example.

    Takes runs, or folders of runs. Writes the heads' weights (safetensors), the fusion, bundle.yaml, which says what
    they need and the hash of each part, and a model card. The folder can be uploaded to the Hugging Face hub as it is,
    by the command in the last line. Its scores have 80 % intervals, calibrated on the out-of-fold predictions of
    labelled clips.

    The card says whether the scores fall when music gets worse, as info --check does, if the encoders can be loaded.

    \b
    Examples:
      audiomos-cache bundle runs --fusion fused --out model
      audiomos-cache bundle runs/transformer-dist-seed1984 --out model \\
        --labels sets/dev_mos_list.txt
      audiomos-cache bundle --published muq-eval-a1 --weights FOLDER --out muq
    """
    if check and no_check:
        raise click.UsageError("--check goes without --no-check")
    if options["published"] is not None:
        _bundle_published(context, options, check or not no_check)
        return
    for name in ("weights", "audio_encoder"):
        if options.pop(name) is not None:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with --published")
    del options["published"]
    if not options["runs"]:
        raise click.UsageError("Missing argument 'RUN...'; or give --published and --weights")
    if options["fusion"] and context.get_parameter_source("best") == ParameterSource.COMMANDLINE:
        raise click.UsageError("--best: the fusion says which checkpoints it is of; leave it out")
    announce("reading", options["runs"])
    from audiomos_cache import make_bundle

    with progress("versions") as update:
        made = make_bundle(**options, check=check or not no_check, progress=update)
    for line in made.lines():
        echo(line)


_OF_RUNS = ("runs", "fusion", "best", "labels", "fit_split")


def _bundle_published(context: click.Context, options: dict[str, Any], check: tuple[Path, ...] | bool) -> None:
    given = [name for name in _OF_RUNS if context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    given = [name for name in given if options[name] not in ((), None)]
    if given:
        names = ", ".join("RUN" if name == "runs" else f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{names}: not of a published head; leave it out")
    if options["weights"] is None:
        raise click.UsageError(f"--published {options['published']}: give its files with --weights")
    announce("reading", [options["weights"]])
    from audiomos_cache import make_published_bundle

    given = [options[name] for name in ("published", "weights", "out", "audio_encoder")]
    with progress("versions") as update:
        made = make_published_bundle(*given, overwrite=options["overwrite"], check=check, progress=update)
    for line in made.lines():
        echo(line)
