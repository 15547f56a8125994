"""`audiomos-cache info`: what a cache, run, fusion or bundle holds, and what is known."""

import json

import click

from audiomos_cache.cli.options import Command


@click.command(cls=Command)
@click.argument("target", metavar="[PATH|bundles|encoders|heads]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(target: str | None, as_json: bool) -> None:
    """Describe the cache, run, fusion or bundle in a folder; or list the known bundles, encoders or heads.

    Of a cache: clips, hours, sizes, skipped clips, encoders, fingerprint. Of a run: checkpoints, numbers, and the
    command that it was made with. Of a fusion and a bundle: members, and how well the intervals cover.

    \b
    Examples:
      audiomos-cache info cache/musiceval
      audiomos-cache info runs/transformer-dist-seed1984 --json
      audiomos-cache info heads
    """
    from audiomos_cache import info as run

    found = run(target)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else "\n".join(found.lines()))
