"""Training heads on a cache: for each head and seed a run folder, with predictions of every split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from audiomos_cache.cache import CacheReader
from audiomos_cache.errors import ConfigError, DataError, first_five
from audiomos_cache.files import whole_folder
from audiomos_cache.heads import build_head
from audiomos_cache.heads.layers import WeightedLayers, layers_to_read
from audiomos_cache.metrics import Scores, evaluate
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import NO_LISTS, Lists, TrainingData, open_clips
from audiomos_cache.training.frames import Preload, open_frames
from audiomos_cache.training.inference import predictions_of, run_head
from audiomos_cache.training.job import HeadJob, run_config
from audiomos_cache.training.loop import Trained, train
from audiomos_cache.training.run import RunWriter, refuse_existing


@dataclass(frozen=True, slots=True)
class HeadResult:
    """A finished run: its folder, epochs trained, and the dev numbers of each best checkpoint."""

    folder: Path
    epochs: int
    dev: Mapping[str, Scores]


def train_heads(
    jobs: Sequence[HeadJob],
    cache: Path,
    out: Path,
    *,
    lists: Lists = NO_LISTS,
    overwrite: bool = False,
    device: str = "cpu",
    preload: Preload = "auto",
    on_epoch: Callable[[HeadJob, dict[str, Any], bool], None] = lambda _job, _line, _last: None,
) -> list[HeadResult]:
    """Train each job on the cache's train split, choose checkpoints on its dev split, and write a run for each.

    Args:
        jobs: the heads.
        cache: the cache folder.
        out: where the run folders go.
        lists: clips and labels to use instead of the splits, and the listeners' ratings.
        overwrite: replace runs of the same name.
        device: `cpu` or `cuda`.
        preload: where the features are held meanwhile; see `open_frames`. No number depends on it.
        on_epoch: told each epoch's line of the history, and whether it is the last.
    Raises:
        OutputExistsError: a run exists already; nothing is trained then. DataError: missing labels or ratings, or clips
        in both lists. ConfigError: a head that cannot be built for this cache, or ratings that are missing or read by
        no head. CacheError: no such cache or split, or damaged features.
    """
    names = [job.name for job in jobs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"runs that would have the same name: {first_five(repeated)}; give each head and seed once")
    refuse_existing([out / name for name in names], overwrite=overwrite)
    _check_ratings(jobs, lists)
    clips = open_clips(cache, lists)
    layers = _check_heads(jobs, clips.reader)
    readers = [split.first_reader for split in clips.splits]
    data = TrainingData(clips, open_frames(readers, layers, torch.device(device), preload))
    results = []
    for job in jobs:
        with whole_folder(out / job.name, replace=overwrite) as folder:
            trained = _train_one(job, RunWriter(folder), data, partial(on_epoch, job))
        dev = {name: trained.scores[best.epoch - 1] for name, best in trained.bests.items()}
        results.append(HeadResult(out / job.name, len(trained.history), dev))
    return results


def _train_one(
    job: HeadJob, writer: RunWriter, data: TrainingData, on_epoch: Callable[[dict[str, Any], bool], None]
) -> Trained:
    """Train one head and write its run."""
    clips = data.clips
    layers = layers_to_read(job.config.layers, clips.reader.layers)
    writer.write_config(run_config(job, clips, data.frames.device.type))

    def report(line: dict[str, Any], last: bool) -> None:
        writer.append_history(line)
        on_epoch(line, last)

    train_set, dev_set, *splits = (
        FeatureBatches(each, layers, data.frames) for each in (clips.train, clips.dev, *clips.splits)
    )
    trained = train(job.config, job.seed, train_set, dev_set, report)
    _write_bests(writer, trained, splits, layers)
    return trained


def _write_bests(writer: RunWriter, trained: Trained, splits: Sequence[FeatureBatches], layers: Sequence[int]) -> None:
    """Write each best checkpoint, its predictions of every split, and its numbers where there are labels."""
    metrics: dict[str, Any] = {}
    for name, best in trained.bests.items():
        writer.write_checkpoint(name, best.weights)
        trained.head.load_state_dict(best.weights)
        metrics[name] = {"epoch": best.epoch}
        if isinstance(trained.head.layers, WeightedLayers):
            shares = trained.head.layers.shares().tolist()
            metrics[name]["layer_weights"] = {str(layer): share for layer, share in zip(layers, shares, strict=True)}
        for batches in splits:
            clips = batches.clips
            predictions = predictions_of(run_head(trained.head, batches), batches)
            writer.write_predictions(clips.name, name, predictions)
            if clips.labelled:
                metrics[name][clips.name] = evaluate(predictions, clips.labels).to_json()
    writer.write_metrics(metrics)


def _check_ratings(jobs: Sequence[HeadJob], lists: Lists) -> None:
    """Refuse ratings that no head reads, and heads whose ratings are missing."""
    reading = [job.name for job in jobs if job.wants_ratings]
    if lists.raters and not reading:
        raise ConfigError(
            f"--rater-list {first_five(list(map(str, lists.raters)))}: no head here is trained on single ratings; "
            "leave it out, or --set output.targets=raters --set output.bins=5"
        )
    if reading and not lists.raters:
        raise ConfigError(
            f"{first_five(reading)}: output.targets is 'raters', and no ratings are given; give --rater-list, such as "
            "a person_mos list of MusicEval"
        )


def _check_heads(jobs: Sequence[HeadJob], reader: CacheReader) -> list[int]:
    """Build every head once, without weights: what cannot be built is found before anything is trained.

    Returns:
        The layers that the heads read, all together.
    """
    with torch.device("meta"):
        for job in jobs:
            build_head(job.config, reader.audio_dim, reader.text_dim, len(reader.layers))
    return sorted({layer for job in jobs for layer in layers_to_read(job.config.layers, reader.layers)})
