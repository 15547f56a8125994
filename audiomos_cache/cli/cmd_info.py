"""`audiomos-cache info`: describe a cache, run, fusion or bundle, check a bundle, or list what is known."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from audiomos_cache.cli.options import DEVICE, FILE, PLACE, Command, advanced_option, echo
from audiomos_cache.cli.progress_bar import progress

FAILED = 3  # the exit code where a threshold was not met


@click.command(cls=Command)
@click.argument("target", metavar="[PATH|bundles|encoders|heads]", required=False, type=PLACE)
@click.argument("clips", metavar="[CLIP...]", nargs=-1, type=FILE)
@click.option(
    "--check",
    "checked",
    metavar="CLIP...",
    multiple=True,
    type=FILE,
    help="Check whether the bundle at PATH can be trusted, by clips, folders of them, or manifests (path,prompt).",
)
@click.option("--prompt", metavar="TEXT", help="Give the text that the clips to check by were made from.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@advanced_option(
    "--audio-encoder", metavar="DIR|REPO[@REV]", type=PLACE, help="To check, take the audio encoder from here."
)
@advanced_option(
    "--text-encoder", metavar="DIR|REPO[@REV]", type=PLACE, help="To check, take the text encoder from here."
)
@advanced_option("--device", type=DEVICE, help="To check, compute on this device.  [default: auto]")
@click.pass_context
def info(
    context: click.Context,
    /,
    target: str | None,
    clips: tuple[Path, ...],
    checked: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Describe the cache, run, fusion or bundle in a folder; or list the known bundles, encoders or heads.

    Shows the clips, hours, sizes, skipped clips, encoders and fingerprint of a cache; the checkpoints, scores and
    command of a run; the members of a fusion or a bundle, and how well a bundle's intervals cover.

    With --check: whether the scores of a bundle (a folder, a hub repository, a published name) fall as they must when
    music gets worse: by noise, low-pass and clipping, by segments in another order, by another clip's prompt. Give
    three clips or more; where clips differ, more decide. The exit code is 3 if they do not, or if it is not decided.

    \b
    Examples:
      audiomos-cache info cache/musiceval
      audiomos-cache info runs/transformer-dist-seed1984 --json
      audiomos-cache info heads
      audiomos-cache info model --check song.wav other.wav third.wav
    """
    if clips and not checked:
        raise click.UsageError(f"{str(clips[0])!r}: expected one PATH; clips come with --check")
    from audiomos_cache import info as run

    given = {name: value for name, value in options.items() if value is not None}
    with progress("versions") if checked else nullcontext() as update:
        found = run(target, check=(*checked, *clips) or None, progress=update, **given)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        echo("\n".join(found.lines()))
    if found.to_dict().get("passed") is False:
        context.exit(FAILED)
