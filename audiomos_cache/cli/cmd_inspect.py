"""`audiomos-cache inspect`: what a cache holds."""

import json
from pathlib import Path

import click


@click.command
@click.argument("cache", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(cache: Path, as_json: bool) -> None:
    """Show the splits of a cache: clips, hours, sizes, skipped clips, encoders, fingerprint.

    \b
    Example:
      audiomos-cache inspect cache/musiceval
    """
    from audiomos_cache.cache.maintenance import describe_cache

    description = describe_cache(cache)
    if as_json:
        click.echo(json.dumps(description, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{cache}, fingerprint {description['fingerprint']}"))
    columns = ("split", "clips", "systems", "prompts", "hours", "labelled", "skipped", "files", "MB")
    for column in columns:
        table.add_column(column, justify="left" if column == "split" else "right")
    for name, split in description["splits"].items():
        numbers = (split[key] for key in ("clips", "systems", "prompts"))
        table.add_row(Text(name), *map(str, numbers), f"{split['hours']:.2f}", str(split["labelled"]),
                      str(len(split["skipped"])), str(len(split["files"])), f"{split['bytes'] / 1e6:.1f}")  # fmt: skip
    console = Console()
    console.print(table)
    for name, split in description["splits"].items():
        if not split["complete"]:
            click.echo(f"{name}: unfinished, {split['clips']} of {split['of']} clips are done")
    for kind, encoder in description["encoders"].items():
        layers = f" (layers {', '.join(map(str, description['layers']))})" if kind == "audio_encoder" else ""
        click.echo(f"{kind}{layers}: " + ", ".join(f"{key} {value}" for key, value in encoder.items()))
    for name, split in description["splits"].items():
        for clip_id, reason in split["skipped"]:
            click.echo(f"skipped in {name}: {clip_id}: {reason}")
