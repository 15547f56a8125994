"""Finished runs: writing one, and reading the numbers of one that exists already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiomos_cache.errors import DataError, OutputExistsError, first_five
from audiomos_cache.evaluation.metrics import Scores, compute_metrics
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.files import read_json, read_json_lines
from audiomos_cache.heads.layers import WeightedLayers
from audiomos_cache.run_writer import RunWriter
from audiomos_cache.runs import (
    BESTS,
    HISTORY,
    METRICS,
    checkpoint_path,
    predictions_path,
    read_run_config,
    require_whole,
)
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.checkpoint import best_epochs
from audiomos_cache.training.execution import UNCOMPILED_FP32, Execution
from audiomos_cache.training.jobs import job_differences
from audiomos_cache.training.loop import Trained, predictions_of, run_head


@dataclass(frozen=True, slots=True)
class HeadResult:
    """A finished run.

    Attributes:
        folder: where it is.
        epochs: how many it was trained for.
        dev: the numbers of each best checkpoint.
        seconds: that it took now, writing included; None if it was finished before.
    """

    folder: Path
    epochs: int
    dev: Mapping[str, Scores]
    seconds: float | None = None

    @classmethod
    def of(cls, folder: Path, history: Sequence[Mapping[str, Any]], seconds: float | None = None) -> "HeadResult":
        """Take a run's numbers from its history."""
        epochs = best_epochs(history)
        dev = {name: Scores.from_json(history[epochs[name] - 1]["dev"]) for name in BESTS}
        return cls(folder, len(history), dev, seconds)


def finished_result(run: Path, config: Mapping[str, Any], *, replace: bool) -> HeadResult | None:
    """Return the numbers of a finished run, if it equals the one that would be trained; None if it is to be trained.

    Args:
        run: its folder, which need not exist.
        config: that of the run that would be trained.
        replace: a run that differs, or is damaged, is to be trained too. Then device, precision and versions count, as
            they decide the last digits.
    Raises:
        OutputExistsError: the folder is no run, or a run that differs, and `replace` is False; names what differs.
        DataError: it is damaged, likewise.
    """
    if not (run.exists() and any(run.iterdir())):
        return None
    try:
        if differing := job_differences(read_run_config(run), config, how=replace):
            if replace:
                return None
            raise OutputExistsError(
                f"{run}: exists already with a different configuration: {first_five(differing)}; give another --out, "
                "or --overwrite"
            )
        result = HeadResult.of(run, read_json_lines(run / HISTORY, "a history: an epoch a line"))
        _require_files(run)
        return result
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, DataError) as error:
        if replace:
            return None
        reason = str(error).partition("; ")[0] if isinstance(error, DataError) else repr(error)
        raise DataError(f"{run}: cannot be read as a run ({reason}); --overwrite trains it again") from error


def _require_files(run: Path) -> None:
    """Raise DataError naming the files that a finished run lacks, or the first that is damaged, if there are any."""
    metrics = read_json(run / METRICS, "the numbers of each best checkpoint")
    labelled = [
        (key, best)
        for best in BESTS
        for key, value in metrics[best].items()
        if isinstance(value, dict) and "n_clips" in value
    ]
    files = [checkpoint_path(run, best) for best in BESTS] + [predictions_path(run, *each) for each in labelled]
    if missing := [str(path.relative_to(run)) for path in files if not path.is_file()]:
        raise DataError(f"it lacks {first_five(missing)}")
    require_whole(run)


def write_run(
    writer: RunWriter,
    config: Mapping[str, Any],
    trained: Trained,
    splits: Sequence[FeatureBatches],
    execution: Execution = UNCOMPILED_FP32,
) -> None:
    """Write the run of a trained head, with predictions of every split, and numbers of those with labels."""
    writer.write_config(config)
    writer.write_history(trained.history)
    metrics: dict[str, Any] = {}
    predicted: dict[int, list[Predictions]] = {}  # by epoch: two bests are often the same
    for name, best in trained.bests.items():
        writer.write_checkpoint(name, best.weights)
        trained.head.load_state_dict(best.weights)
        metrics[name] = {"epoch": best.epoch}
        if isinstance(trained.head.layers, WeightedLayers):
            shares = trained.head.layers.shares().tolist()
            layers = map(str, splits[0].layers)
            metrics[name]["layer_weights"] = dict(zip(layers, shares, strict=True))
        if best.epoch not in predicted:
            predicted[best.epoch] = [predictions_of(run_head(trained.head, each, execution), each) for each in splits]
        for clips, predictions in zip((each.clips for each in splits), predicted[best.epoch], strict=True):
            writer.write_predictions(clips.name, name, predictions)
            if clips.labelled:
                metrics[name][clips.name] = compute_metrics(predictions, clips.labels).to_json()
    writer.write_metrics(metrics)
    writer.write_hashes()
