"""`audiomos-cache submit`: pack the answer as the challenge takes it."""

from pathlib import Path

import click

from audiomos_cache.cli.options import FILE, Command, File
from audiomos_cache.errors import escaped


@click.command(cls=Command)
@click.argument("file", type=FILE)
@click.option(
    "--list",
    "list_path",
    metavar="LIST",
    required=True,
    type=FILE,
    help="Check against this list of the challenge's clips, an id a line (eval_list.txt).",
)
@click.option("--out", required=True, type=File(dir_okay=False), help="Write this zip.")
@click.option("--overwrite", is_flag=True, help="Replace the zip if it exists.")
def submit(file: Path, list_path: Path, out: Path, overwrite: bool) -> None:
    """Check the predictions in FILE against the challenge's list, and pack them as answer.txt in a zip.

    The file must hold every clip of the list once and no other, with finite scores. Scores outside 1..5 are clipped, as
    the original clips them, and counted in a warning.

    \b
    Example:
      audiomos-cache submit fused/fused.eval.jsonl --list sets/eval_list.txt \\
        --out answer.zip
    """
    from audiomos_cache.evaluation import submission

    click.echo(escaped(str(submission.submit(file, list_path, out, overwrite=overwrite))))
