"""`audiomos-cache evaluate`: how well predictions agree with listeners."""

from pathlib import Path

import click


@click.command
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    "labels_path",
    metavar="LIST",
    required=True,
    type=click.Path(path_type=Path),
    help="The clips' scores: lines `name.wav,MI,TA`, or a .csv or .jsonl manifest with mi and ta.",
)
@click.option(
    "--split", metavar="NAME", help="With a manifest only: the split whose rows to read. Without it, all rows."
)
@click.option(
    "--system-truth",
    "truth_path",
    metavar="CSV",
    type=click.Path(path_type=Path),
    help="The systems' scores: lines `system,MI,TA`. Without it, the means of the list.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def evaluate(file: Path, labels_path: Path, split: str | None, truth_path: Path | None, as_json: bool) -> None:
    """Compare the predictions in FILE (.jsonl, or the original system's .pt) with listeners' scores.

    Prints MSE, LCC, SRCC and KTAU of MI and TA, per clip and per system.

    \b
    Example:
      audiomos-cache evaluate fused/fused.dev.jsonl --labels sets/dev_mos_list.txt
    """
    import json

    from rich.console import Console

    from audiomos_cache import metrics
    from audiomos_cache.cli.tables import scores_table
    from audiomos_cache.dataset import read_labels, read_system_truth
    from audiomos_cache.predictions import read_predictions

    truth = read_system_truth(truth_path) if truth_path else None
    scores = metrics.evaluate(read_predictions(file), read_labels(labels_path, split), truth)
    if as_json:
        click.echo(json.dumps(scores.to_json(), indent=1))
    else:
        Console().print(scores_table(scores, title=file.name))
