"""`audiomos-cache evaluate`: how well predictions agree with listeners, how sure that is, which are better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from audiomos_cache.evaluation.records import Record
    from audiomos_cache.metrics import Points

_FILE = click.Path(path_type=Path)


@click.command
@click.argument("file", type=_FILE)
@click.option(
    "--labels",
    "labels_path",
    metavar="LIST",
    required=True,
    type=_FILE,
    help="The clips' scores: lines `name.wav,MI,TA`, or a .csv or .jsonl manifest with mi and ta.",
)
@click.option(
    "--split", metavar="NAME", help="With a manifest only: the split whose rows to read. Without it, all rows."
)
@click.option(
    "--system-truth",
    "truth_path",
    metavar="CSV",
    type=_FILE,
    help="The systems' scores: lines `system,MI,TA`. Without it, the means of the list.",
)
@click.option("--compare", "other", metavar="FILE", type=_FILE, help="Other predictions: which of the two are better?")
@click.option("--by", type=click.Choice(["system"]), help="List every system: its means, bias and ranks.")
@click.option("--n-boot", type=click.IntRange(0), default=10_000, metavar="N", help="Resamples; 0: no intervals.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, metavar="N", help="Of the resamples.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table.")
def evaluate(
    file: Path,
    labels_path: Path,
    split: str | None,
    truth_path: Path | None,
    other: Path | None,
    by: str | None,
    n_boot: int,
    seed: int,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Compare the predictions in FILE (.jsonl, an answer.txt, or the original system's .pt) with listeners' scores.

    Prints MSE, LCC, SRCC and KTAU of MI and TA, per clip (utt) and per system (sys), each with its 95 % interval. A
    resample draws whole systems, so an interval speaks of other systems judged by as many clips.

    \b
    Examples:
      audiomos-cache evaluate fused/fused.dev.jsonl --labels sets/dev_mos_list.txt
      audiomos-cache evaluate a.jsonl --compare b.jsonl --labels sets/dev_mos_list.txt
      audiomos-cache evaluate a.jsonl --by system --labels sets/dev_mos_list.txt --csv
    """
    _check_usage(other, by, n_boot, as_json, as_csv)

    from audiomos_cache.dataset import read_labels, read_system_truth
    from audiomos_cache.metrics import points_of
    from audiomos_cache.predictions import read_predictions

    labels = read_labels(labels_path, split)
    truth = read_system_truth(truth_path) if truth_path else None
    points = points_of(read_predictions(file), labels, truth, str(file))
    if other:
        others = points_of(read_predictions(other), labels, truth, str(other))
        names = (file.name, other.name) if file.name != other.name else (str(file), str(other))
        found = _comparison(points, others, names, n_boot, seed)
    elif by:
        found = _systems(points, labels.systems, file.name)
    else:
        found = _scores(points, file.name, n_boot, seed)
    found.show(as_json, as_csv)


def _check_usage(other: Path | None, by: str | None, n_boot: int, as_json: bool, as_csv: bool) -> None:
    """Refuse options that contradict each other."""
    for wrong, problem in (
        (as_json and as_csv, "--json and --csv: give one of them"),
        (other and by, "--by system shows one file's systems; leave out --compare"),
        (other and not n_boot, "--compare needs resamples; leave out --n-boot 0"),
    ):
        if wrong:
            raise click.UsageError(problem)


@dataclass(frozen=True)
class _Found:
    """A result in its three forms, what is to be said of it after them, and before the table."""

    table: "Table"
    content: "Record"
    rows: "list[Record]"
    said: Sequence[str] = ()
    heads: Sequence[str] = ()

    def show(self, as_json: bool, as_csv: bool) -> None:
        """Print it; beside CSV, what is to be said goes to stderr."""
        import csv
        import json
        import sys

        from rich.console import Console

        if as_json:
            click.echo(json.dumps(self.content, indent=1, allow_nan=False))
            return
        if as_csv:
            writer = csv.DictWriter(sys.stdout, list(self.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        else:
            for line in self.heads:
                click.echo(line)
            Console().print(self.table)
        for line in self.said:
            click.echo(line, err=as_csv)


def _scores(points: "Mapping[str, Points]", name: str, n_boot: int, seed: int) -> _Found:
    from audiomos_cache.cli.tables import scores_table
    from audiomos_cache.evaluation import bootstrap_intervals, records
    from audiomos_cache.metrics import scores_of

    scores = scores_of(points)
    uncertainty = bootstrap_intervals(points, n_boot, seed) if n_boot else None
    return _Found(
        scores_table(scores, name, uncertainty),
        records.scores_json(scores, uncertainty),
        records.score_rows(scores, uncertainty),
        uncertainty.notes if uncertainty else (),
    )


def _systems(points: "Mapping[str, Points]", systems: Sequence[str], name: str) -> _Found:
    from audiomos_cache.cli.tables import systems_table
    from audiomos_cache.evaluation import per_system, records
    from audiomos_cache.metrics import scores_of

    lines = per_system(points, systems)
    rows = records.system_rows(lines)
    content = records.scores_json(scores_of(points), None) | {"systems": rows}
    return _Found(systems_table(lines, name), content, rows)


def _comparison(
    points: "Mapping[str, Points]", others: "Mapping[str, Points]", names: tuple[str, str], n_boot: int, seed: int
) -> _Found:
    from audiomos_cache.cli.tables import comparison_table
    from audiomos_cache.evaluation import compare, records, verdict
    from audiomos_cache.metrics import scores_of

    a, b = scores_of(points), scores_of(others)
    comparison = compare(points, others, n_boot, seed)
    verdicts = {target: verdict(comparison, target, *names) for target in ("mi", "ta")}
    content = records.scores_json(a, None) | {"compare": records.comparison_json(comparison, names[1], b, verdicts)}
    said = [*comparison.uncertainty.notes, *verdicts.values()]
    heads = [f"{letter}: {name}" for letter, name in zip("AB", names, strict=True)]
    rows = records.comparison_rows(comparison, a, b)
    return _Found(comparison_table(comparison, a, b), content, rows, said, heads)
