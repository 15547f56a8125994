"""Training heads on a cache: for each head and seed a run folder, with predictions of every split."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from audiomos_cache.cache import CacheReader
from audiomos_cache.errors import ConfigError, DataError, first_five
from audiomos_cache.heads import build_head
from audiomos_cache.heads.layers import layers_to_read
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import NO_LISTS, Lists, TrainingData, open_clips
from audiomos_cache.training.frames import Preload, open_frames
from audiomos_cache.training.job import HeadJob, run_config
from audiomos_cache.training.loop import train
from audiomos_cache.training.results import HeadResult, finished_result, write_run
from audiomos_cache.training.run import RunWriter, refuse_existing
from audiomos_cache.training.state import TrainingState
from audiomos_cache.training.tensorboard import summary_writer, tensorboard_log
from audiomos_cache.training.unfinished import refuse_other_job, remove_leftovers, unfinished

log = logging.getLogger(__name__)


def train_heads(
    jobs: Sequence[HeadJob],
    cache: Path,
    out: Path,
    *,
    lists: Lists = NO_LISTS,
    overwrite: bool = False,
    skip_finished: bool = False,
    device: str = "cpu",
    preload: Preload = "auto",
    tensorboard: bool = False,
    on_epoch: Callable[[HeadJob, Mapping[str, Any], bool], None] = lambda _job, _line, _last: None,
) -> list[HeadResult]:
    """Train each job on the cache's train split, choose checkpoints on its dev split, and write a run for each.

    A training that was interrupted goes on from the last epoch that was saved, and gives the same run.

    Args:
        jobs: the heads.
        cache: the cache folder.
        out: where the run folders go.
        lists: clips and labels to use instead of the splits, and the listeners' ratings.
        overwrite: replace runs of the same name, and begin anew where another training than this was interrupted.
        skip_finished: leave runs that are finished, and equal, as they are; `overwrite` replaces the others then.
        device: `cpu` or `cuda`.
        preload: where the features are held meanwhile; see `open_frames`. No number depends on it.
        tensorboard: write the history for TensorBoard too, into the runs.
        on_epoch: told each epoch's line of the history, and whether it is the last.
    Raises:
        OutputExistsError: a run exists already (to skip: one that differs), or another training of its name was
        interrupted; nothing is trained then. DataError: missing labels or ratings, clips in both lists, or a loss that
        is not finite. ConfigError: a head that cannot be built for this cache, ratings that are missing or read by no
        head, or no TensorBoard. CacheError: no such cache or split, or damaged features.
    """
    names = [job.name for job in jobs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"runs that would have the same name: {first_five(repeated)}; give each head and seed once")
    refuse_existing([out / name for name in names], overwrite=overwrite or skip_finished)
    _check_ratings(jobs, lists)
    if tensorboard:
        summary_writer()
    clips = open_clips(cache, lists)
    _check_heads(jobs, clips.reader)
    finished: dict[str, HeadResult] = {}
    for job in jobs:
        run, config = out / job.name, run_config(job, clips, device)
        if skip_finished and (result := finished_result(run, config, replace=overwrite)):
            log.info("%s: finished already", job.name)
            remove_leftovers(run, config)
            finished[job.name] = result
        elif not overwrite:
            refuse_other_job(run, config)
    trained = {}
    if left := [job for job in jobs if job.name not in finished]:
        layers = {layer for job in left for layer in layers_to_read(job.config.layers, clips.reader.layers)}
        readers = [split.first_reader for split in clips.splits]
        padding = any(job.config.compat == "upstream" for job in left)
        frames = open_frames(readers, sorted(layers), torch.device(device), preload, padding=padding)
        data = TrainingData(clips, frames)
        options = {"overwrite": overwrite, "tensorboard": tensorboard}
        trained = {job.name: _train_one(job, out / job.name, data, partial(on_epoch, job), **options) for job in left}
    return [(finished | trained)[name] for name in names]


def _train_one(
    job: HeadJob,
    run: Path,
    data: TrainingData,
    on_epoch: Callable[[Mapping[str, Any], bool], None],
    *,
    overwrite: bool,
    tensorboard: bool,
) -> HeadResult:
    """Train one head, or go on where its training was interrupted, and write its run."""
    clips = data.clips
    layers = layers_to_read(job.config.layers, clips.reader.layers)
    train_set, dev_set, *splits = (
        FeatureBatches(each, layers, data.frames, upstream=job.config.compat == "upstream")
        for each in (clips.train, clips.dev, *clips.splits)
    )
    config = run_config(job, clips, data.frames.device.type)
    with unfinished(run, config) as training:
        begun = training.load(overwrite=overwrite)
        with tensorboard_log(training.tensorboard if tensorboard else None) as write_line:

            def report(state: TrainingState, last: bool) -> None:
                training.offer(state, last=last)
                write_line(state.history[-1])
                on_epoch(state.history[-1], last)

            if begun:
                log.info("%s: goes on after epoch %d", job.name, begun.epoch)
                for line in begun.history:
                    write_line(line)
            trained = train(job.config, job.seed, train_set, dev_set, begun=begun, on_epoch=report)
        write_run(RunWriter(training.new_run), config, trained, splits)
        training.finish(overwrite=overwrite)
    return HeadResult.of(run, trained.history)


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


def _check_heads(jobs: Sequence[HeadJob], reader: CacheReader) -> None:
    """Build every head once, without weights: what cannot be built is found before anything is trained."""
    with torch.device("meta"):
        for job in jobs:
            build_head(job.config, reader.audio_dim, reader.text_dim, len(reader.layers))
            layers_to_read(job.config.layers, reader.layers)
