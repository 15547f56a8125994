"""`audiomos-cache info`: describe a cache, run, fusion or bundle, or list what is known."""

import json

import click

from audiomos_cache.cli.options import Command, echo


@click.command(cls=Command)
@click.argument("target", metavar="[PATH|bundles|encoders|heads]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def info(target: str | None, as_json: bool) -> None:
    """Describe the cache, run, fusion or bundle in a folder; or list the known bundles, encoders or heads.

    Shows the clips, hours, sizes, skipped clips, encoders and fingerprint of a cache; the checkpoints, scores and
    command of a run; the members of a fusion or a bundle, and how well a bundle's intervals cover.

    \b
    Examples:
      audiomos-cache info cache/musiceval
      audiomos-cache info runs/transformer-dist-seed1984 --json
      audiomos-cache info heads
    """
    from audiomos_cache import info as run

    found = run(target)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        echo("\n".join(found.lines()))
