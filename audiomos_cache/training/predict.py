"""Predictions of a finished run on a cached split."""

import logging
from pathlib import Path

import torch

from audiomos_cache.artifacts import refuse_occupied
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.errors import CacheError
from audiomos_cache.evaluation.predictions import write_predictions
from audiomos_cache.heads.layers import layers_to_read
from audiomos_cache.runs import Run, predictions_path
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.frame_sources import FramesOnDisk
from audiomos_cache.training.loop import predictions_of, run_head

log = logging.getLogger(__name__)


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
    if run.fingerprint:
        clips.fingerprint.require(run.fingerprint, f"{cache}, split {split}", advice)
    else:
        _refuse_other_features(run, clips.first_reader)
    path = out or predictions_path(run_folder, split, best)
    refuse_occupied(path, what="predictions", overwrite=overwrite)
    # Each clip is read once, so nothing is gained by holding them.
    layers = run.layers_read or layers_to_read(run.config.layers, clips.first_reader.layers)
    upstream = run.config.compat == "upstream"
    batches = FeatureBatches(clips, layers, FramesOnDisk(torch.device(device)), upstream=upstream)
    outputs = run_head(run.load_head(best).to(batches.device), batches)
    write_predictions(path, predictions_of(outputs, batches))
    return path


def _refuse_other_features(run: Run, reader: CacheReader) -> None:
    """An imported run cannot say which features it was trained on: say so, and check what can be."""
    if (run.audio_dim, run.text_dim) != (reader.audio_dim, reader.text_dim):
        raise CacheError(
            f"{reader.cache}: frames of {reader.audio_dim} and tokens of {reader.text_dim} dimensions, and "
            f"{run.folder} takes {run.audio_dim} and {run.text_dim}; extract with the encoders it was trained on"
        )
    if run.config.layers == "only" and len(reader.layers) > 1:
        held = ", ".join(map(str, reader.layers))
        raise CacheError(
            f"{reader.cache}: holds layers {held}, and {run.folder} was imported without saying which it reads; import "
            f"it again with --set layers={reader.layers[-1]}, or another of these"
        )
    log.info("%s was imported and does not say which features it was trained on; check that they are these", run.folder)
