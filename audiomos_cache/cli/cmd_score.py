"""`audiomos-cache score`: MI and TA of new music, by a bundle."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audiomos_cache.cli.options import BATCH_SIZE, FILE, PLACE, Command, File, advanced_option, device_option
from audiomos_cache.cli.progress_bar import progress, say
from audiomos_cache.errors import DataError, OutputError

if TYPE_CHECKING:
    from audiomos_cache.scoring.results import Outcome


@click.command(cls=Command)
@click.argument("audio", metavar="[AUDIO...]", nargs=-1, type=File(path_type=str))
@click.option(
    "--bundle",
    multiple=True,
    metavar="NAME|DIR|REPO[@REV]",
    type=PLACE,
    help="Score with this bundle: a published one (see info bundles), a folder, or a repository on the Hugging Face "
    "hub; @REV pins a revision of it. Repeat it for several.  [default: muq-eval-a1]",
)
@click.option(
    "--prompt",
    metavar="TEXT",
    help="Score TA by this text, which all of AUDIO was made from.  [default: none, for MI alone]",
)
@click.option(
    "--manifest",
    metavar="FILE",
    type=FILE,
    help="Score the clips of a .csv, .tsv, .jsonl or .parquet file with the columns path, prompt and perhaps id.",
)
@click.option(
    "--audio-root",
    metavar="DIR",
    type=FILE,
    help="Look for the manifest's files here; absolute paths must lie inside.  [default: the manifest's folder]",
)
@click.option(
    "--out",
    metavar="FILE",
    type=File(dir_okay=False),
    help="Write to this file, whose suffix is the format: .jsonl, a line for each clip as it is scored; .csv or "
    ".parquet, a table, written at the end.  [default: stdout: JSON lines, or on a terminal a table]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines on a terminal too, instead of a table.")
@click.option("--overwrite", is_flag=True, help="Score all clips again, and replace an --out file that holds scores.")
@advanced_option(
    "--audio-encoder",
    metavar="DIR|REPO[@REV]",
    type=PLACE,
    help="Take the weights of the audio encoder from here, not from where the bundle names.",
)
@advanced_option(
    "--text-encoder",
    metavar="DIR|REPO[@REV]",
    type=PLACE,
    help="Take the weights of the text encoder from here, not from where the bundle names.",
)
@click.option(
    "--windows",
    type=click.Choice(("released", "mean")),
    default="released",
    help="Of a song that is longer than a window, hear what the bundle was released with, or the mean of all of it.",
)
@device_option
@advanced_option(
    "--precision",
    type=click.Choice(("fp16", "bf16", "fp32")),
    help="Compute the audio encoder in this precision.  [default: fp16 on CUDA for float16 features, else fp32]",
)
@advanced_option(
    "--batch-size",
    type=BATCH_SIZE,
    metavar="N",
    help="Encode so many clips at once.  [default: 4, on CUDA as memory allows]",
)
def score(audio: tuple[str, ...], out: Path | None, as_json: bool, bundle: tuple[str, ...], **options: Any) -> None:
    """Score music: how good it is (MI) and how well it fits its prompt (TA), from 1 to 5, as listeners would.

    Without --bundle, muq-eval-a1 gives MI: a published head, whose weights are fetched once (1.34 GB).

    AUDIO are files (wav, flac, mp3, ogg, opus, m4a, aac, mp4, webm, aiff and more) and folders of them, which share one
    --prompt. Clips with prompts of their own come in a --manifest, whose paths are relative to its folder, or to
    --audio-root; absolute ones must lie in it.

    Each clip gives a line with its id, path, mi and ta, intervals that hold the listeners' mean for 80 % of clips,
    where the bundle was calibrated, all scores by name, and warnings. A clip that cannot be scored gives a line with an
    error; the others are scored, and the exit code is 1.

    A clip's id is that of its manifest row, else the name of its file, with the path inside a given folder: song for
    song.wav, song.mp3 for song.mp3. (extract gives both of them the id song.)

    Interrupt it whenever you like: with --out, run it again, and it scores what is missing and tries what failed. A
    .jsonl file can also be extended by other clips later. A table holds the clips of its command alone, in their order;
    once every clip has its score, --overwrite is needed to replace it.

    \b
    Examples:
      audiomos-cache score song.wav
      audiomos-cache score song.wav --prompt "slow, sad piano" --bundle model
      audiomos-cache score --manifest new.csv --bundle model --out scores.jsonl
    """
    if bundle:
        options["bundle"] = bundle
    if as_json and out:
        raise click.UsageError("--json goes without --out, whose suffix is the format")
    from audiomos_cache.scoring.score_files import score_files

    on_terminal = out is None and sys.stdout.isatty()  # where what is printed shows the progress already
    with nullcontext() if on_terminal else progress("clips") as update:
        if on_terminal and not as_json:
            outcome = _print_table(audio, options)
        else:
            outcome = score_files(audio, out=out or _print, progress=update, **options)
    say(str(outcome))
    if outcome.failed and on_terminal and not as_json:  # the reasons are in the table
        raise DataError(f"{outcome.count_failed()}; correct them and score them again")
    if outcome.failed:
        command = "run it again without --overwrite" if options["overwrite"] else "run it again"
        again = "score them again" if out is None else f"{command}, which tries only them"
        raise DataError(f"{outcome.failures()}; correct them and {again}")


def _print_table(audio: tuple[str, ...], options: dict[str, Any]) -> "Outcome":
    """Print a row for each clip as it is scored, then what the numbers mean."""
    from audiomos_cache.cli.score_rows import ScoreRows
    from audiomos_cache.scoring.score_files import score_files

    rows = ScoreRows(lambda line: _print(f"{line}\n"))
    outcome = score_files(audio, out=rows.write, on_start=rows.begin, **options)
    if not outcome.scored:
        return outcome
    _print("\n")
    for sentence in outcome.about:
        rows.write_wrapped(sentence)
    if not rows.has_intervals:
        rows.write_wrapped("There is no room for brackets here; a wider terminal shows them.")
    if not rows.has_prompts and rows.hears_prompts:
        rows.write_wrapped("TA needs the prompt: give the text that the music was made from as --prompt.")
    return outcome


def _print(text: bytes | str) -> None:
    try:
        click.echo(text, nl=False)
    except BrokenPipeError:
        raise  # click ends quietly when the reader of a pipe has gone
    except OSError as error:
        raise OutputError(
            f"stdout: cannot be written: {error.strerror or error}; make room there, or give --out, a file that the "
            "command can resume"
        ) from error
