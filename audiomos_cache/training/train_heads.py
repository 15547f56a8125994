"""Training of a list of jobs on one cache, which is read once for all of them: check, train, write the run folders.

The public function is `train_head`, which turns the user's arguments into jobs.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from audiomos_cache.artifacts import require_writable
from audiomos_cache.devices import Compile
from audiomos_cache.errors import BusyError
from audiomos_cache.heads.layers import layers_to_read
from audiomos_cache.profiling import OFF, Profile
from audiomos_cache.run_writer import RunWriter
from audiomos_cache.runs import MADE_WITH, refuse_existing
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.checkpoint import TrainingState
from audiomos_cache.training.data import NO_LISTS, Lists, TrainingClips, TrainingData, open_clips
from audiomos_cache.training.execution import Execution, Precision, choose_precision, repeatable, should_compile_heads
from audiomos_cache.training.finished_run import HeadResult, finished_result, write_run
from audiomos_cache.training.jobs import HeadJob, check_heads, check_names, check_ratings, run_config
from audiomos_cache.training.loop import train
from audiomos_cache.training.preload import Preload, open_frames, open_pooled, pools_first, refuse_preload
from audiomos_cache.training.resume import (
    ResumableTraining,
    refuse_other_job,
    remove_leftovers,
    resumable_training,
    state_folder,
)
from audiomos_cache.training.tensorboard import summary_writer, tensorboard_log
from audiomos_cache.training.trainer import DivergedError

log = logging.getLogger(__name__)

OnEpoch = Callable[[HeadJob, Mapping[str, Any], bool], None]


class DivergedRunsError(DivergedError):
    """Some runs diverged; the others are finished.

    Attributes:
        results: of the finished ones.
    """

    def __init__(self, message: str, results: Sequence[HeadResult]) -> None:
        super().__init__(message)
        self.results = results


@dataclass(frozen=True, slots=True)
class _Options:
    """Options of all runs of a command; see `train_heads`."""

    out: Path
    device: torch.device
    execution: Execution
    overwrite: bool
    tensorboard: bool
    profile: Profile
    on_epoch: OnEpoch
    made_with: Mapping[str, Any] | None

    def config_of(self, job: HeadJob, clips: TrainingClips) -> dict[str, Any]:
        """Return what a run records of how it was made."""
        made_with = {MADE_WITH: dict(self.made_with)} if self.made_with else {}
        return run_config(job, clips, self.device.type, self.execution.precision) | made_with


def train_heads(
    jobs: Sequence[HeadJob],
    cache: Path,
    out: Path,
    *,
    lists: Lists = NO_LISTS,
    overwrite: bool = False,
    device: str = "cpu",
    preload: Preload = "auto",
    precision: Precision | None = None,
    compiling: Compile = "auto",
    tensorboard: bool = False,
    profile: Profile = OFF,
    on_epoch: OnEpoch = lambda _job, _line, _last: None,
    made_with: Mapping[str, Any] | None = None,
) -> list[HeadResult]:
    """Train each job on the cache's train split, choose checkpoints on its dev split, and write a run for each.

    A run that is finished and equal is skipped. A training that was interrupted continues from the last epoch that was
    saved, and writes the same run. A run that another process is training is left to it.

    Args:
        jobs: the heads.
        cache: the cache folder.
        out: the folder of the run folders.
        lists: clips and labels to use instead of the splits, and the listeners' ratings.
        overwrite: replace runs of the same name that differ or are damaged, and start from the first epoch if another
            training than this was interrupted.
        device: `cpu` or `cuda`.
        preload: the memory that the features are held in; see `open_frames`. On a CPU no number depends on it. Heads
            that pool first need none of them; see `open_pooled`.
        precision: of matrix products; None: bf16 on a GPU that has it, fp32 elsewhere.
        compiling: whether heads are compiled; "auto": on a GPU, if that saves more time than it takes.
        tensorboard: write the history for TensorBoard too, into the runs.
        profile: collects the times of the stages; it is stopped at the end. No CUDA graph is used then, as it would
            hide the stages of a step.
        on_epoch: called with the job, each epoch's entry of the history, and whether it is the last.
        made_with: the command or call that the runs record; no number depends on it.
    Returns:
        The result of each job, without those that another process is training.
    Raises:
        OutputExistsError: a run exists already that differs, or another training of its name was interrupted; nothing
        is trained then. BusyError: other processes are training all of the runs. DivergedRunsError: a loss is not
        finite, in one run or several; all others are finished by then. DataError: missing labels or ratings, clips in
        both lists, or a finished run that is damaged. ConfigError: a head that cannot be built for this cache, ratings
        that are missing or read by no head, or no TensorBoard. CacheError: the cache or a split does not exist, or
        features are damaged. OutputError: `out` is not writable.
    """
    check_names(jobs)
    check_ratings(jobs, lists)
    if tensorboard:
        summary_writer()
    on = torch.device(device)
    execution = Execution(choose_precision(precision, on), cuda_graph=not profile.on)
    clips = open_clips(cache, lists)
    check_heads(jobs, clips)
    options = _Options(out, on, execution, overwrite, tensorboard, profile, on_epoch, made_with)
    results = _finished(jobs, clips, options)
    diverged: dict[str, DivergedError] = {}
    if left := [job for job in jobs if job.name not in results]:
        require_writable(out)  # before the features are read
        compiled = should_compile_heads(compiling, [job.config for job in left], clips.train, on)
        options = replace(options, execution=replace(execution, compiled=compiled))
        with profile.stage("load"):
            data = _open_data(left, clips, on, preload)
        diverged = _train_all(left, data, options, results)
    if profile.on:
        profile.stop()
    in_order = [results[job.name] for job in jobs if job.name in results]
    if diverged:
        errors = [_describe_diverged(out / name, error) for name, error in diverged.items()]
        raise DivergedRunsError("; ".join(errors), in_order)
    return in_order


def _finished(jobs: Sequence[HeadJob], clips: TrainingClips, options: _Options) -> dict[str, HeadResult]:
    """Return the results of the runs that are finished and skipped; refuse what must not be replaced."""
    finished = {}
    for job in jobs:
        run, config = options.out / job.name, options.config_of(job, clips)
        refuse_existing([run], overwrite=True, kept=True)  # what is no run
        if result := finished_result(run, config, replace=options.overwrite):
            log.info("%s: finished already", job.name)
            remove_leftovers(run, config)
            finished[job.name] = result
            continue
        refuse_existing([run], overwrite=True)
        if not options.overwrite:
            refuse_other_job(run, config)
    return finished


def _open_data(jobs: Sequence[HeadJob], clips: TrainingClips, device: torch.device, preload: Preload) -> TrainingData:
    """Open the frames of all clips, as far as any job reads them."""
    refuse_preload(preload, device)
    readers = [split.first_reader for split in clips.splits]
    frames = pooled = None
    if once := [job for job in jobs if pools_first(job.config)]:
        pooled = open_pooled(readers, _layers_of(once, clips), device)
    if others := [job for job in jobs if not pools_first(job.config)]:
        padding = any(job.config.compat == "upstream" for job in others)
        frames = open_frames(readers, _layers_of(others, clips), device, preload, padding=padding)
    return TrainingData(clips, frames, pooled)


def _layers_of(jobs: Sequence[HeadJob], clips: TrainingClips) -> list[int]:
    """Return the layers that any of the jobs reads."""
    return sorted({layer for job in jobs for layer in layers_to_read(job.config.layers, clips.reader.layers)})


def _train_all(
    jobs: Sequence[HeadJob], data: TrainingData, options: _Options, results: dict[str, HeadResult]
) -> dict[str, DivergedError]:
    """Train each job, and add its result to `results`. Return the errors of those that diverged."""
    if options.device.type == "cuda":
        log.info("heads are computed in %s", options.execution)
    diverged = {}
    busy = None
    for job in jobs:
        try:
            results[job.name] = _train_one(job, data, options)
        except DivergedError as error:
            diverged[job.name] = error
        except BusyError as error:
            busy = error
            log.warning("%s; skipped", str(error).partition(";")[0])
    if busy and not results and not diverged:
        raise busy
    return diverged


def _train_one(job: HeadJob, data: TrainingData, options: _Options) -> HeadResult:
    """Train one head, or continue its interrupted training, and write its run."""
    run, config = options.out / job.name, options.config_of(job, data.clips)
    with resumable_training(run, config) as training:
        # The process that held the lock until now may have finished it.
        if result := finished_result(run, config, replace=options.overwrite):
            log.info("%s: finished by another process", job.name)
            training.forget()
            return result
        begun = training.load(overwrite=options.overwrite)
        with _threads(training.job["threads"]), repeatable(options.device, options.execution.precision):
            return _train_and_write(job, data, options, training, begun)


def _train_and_write(
    job: HeadJob, data: TrainingData, options: _Options, training: ResumableTraining, begun: TrainingState | None
) -> HeadResult:
    start, profile, execution = time.monotonic(), options.profile, options.execution
    layers, frames = layers_to_read(job.config.layers, data.clips.reader.layers), data.frames_for(job.config)
    train_set, dev_set, *splits = (
        FeatureBatches(each, layers, frames, upstream=job.config.compat == "upstream")
        for each in (data.clips.train, data.clips.dev, *data.clips.splits)
    )
    with tensorboard_log(training.tensorboard if options.tensorboard else None) as write_line:

        def report(state: TrainingState, last: bool) -> None:
            training.offer(state, last=last)
            write_line(state.history[-1])
            options.on_epoch(job, state.history[-1], last)

        if begun:
            log.info("%s: continues after epoch %d", job.name, begun.epoch)
            for line in begun.history:
                write_line(line)
        trained = train(
            job.config, job.seed, train_set, dev_set, begun=begun, execution=execution, profile=profile,
            on_epoch=report,
        )  # fmt: skip
    with profile.stage("write"):
        writer = RunWriter(training.new_run)
        writer.write_clips(data.clips.train.ids, data.clips.dev.ids)
        write_run(writer, training.job, trained, splits, execution)
        training.finish(overwrite=options.overwrite)
    seconds = time.monotonic() - start
    log.info("%s: %d epochs, %.1f s", job.name, len(trained.history) - (begun.epoch if begun else 0), seconds)
    return HeadResult.of(training.run, trained.history, seconds)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Compute with so many threads, which decides the last digits on a CPU; None: with as many as now."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _describe_diverged(run: Path, error: DivergedError) -> str:
    """Return the error of a run that diverged, and the folder that holds its state."""
    kept = state_folder(run)
    where = f"; the epochs before are kept in {kept}, --overwrite starts from the first" if kept.exists() else ""
    return f"{run.name}: {error}{where}"
