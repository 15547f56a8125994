"""Predictions of a finished run on a cached split."""

from pathlib import Path

import torch

from audiomos_cache.errors import OutputExistsError
from audiomos_cache.predictions import write_predictions
from audiomos_cache.runs import predictions_path
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.clips import ClipSet
from audiomos_cache.training.frames import FramesOnDisk
from audiomos_cache.training.inference import predictions_of, run_head
from audiomos_cache.training.run import Run


def predict_split(
    run_folder: Path, cache: Path, split: str, best: str, out: Path | None, *, overwrite: bool, device: str
) -> Path:
    """Predict a split with one of a run's checkpoints and write the predictions.

    Returns:
        The file: `out`, or its place in the run.
    Raises:
        CacheError: no such split, or a cache of another fingerprint than the run was trained on.
        OutputExistsError: the file exists, and `overwrite` is not given.
    """
    run = Run.open(run_folder)
    clips = ClipSet.of_split(cache, split)
    advice = f"predict with the cache that {run_folder} was trained on, or train a head on this one"
    clips.fingerprint.require(run.fingerprint, f"{cache}, split {split}", advice)
    path = out or predictions_path(run_folder, split, best)
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path}: exists already; give another --out, or --overwrite to replace it")
    # Each clip is read once, so nothing is gained by holding them.
    batches = FeatureBatches(clips, run.layers_read or clips.first_reader.layers, FramesOnDisk(torch.device(device)))
    outputs = run_head(run.load_head(best).to(batches.device), batches)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(path, predictions_of(outputs, batches))
    return path
