"""`audiomos-cache evaluate`: how well predictions agree with listeners, how sure that is, which are better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from rich.table import Table

    from audiomos_cache.dataset.labels import Labels
    from audiomos_cache.evaluation.metrics import Points, Scores
    from audiomos_cache.evaluation.summaries import Record


MOST_RESAMPLES = 100_000  # to compare two of a hundred systems takes 0.7 GiB

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
@click.option(
    "--as-original",
    is_flag=True,
    help="Rank systems of equal means by float rounding, in the order of the list, as the original does. Without it, "
    "they tie, and the order of the list decides nothing.",
)
@click.option(
    "--n-boot",
    type=click.IntRange(0, MOST_RESAMPLES),
    default=10_000,
    metavar="N",
    help="Resamples; 0: no intervals.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, metavar="N", help="Of the resamples.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table.")
@click.pass_context
def evaluate(
    context: click.Context,
    file: Path,
    labels_path: Path,
    split: str | None,
    truth_path: Path | None,
    other: Path | None,
    by: str | None,
    as_original: bool,
    n_boot: int,
    seed: int,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Compare the predictions in FILE (.jsonl, an answer.txt, or the original system's .pt) with listeners' scores.

    Prints MSE, LCC, SRCC and KTAU of MI and TA, per clip (utt) and per system (sys), each with its 95 % interval. A
    resample draws whole systems, so an interval speaks of other systems judged by as many clips. What a fusion says of
    clips that it was fitted on is refused; evaluate its out-of-fold predictions.

    \b
    Examples:
      audiomos-cache evaluate fused/out-of-fold.dev.jsonl --labels sets/dev_mos_list.txt
      audiomos-cache evaluate a.jsonl --compare b.jsonl --labels sets/dev_mos_list.txt
      audiomos-cache evaluate a.jsonl --by system --labels sets/dev_mos_list.txt --csv
    """
    _check_usage(context, other, by, n_boot, as_json, as_csv)

    from audiomos_cache.dataset.labels import read_labels, read_system_truth

    labels = read_labels(labels_path, split)
    truth = read_system_truth(truth_path) if truth_path else None
    judged = _judge(file, labels, truth, as_original)
    if other:
        names = (file.name, other.name) if file.name != other.name else (str(file), str(other))
        found = _comparison(judged, _judge(other, labels, truth, as_original), names, n_boot, seed)
    elif by:
        found = _systems(judged, labels.systems, file.name)
    else:
        found = _scores(judged, file.name, n_boot, seed)
    found.show(as_json, as_csv)


def _check_usage(
    context: click.Context, other: Path | None, by: str | None, n_boot: int, as_json: bool, as_csv: bool
) -> None:
    """Refuse options that contradict each other, or that would not be read."""
    unread = [
        f"--{name.replace('_', '-')}"
        for name in ("as_original", "n_boot", "seed")
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE
    ]
    for wrong, problem in (
        (as_json and as_csv, "--json and --csv: give one of them"),
        (other and by, "--by system shows one file's systems; leave out --compare"),
        (by and unread, f"--by system shows means and ranks, without resamples; leave out {', '.join(unread)}"),
        (other and not n_boot, "--compare needs resamples; leave out --n-boot 0"),
    ):
        if wrong:
            raise click.UsageError(problem)


@dataclass(frozen=True)
class _Judged:
    """A file's points and numbers, and what is to be said of ties."""

    points: "Mapping[str, Points]"
    scores: "Scores"
    as_original: bool
    note: str | None

    def told(self) -> "Record":
        """Say how its means were made, for JSON."""
        return {"as_original": self.as_original, "ties": self.note}


def _judge(file: Path, labels: "Labels", truth: Mapping[str, tuple[float, float]] | None, as_original: bool) -> _Judged:
    from audiomos_cache.evaluation.metrics import points_of, scores_of
    from audiomos_cache.evaluation.predictions import read_predictions
    from audiomos_cache.evaluation.summaries import ties_note
    from audiomos_cache.fusion.leakage import refuse_in_fold

    predictions = read_predictions(file)
    refuse_in_fold(file, predictions.ids)
    shown, other = (
        points_of(predictions, labels, truth, str(file), as_original=each) for each in (as_original, not as_original)
    )
    scores = scores_of(shown)
    return _Judged(shown, scores, as_original, ties_note(scores, scores_of(other), as_original=as_original))


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


def _scores(judged: _Judged, name: str, n_boot: int, seed: int) -> _Found:
    from audiomos_cache.cli.tables import scores_table
    from audiomos_cache.evaluation import summaries as records
    from audiomos_cache.evaluation.bootstrap import bootstrap_intervals

    uncertainty = bootstrap_intervals(judged.points, n_boot, seed) if n_boot else None
    said = [judged.note] if judged.note else []
    return _Found(
        scores_table(judged.scores, name, uncertainty),
        records.scores_json(judged.scores, uncertainty) | judged.told(),
        records.score_rows(judged.scores, uncertainty),
        [*said, *(uncertainty.notes if uncertainty else ())],
    )


def _systems(judged: _Judged, systems: Sequence[str], name: str) -> _Found:
    from audiomos_cache.cli.tables import systems_table
    from audiomos_cache.evaluation import summaries as records
    from audiomos_cache.evaluation.summaries import per_system

    lines = per_system(judged.points, systems)
    rows = records.system_rows(lines)
    content = records.scores_json(judged.scores, None) | judged.told() | {"systems": rows}
    return _Found(systems_table(lines, name), content, rows)


def _comparison(judged: _Judged, other: _Judged, names: tuple[str, str], n_boot: int, seed: int) -> _Found:
    from audiomos_cache.cli.tables import comparison_table
    from audiomos_cache.evaluation import summaries as records
    from audiomos_cache.evaluation.comparison import compare, verdict

    a, b = judged.scores, other.scores
    comparison = compare(judged.points, other.points, n_boot, seed)
    verdicts = {target: verdict(comparison, target, *names) for target in ("mi", "ta")}
    content = records.scores_json(a, None) | judged.told()
    content["compare"] = records.comparison_json(comparison, names[1], b, verdicts) | {"ties": other.note}
    ties = [f"{letter}: {each.note}" for letter, each in zip("AB", (judged, other), strict=True) if each.note]
    said = [*ties, *comparison.uncertainty.notes, *verdicts.values()]
    heads = [f"{letter}: {name}" for letter, name in zip("AB", names, strict=True)]
    rows = records.comparison_rows(comparison, a, b)
    return _Found(comparison_table(comparison, a, b), content, rows, said, heads)
