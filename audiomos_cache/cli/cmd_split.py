"""`audiomos-cache split`: divide a labelled list in two."""

from pathlib import Path
from typing import Literal

import click

from audiomos_cache.cli.options import FILE, SEED, Command, File, Number
from audiomos_cache.errors import escaped


@click.command(cls=Command)
@click.argument("list_path", metavar="LIST", type=FILE)
@click.option(
    "--hold-out",
    type=click.Choice(["clips", "systems", "prompts"]),
    default="clips",
    help="Set aside the same share of each system's clips (a system's only clip stays in the first list), or whole "
    "systems, or whole prompts, of which none is in both lists.",
)
@click.option(
    "--fraction",
    type=Number(0, 1, min_open=True, max_open=True),
    default=0.1,
    metavar="SHARE",
    help="Set aside this share of the clips.",
)
@click.option("--seed", type=SEED, default=1984, metavar="N", help="Choose the clips by this seed.")
@click.option("--split", "name", metavar="NAME", help="Divide only this split of a manifest.  [default: all]")
@click.option(
    "--out",
    metavar="DIR",
    type=File(file_okay=False),
    help="Write the two lists to this folder.  [default: the one of LIST]",
)
@click.option("--overwrite", is_flag=True, help="Replace the two lists if they exist.")
def split(
    list_path: Path,
    hold_out: Literal["clips", "systems", "prompts"],
    fraction: float,
    seed: int,
    name: str | None,
    out: Path | None,
    overwrite: bool,
) -> None:
    """Divide LIST (lines `name.wav,MI,TA`, or a manifest with mi and ta) in two: to train on, and to choose by.

    Writes two lists, NAME-train and NAME-dev, with LIST's own lines, for train-head --train-list and --dev-list. The
    dataset's own dev split is then free for fuse and evaluate.

    \b
    Example:
      audiomos-cache split sets/train_mos_list.txt --out inner
      audiomos-cache train-head --train-list inner/train_mos_list-train.txt \\
        --dev-list inner/train_mos_list-dev.txt --cache cache/musiceval
    """
    from rich.console import Console

    from audiomos_cache.cli.rendering import split_table
    from audiomos_cache.dataset import splitting

    result = splitting.split(
        list_path, out, hold_out=hold_out, fraction=fraction, seed=seed, split=name, overwrite=overwrite
    )
    Console().print(split_table(result.sides, title=list_path.name))
    for side in result.sides.values():
        click.echo(escaped(str(side.path)))
