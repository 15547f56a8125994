"""`audiomos-cache extract`: run the frozen encoders once and keep their features."""

from functools import partial
from pathlib import Path
from typing import Literal

import click

from audiomos_cache.cli.devices import DEVICES, resolve_device
from audiomos_cache.cli.progress import progress


def _pad_to(_context: click.Context, _option: click.Parameter, value: str) -> float | None:
    if value == "none":
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 600:
        raise click.BadParameter(f"{value!r} is neither none nor a number of seconds up to 600")
    return seconds


@click.command
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="MusicEval folder, or a .csv or .jsonl manifest."
)
@click.option(
    "--split", "splits", multiple=True, metavar="NAME", help="A split to extract; repeat for several.  [default: all]"
)
@click.option("--cache", type=click.Path(path_type=Path), default=Path("cache/default"), help="The cache folder.")
@click.option("--audio-encoder", default="muq", metavar="NAME", help="muq, muq-tiny, or a folder or hub id of a MuQ.")
@click.option("--audio-revision", metavar="REV", help="Pin a hub revision of the audio encoder.")
@click.option("--text-encoder", default="roberta", metavar="NAME", help="roberta, roberta-tiny, or a folder or hub id.")
@click.option("--text-revision", metavar="REV", help="Pin a hub revision of the text encoder.")
@click.option(
    "--pad-to",
    default="30",
    metavar="SECONDS|none",
    callback=_pad_to,
    help="Encode clips at this length, padded or cut; none: their own.",
)
@click.option(
    "--dtype", type=click.Choice(("float16", "float32")), default="float16", help="Type of the stored features."
)
@click.option("--device", type=click.Choice(DEVICES), default="auto", help="Where to encode.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Clips encoded at once.  [default: 4, on CUDA 32]")
@click.option("--on-error", type=click.Choice(("stop", "skip")), default="stop", help="What to do about a bad clip.")
@click.option("--overwrite", is_flag=True, help="Extract the splits anew; their cached features are deleted.")
@click.option("--repair", is_flag=True, help="Check what is there first, and encode again what is damaged.")
def extract(
    data: Path,
    splits: tuple[str, ...],
    cache: Path,
    audio_encoder: str,
    audio_revision: str | None,
    text_encoder: str,
    text_revision: str | None,
    pad_to: float | None,
    dtype: Literal["float16", "float32"],
    device: str,
    batch_size: int | None,
    on_error: Literal["stop", "skip"],
    overwrite: bool,
    repair: bool,
) -> None:
    """Run the frozen encoders over a dataset once, and keep their features in a cache.

    Interrupt it whenever you like: run again, it goes on where it stopped, and ends with the same files.
    The encoders muq-tiny and roberta-tiny need no download. They are untrained: they show that the
    pipeline works, not how good MuQ is.

    \b
    Examples:
      audiomos-cache extract --data MusicEval-phase1 --cache cache/musiceval
      audiomos-cache extract --data clips.csv --split train --split dev --pad-to none
      audiomos-cache extract --data demo/data --audio-encoder muq-tiny --text-encoder roberta-tiny
    """
    from audiomos_cache.dataset import load_dataset
    from audiomos_cache.encoders import UNTRAINED_NOTICE, load_audio_encoder, load_text_encoder
    from audiomos_cache.errors import first_five
    from audiomos_cache.extraction import ExtractionOptions, extract_split

    dataset = load_dataset(data, splits)
    device = resolve_device(device)
    options = ExtractionOptions(
        pad_to_s=pad_to,
        dtype=dtype,
        batch_size=batch_size or (32 if device == "cuda" else 4),
        on_error=on_error,
        overwrite=overwrite,
        repair=repair,
    )
    audio = load_audio_encoder(audio_encoder, revision=audio_revision, device=device)
    text = load_text_encoder(text_encoder, revision=text_revision, device=device)
    for encoder in (audio, text):
        if encoder.untrained:
            click.echo(f"{encoder.name} is {UNTRAINED_NOTICE}", err=True)
    for split, clips in dataset.items():
        with progress("clips") as update:
            summary = extract_split(
                clips,
                cache,
                audio=audio,
                text=text,
                options=options,
                progress=partial(update, f"extract {split}"),
                together_with=dataset,
            )
        for line in summary.damaged:
            click.echo(f"Damaged: {line}", err=True)
        if summary.warnings:
            click.echo(f"Warnings: {first_five(summary.warnings)}", err=True)
        for clip_id, reason in summary.skipped:
            click.echo(f"Skipped {clip_id}: {reason}", err=True)
        skipped = f", {len(summary.skipped)} skipped" if summary.skipped else ""
        done = f"{summary.encoded} encoded" if summary.encoded else "nothing left to do"
        click.echo(f"{split}: {summary.clips} clips ({done}{skipped}) in {', '.join(map(str, summary.files))}")
