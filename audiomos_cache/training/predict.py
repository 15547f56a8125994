"""The verb `predict`: predict a cached split with a finished run."""

import logging
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from audiomos_cache.artifacts import refuse_occupied, refuse_suffix
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.devices import resolve_device
from audiomos_cache.errors import CacheError, one_of
from audiomos_cache.evaluation.predictions import Predictions, predictions_bytes, write_predictions
from audiomos_cache.hashes import write_recorded
from audiomos_cache.heads.layers import layers_to_read
from audiomos_cache.progress import counted
from audiomos_cache.runs import BESTS, Run, predictions_path
from audiomos_cache.torch_settings import standard_torch
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.frame_sources import FramesOnDisk
from audiomos_cache.training.loop import predictions_of, run_head

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictResult:
    """What `predict` wrote.

    Attributes:
        path: the predictions file.
        predictions: MI and TA of each clip, sorted by id.
        run: the run folder.
        split, best: the split, and the checkpoint that predicted it.
    """

    path: Path
    predictions: Predictions
    run: Path
    split: str
    best: str

    def __repr__(self) -> str:
        means = f"mean MI {self.predictions.mi.mean():.3f}, TA {self.predictions.ta.mean():.3f}"
        clips = counted(len(self.predictions.ids), "clip")
        return f"PredictResult: {clips} of {self.split} by {self.run}, {means}\n  {self.path}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: path, run, split and checkpoint, and MI and TA of each clip by its id."""
        rows = zip(self.predictions.ids, self.predictions.mi.tolist(), self.predictions.ta.tolist(), strict=True)
        return {
            "path": str(self.path),
            "run": str(self.run),
            "split": self.split,
            "best": self.best,
            "clips": {clip_id: {"mi": mi, "ta": ta} for clip_id, mi, ta in rows},
        }


@standard_torch()
def predict(
    run: str | PathLike[str] | Run,
    cache: str | PathLike[str] = "cache/default",
    split: str = "eval",
    best: str = "loss",
    out: str | PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    device: str = "auto",
) -> PredictResult:
    """Predict MI and TA of a cached split with a trained head, and write the predictions.

    Args:
        run: a run folder, or a `Run`.
        cache: a cache folder with the features that the run was trained on.
        split: the split to predict.
        best: which checkpoint: `loss`, `srcc` or `combined`.
        out: the .jsonl file to write; None: `RUN/predictions/SPLIT.BEST.jsonl`.
        overwrite: replace the file.
        device: `auto`, `cpu` or `cuda`.
    Returns:
        The file and the predictions: scores of about 1 to 5, which a head may leave.
    Raises:
        CacheError: the split does not exist, or the cache has another fingerprint than the run was trained on.
        DataError: the folder is not a run, or the checkpoint is missing or damaged. OutputExistsError: the file exists,
        and `overwrite` is not given. ArgumentError: an unknown checkpoint or device, or a suffix that is not .jsonl.

    >>> result = predict("runs/pooling-dist-seed1", "cache/tiny", "eval", out="predicted/eval.jsonl")
    >>> len(result.predictions.ids), result.path.name
    (8, 'eval.jsonl')
    """
    one_of("best", best, BESTS)
    if out is not None:
        refuse_suffix(Path(out), (".jsonl",))
    on, cache = torch.device(resolve_device(device)), Path(cache)
    run = run if isinstance(run, Run) else Run(run)
    clips = ClipSet.of_split(cache, split)
    advice = f"predict with the cache that {run.folder} was trained on, or train a head on this one"
    if run.fingerprint:
        clips.fingerprint.require(run.fingerprint, f"{cache}, split {split}", advice)
    else:
        _refuse_other_features(run, clips.first_reader)
    path = Path(out) if out is not None else predictions_path(run.folder, split, best)
    refuse_occupied(path, what="predictions", overwrite=overwrite)
    # Each clip is read once, so nothing is gained by holding them.
    layers = run.layers_read or layers_to_read(run.config.layers, clips.first_reader.layers)
    upstream = run.config.compat == "upstream"
    batches = FeatureBatches(clips, layers, FramesOnDisk(on), upstream=upstream)
    outputs = run_head(run.load_head(best).to(batches.device), batches)
    predictions = predictions_of(outputs, batches)
    own = predictions_path(run.folder, split, best)
    if path.resolve() == own.resolve():
        write_recorded(run.folder, f"{own.parent.name}/{own.name}", predictions_bytes(predictions))
    else:
        write_predictions(path, predictions)
    return PredictResult(path, predictions, run.folder, split, best)


def _refuse_other_features(run: Run, reader: CacheReader) -> None:
    """Check what can be checked of an imported run, which does not record the features that it was trained on."""
    if (run.audio_dim, run.text_dim) != (reader.audio_dim, reader.text_dim):
        raise CacheError(
            f"{reader.cache}: frames of {reader.audio_dim} and tokens of {reader.text_dim} dimensions, and "
            f"{run.folder} takes {run.audio_dim} and {run.text_dim}; extract with the encoders it was trained on"
        )
    if run.config.layers == "only" and len(reader.layers) > 1:
        held = ", ".join(map(str, reader.layers))
        raise CacheError(
            f"{reader.cache}: holds layers {held}, and {run.folder} was imported without a record of what it reads; "
            f"import it again with --set layers={reader.layers[-1]}, or another of these"
        )
    log.info(
        "%s was imported and has no record of the features it was trained on; check that they are these", run.folder
    )
