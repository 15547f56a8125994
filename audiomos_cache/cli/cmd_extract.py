"""`audiomos-cache extract`: run the frozen encoders once and keep their features."""

from pathlib import Path
from typing import Any

import click

from audiomos_cache.cli.options import (
    BATCH_SIZE,
    FILE,
    PLACE,
    Command,
    advanced_option,
    announce,
    device_option,
    echo,
)
from audiomos_cache.cli.progress_bar import progress, say
from audiomos_cache.errors import quoted
from audiomos_cache.files import parse_integer, parse_json, parse_number
from audiomos_cache.profiling import Profile


def _pad_to(_context: click.Context, _option: click.Parameter, value: str) -> float | None:
    if value == "none":
        return None
    try:
        seconds = parse_number(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 600:
        raise click.BadParameter(f"{quoted(value)} is neither none nor a number of seconds up to 600")
    return seconds


def _layers(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(parse_integer(layer) for layer in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{quoted(value)} is not a layer such as -1, nor several such as 6,9,12") from None


def _columns(_context: click.Context, _option: click.Parameter, value: str | None) -> dict[str, str]:
    if value is not None and value.lstrip().startswith("{"):
        return _columns_of_json(value)
    pairs = [pair.partition("=") for pair in value.split(",")] if value else []
    if wrong := [name for name, equals, column in pairs if not (equals and name.strip() and column.strip())]:
        raise click.BadParameter(f"{wrong[0]!r} is not a column as mi=quality; expected several as mi=quality,ta=fit")
    columns = {name.strip(): column.strip() for name, _, column in pairs}
    if len(columns) < len(pairs):
        raise click.BadParameter(f"{value!r} names one of our columns twice; expected each once")
    return columns


def _columns_of_json(value: str) -> dict[str, str]:
    try:
        columns: dict[str, str] = parse_json(value)
    except ValueError as error:
        raise click.BadParameter(f'{error}; expected JSON as {{"mi": "quality, overall"}}') from None
    return columns


@click.command(cls=Command)
@click.option(
    "--data",
    required=True,
    metavar="DIR|FILE|HUB_ID[@REV]",
    help="Read this dataset: a MusicEval folder; a manifest (.csv, .tsv, .jsonl, .parquet); a folder of Parquet files; "
    "or such a dataset on the Hugging Face hub.",
)
@click.option(
    "--split", multiple=True, metavar="NAME", help="Extract this split; repeat it for several.  [default: all]"
)
@click.option("--cache", type=FILE, default=Path("cache/default"), help="Keep the features in this folder.")
@click.option(
    "--audio-encoder",
    default="muq",
    type=PLACE,
    metavar="NAME[@REV]",
    help="Encode the audio with muq, muq-tiny, or a folder or hub id of a MuQ; @REV pins a revision on the hub.",
)
@click.option(
    "--text-encoder",
    default="roberta",
    type=PLACE,
    metavar="NAME[@REV]",
    help="Encode the prompts with roberta, roberta-tiny, or a folder or hub id; @REV pins a revision on the hub.",
)
@click.option(
    "--pad-to",
    default="30",
    metavar="SECONDS|none",
    callback=_pad_to,
    help="Pad every clip with zeros, or cut it, to this length; none keeps its own length.",
)
@click.option(
    "--on-error",
    type=click.Choice(("stop", "skip")),
    default="stop",
    help="Stop at a clip that cannot be read or encoded, or skip it.",
)
@click.option("--overwrite", is_flag=True, help="Delete the cached features of the splits and extract them again.")
@click.option("--repair", is_flag=True, help="Check the cached features first, and encode again what is damaged.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Write nothing; print what is left to do, its size on the disk, and its time, estimated from one batch.",
)
@advanced_option(
    "--layer",
    "--layers",
    "layers",
    default="-1",
    metavar="N[,N...]",
    callback=_layers,
    help="Keep these hidden layers of the audio encoder: 0 is the input of the first layer, -1 the last layer.",
)
@advanced_option(
    "--dtype", type=click.Choice(("float16", "float32")), default="float16", help="Store the features in this type."
)
@advanced_option(
    "--precision",
    type=click.Choice(("fp16", "bf16", "fp32")),
    help="Compute in this precision.  [default: fp16 on CUDA for float16 features, else fp32]",
)
@advanced_option(
    "--batch-size",
    type=BATCH_SIZE,
    metavar="N",
    help="Encode so many clips at once.  [default: 4, on CUDA as memory allows]",
)
@advanced_option(
    "--audio-root",
    metavar="DIR",
    type=FILE,
    help="Look for a manifest's files here; absolute paths must lie inside.  [default: the manifest's folder]",
)
@advanced_option(
    "--columns",
    metavar="OURS=NAME[,...]|JSON",
    callback=_columns,
    help="Read these columns of a manifest as ours: audio, path, prompt, id, system, split, mi or ta; as a JSON "
    "object, if a name has a comma.",
)
@advanced_option("--shard", metavar="I/N", help="Encode only share I of N; run the others elsewhere.")
@device_option
@click.pass_obj
def extract(profile: Profile, /, **options: Any) -> None:
    """Run the frozen encoders over a dataset once, and keep their features in a cache.

    Interrupt it whenever you like: run it again, and it resumes where it stopped and ends with the same files; on a
    CPU, with the same number of threads.

    With --shard, several machines fill the same split: in one folder that all of them can reach, where the last to
    finish writes the split's file, or each in its own, which merge then joins. All GPUs of a machine are used, unless
    --overwrite, --repair or --dry-run is given; CUDA_VISIBLE_DEVICES chooses which.

    Computed in fp16, features differ from those of fp32 by less than 1.5e-3 of their size; a clip that overflows is
    encoded again in fp32.

    The encoders muq-tiny and roberta-tiny need no download. They are untrained: they show that the
    pipeline works, nothing more.

    \b
    Examples:
      audiomos-cache extract --data MusicEval-phase1 --cache cache/musiceval
      audiomos-cache extract --data clips.csv --split train --pad-to none
      audiomos-cache extract --data clips.parquet --columns mi=quality,ta=fit
      audiomos-cache extract --data clips.csv --layers 6,9,12 --dry-run
      audiomos-cache extract --data clips.csv --shard 2/4 --batch-size 32
      audiomos-cache extract --data demo/data --audio-encoder muq-tiny \\
        --text-encoder roberta-tiny
    """
    announce("reading", [options["data"]])
    from audiomos_cache import extract as run

    with progress("clips") as update:
        result = run(**options, progress=update, notify=say, profile=profile)
    for line in result.lines():
        echo(line)
