"""`evaluate`: how well files of predictions agree with listeners, how sure that is, and which file is better."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from audiomos_cache.artifacts import atomic_write, refuse_input, refuse_occupied, refuse_suffix
from audiomos_cache.dataset.labels import Labels, read_labels, read_system_truth, refuse_split_of_list
from audiomos_cache.errors import ArgumentError, first_five, one_of, paths_of
from audiomos_cache.evaluation import summaries
from audiomos_cache.evaluation.bootstrap import Uncertainty, bootstrap_intervals
from audiomos_cache.evaluation.comparison import Comparison, compare, verdict
from audiomos_cache.evaluation.metrics import Points, Scores, points_of, scores_of
from audiomos_cache.evaluation.predictions import Predictions, read_predictions
from audiomos_cache.files import real_path
from audiomos_cache.fusion.leakage import refuse_in_fold
from audiomos_cache.targets import TARGETS

AnyPath = str | PathLike[str]

MOST_RESAMPLES = 100_000  # to compare two files of a hundred systems takes 0.7 GiB
FORMATS = (".csv", ".json", ".tex")


@dataclass(frozen=True, eq=False)
class FileScores:
    """One file of predictions, compared with the labels.

    Attributes:
        name: the file's name, or its path where another file has the same name.
        points: what is compared, by view; see `metrics.points_of`.
        scores: the sixteen numbers.
        ties: which numbers depend on how systems of equal means rank, as a sentence; None where none does.
    """

    name: str
    points: Mapping[str, Points]
    scores: Scores
    ties: str | None


@dataclass(frozen=True, eq=False)
class FileComparison:
    """The first file, A, compared with another one.

    Attributes:
        other: the other file.
        letter: which letter it has in tables and notes: B, C, ...
        comparison: the differences of the sixteen numbers, A less the other.
        verdicts: by target, a sentence: which of the two is better, or that neither is shown to be.
    """

    other: FileScores
    letter: str
    comparison: Comparison
    verdicts: Mapping[str, str]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """The result of `evaluate`; its `repr` is a table.

    Attributes:
        files: the files, the first of which is compared with the others.
        as_original: how the means of systems were made.
        uncertainty: the intervals of a single file's numbers; None where there are none, or of several files.
        systems: every system's means, bias and ranks, where they were asked for.
        comparisons: of the first file with each other one.
    """

    files: tuple[FileScores, ...]
    as_original: bool
    uncertainty: Uncertainty | None = None
    systems: tuple[summaries.SystemLine, ...] = ()
    comparisons: tuple[FileComparison, ...] = ()

    @property
    def scores(self) -> Scores:
        """The sixteen numbers of the first file."""
        return self.files[0].scores

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the numbers, and the verdicts of the comparisons, as sentences."""
        if self.systems:
            return ()
        if not self.comparisons:
            ties = self.files[0].ties
            return (*([ties] if ties else ()), *(self.uncertainty.notes if self.uncertainty else ()))
        letters = ["A", *(each.letter for each in self.comparisons)]
        ties_of = [f"{letter}: {each.ties}" for letter, each in zip(letters, self.files, strict=True) if each.ties]
        of_resamples = dict.fromkeys(note for each in self.comparisons for note in each.comparison.uncertainty.notes)
        return (
            *ties_of,
            *of_resamples,
            *(sentence for each in self.comparisons for sentence in each.verdicts.values()),
        )

    def rows(self) -> list[summaries.Record]:
        """Return the numbers as flat rows, for CSV or a data frame; what is not defined is None."""
        if self.systems:
            return summaries.system_rows(self.systems)
        if not self.comparisons:
            return summaries.score_rows(self.scores, self.uncertainty)
        return [
            ({"other": each.other.name} if len(self.comparisons) > 1 else {}) | row
            for each in self.comparisons
            for row in summaries.comparison_rows(each.comparison, self.scores, each.other.scores)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values for `json.dumps`; what is not defined is None.

        With two files `compare` holds the comparison; with more, a list of one for each other file.
        """
        content = summaries.scores_json(self.scores, self.uncertainty)
        content |= {"as_original": self.as_original, "ties": self.files[0].ties}
        if self.systems:
            content["systems"] = summaries.system_rows(self.systems)
        compared = [
            summaries.comparison_json(each.comparison, each.other.name, each.other.scores, each.verdicts)
            | {"ties": each.other.ties}
            for each in self.comparisons
        ]
        if compared:
            content["compare"] = compared[0] if len(compared) == 1 else compared
        return content

    def to_json(self) -> str:
        """Return `to_dict` as a JSON document."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def save(self, path: AnyPath, *, overwrite: bool = False) -> None:
        """Write the numbers in the format of the suffix: .csv (flat rows), .json (everything), .tex (a table to paste).

        Raises:
            ArgumentError: another suffix. OutputExistsError: `path` exists, and `overwrite` is False.
        """
        path = Path(path)
        check_output(path, overwrite=overwrite)
        formats = {
            ".csv": lambda: summaries.csv_table(self.rows()),
            ".json": lambda: f"{self.to_json()}\n",
            ".tex": self._latex,
        }
        atomic_write(path, formats[path.suffix.lower()]().encode())

    def _latex(self) -> str:
        if not self.systems and not self.comparisons:
            return summaries.latex_table(*summaries.score_cells(self.scores, self.uncertainty))
        rows = self.rows()
        return summaries.latex_table(list(rows[0]), [list(map(summaries.shown_cell, row.values())) for row in rows])

    def __repr__(self) -> str:
        if self.systems:
            rows = [list(map(summaries.shown_cell, row.values())) for row in self.rows()]
            return "\n".join([self.files[0].name, summaries.aligned([list(self.rows()[0]), *rows])])
        if not self.comparisons:
            return "\n".join([self.files[0].name, summaries.scores_table(self.scores, self.uncertainty), *self.notes])
        tables = [summaries.scores_table(each.scores, None) for each in self.files]
        titled = [line for each, table in zip(self.files, tables, strict=True) for line in (each.name, table)]
        return "\n".join([*titled, *self.notes])


def evaluate(
    files: AnyPath | Sequence[AnyPath],
    labels: AnyPath,
    *,
    split: str | None = None,
    system_truth: AnyPath | None = None,
    by: str | None = None,
    as_original: bool = False,
    n_boot: int = 10_000,
    seed: int = 0,
    out: AnyPath | None = None,
    overwrite: bool = False,
) -> Evaluation:
    """Compare predictions with listeners' scores: MSE, LCC, SRCC and KTAU of MI and TA, per clip and per system.

    With several files, the first is compared with each of the others: paired bootstrap and permutation tests, each
    comparison corrected for its sixteen numbers.

    Args:
        files: a file of predictions (.jsonl, an answer.txt, the original system's .pt), or several.
        labels: the clips' scores, 1 to 5: lines `name.wav,MI,TA`, or a manifest (.csv, .tsv, .jsonl, .parquet) with
            mi and ta.
        split: of a manifest, the split whose rows are read; None: the one that the first file's clips are of.
        system_truth: the systems' scores, lines `system,MI,TA`; None: the means of the labels.
        by: "system" lists every system of one file: its means, bias and ranks.
        as_original: rank systems of equal means by float rounding, in the order of the list, as the published code
            does; otherwise they tie.
        n_boot: resamples of whole systems, at most `MOST_RESAMPLES`; 0: no intervals.
        seed: of the resamples; the same seed gives the same intervals.
        out: a file to write the numbers to, .csv, .json or .tex.
        overwrite: replace `out`.
    Raises:
        ArgumentError: arguments that contradict each other, or `out` is one of the files. DataError: files or labels
        that are not valid, or not of the same clips; a fusion's predictions of clips that it was fitted on.
        OutputExistsError: `out` exists.
    Source: `bootstrap.bootstrap_intervals` for the intervals, `comparison.compare` for the tests.

    >>> from pathlib import Path
    >>> size = Path("predicted.txt").write_text("S1_P1,3.0,2.0\\nS2_P1,2.0,4.0\\n")
    >>> size = Path("labels.txt").write_text("S1_P1.wav,4.0,2.0\\nS2_P1.wav,2.0,3.0\\n")
    >>> evaluate("predicted.txt", "labels.txt", n_boot=0).scores.utt_mi.mse
    0.5
    """
    paths = paths_of("files", files)
    _check_arguments(paths, by, n_boot)
    if out is not None:
        check_output(Path(out), overwrite=overwrite)
        refuse_input(Path(out), map(Path, (*paths, labels, *([] if system_truth is None else [system_truth]))))
    refuse_split_of_list(Path(labels), split)
    predictions = [read_predictions(path) for path in paths]
    listed = read_labels(Path(labels), split, of=set(predictions[0].ids))
    truth = None if system_truth is None else read_system_truth(Path(system_truth))
    found = [
        _score_file(path, name, predicted, listed, truth, as_original)
        for (path, name), predicted in zip(_named(paths), predictions, strict=True)
    ]
    result = _evaluation(found, listed, by, n_boot, seed, as_original)
    if out is not None:
        result.save(out, overwrite=overwrite)
    return result


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse a file whose suffix is not a known format, or that exists; and a folder.

    Raises:
        ArgumentError, OutputExistsError: see `Evaluation.save`.
    """
    refuse_suffix(path, FORMATS)
    refuse_occupied(path, what="file of numbers", overwrite=overwrite)


def _check_arguments(paths: Sequence[Path], by: str | None, n_boot: int) -> None:
    if by is not None:
        one_of("by", by, ("system",))
    resolved = [real_path(path) for path in paths]
    twice = [str(path) for index, path in enumerate(paths) if resolved.index(real_path(path)) < index]
    for wrong, problem in (
        (not paths, "no file of predictions, expected one or more"),
        (len(paths) > 26, f"{len(paths)} files, expected at most 26"),
        (not 0 <= n_boot <= MOST_RESAMPLES, f"--n-boot {n_boot}: expected 0 to {MOST_RESAMPLES}"),
        (twice, f"given more than once: {first_five(twice)}; give each file once"),
        (by and len(paths) > 1, f"--by system lists the systems of one file, found {len(paths)} files; give one"),
        (len(paths) > 1 and not n_boot, "a comparison of files needs resamples; leave out --n-boot 0"),
    ):
        if wrong:
            raise ArgumentError(problem)


def _named(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """Call each file by its name, or all by their paths where two have the same name."""
    unique = len({path.name for path in paths}) == len(paths)
    return [(path, path.name if unique else str(path)) for path in paths]


def _score_file(
    path: Path,
    name: str,
    predictions: Predictions,
    labels: Labels,
    truth: Mapping[str, tuple[float, float]] | None,
    as_original: bool,
) -> FileScores:
    refuse_in_fold(path, predictions.ids)
    points, other = (
        points_of(predictions, labels, truth, str(path), as_original=each) for each in (as_original, not as_original)
    )
    scores = scores_of(points)
    ties = summaries.ties_note(scores, scores_of(other), as_original=as_original)
    return FileScores(name, points, scores, ties)


def _evaluation(
    files: Sequence[FileScores], labels: Labels, by: str | None, n_boot: int, seed: int, as_original: bool
) -> Evaluation:
    first, *others = files
    if by:
        return Evaluation((first,), as_original, systems=tuple(summaries.per_system(first.points, labels.systems)))
    if not others:
        uncertainty = bootstrap_intervals(first.points, n_boot, seed) if n_boot else None
        return Evaluation((first,), as_original, uncertainty)
    comparisons = []
    for number, other in enumerate(others, start=1):
        comparison = compare(first.points, other.points, n_boot, seed)
        verdicts = {target: verdict(comparison, target, first.name, other.name) for target in TARGETS}
        comparisons.append(FileComparison(other, chr(ord("A") + number), comparison, verdicts))
    return Evaluation(tuple(files), as_original, comparisons=tuple(comparisons))
