"""Trainings that can be interrupted and continued: the folder of their state, its lock, and the check of the job.

OUT/.NAME.training/
    lock                      held while a process trains the run
    state.json, *.safetensors the state after an epoch: see checkpoint.py
    tensorboard/              the history for TensorBoard, if requested
    run/                      the finished run, while it is written
    replaced/                 the run that it replaces, while they are exchanged
"""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from audiomos_cache.errors import AudiomosError, DataError, OutputError, OutputExistsError, first_five
from audiomos_cache.folders import bring_back, move_folder
from audiomos_cache.locks import locked
from audiomos_cache.runs import TENSORBOARD
from audiomos_cache.training.checkpoint import RECORD, TrainingState, load_state, read_record, save_state
from audiomos_cache.training.jobs import job_differences

SHARE_OF_TIME = 0.05  # that saving states may take


def state_folder(run: Path) -> Path:
    """Return where the state of a run's training is kept until the run is finished."""
    return run.resolve().with_name(f".{run.name}.training")


class ResumableTraining:
    """The state of a run that is being trained, or was interrupted. Made by `resumable_training`.

    A state is saved after the first epoch, and then so that saving takes at most 5 % of the time: after each epoch,
    unless epochs are very short. An interrupt, after which `flush` saves the last state, costs the current epoch; a
    kill also costs the epochs that were not saved, at most twenty times as long as saving takes.

    Attributes:
        job: the run's config; after `load` with the number of threads that the training began with, which decides the
            last digits.
    """

    def __init__(self, run: Path, job: Mapping[str, Any]) -> None:
        self.run, self.folder, self.job = run, state_folder(run), job
        self._unsaved: TrainingState | None = None
        self._files: dict[str, str] = {}
        self._cost_s, self._saved_s = 0.0, time.monotonic()

    def load(self, *, overwrite: bool) -> TrainingState | None:
        """Return the state to continue from, or None if the training begins.

        Args:
            overwrite: start from the beginning if the state is damaged, or another job's.
        Raises:
            OutputExistsError: the state is another job's, and `overwrite` is False. DataError: it is damaged, likewise.
        """
        state = None
        try:
            if (record := read_record(self.folder)) is not None:
                refuse_other_job(self.run, self.job)
                state, self._files = load_state(self.folder, record), dict(record["files"])
                self.job = {**self.job, "threads": record["job"]["threads"]}
        except (OutputExistsError, DataError):
            if not overwrite:
                raise
        self._clear({"lock", *([RECORD, *self._files] if state else [])})
        return state

    def offer(self, state: TrainingState, *, last: bool) -> None:
        """Save the state after an epoch if it is due, or if the epoch is the last."""
        self._unsaved = state
        if last or time.monotonic() - self._saved_s >= self._cost_s / SHARE_OF_TIME:
            self.flush()

    def flush(self) -> None:
        """Save the state that was offered last, if it is not saved."""
        if self._unsaved is not None:
            start = time.monotonic()
            self._files = save_state(self.folder, self.job, self._unsaved, self._files)
            self._unsaved = None
            self._saved_s = time.monotonic()
            self._cost_s = self._saved_s - start

    @property
    def new_run(self) -> Path:
        """The folder that the finished run is written into."""
        return self.folder / "run"

    @property
    def tensorboard(self) -> Path:
        """The folder of the history for TensorBoard, which becomes a part of the finished run."""
        return self.folder / TENSORBOARD

    def finish(self, *, overwrite: bool) -> None:
        """Move the written run to its final path, and forget the training.

        Raises:
            OutputExistsError: the run exists by now, and `overwrite` is False.
        """
        if self.tensorboard.exists():
            self.tensorboard.rename(self.new_run / TENSORBOARD)
        move_folder(self.new_run, self.run.resolve(), self.folder / "replaced", replace=overwrite)
        self.forget()

    def forget(self) -> None:
        """Let the training start from the beginning next time."""
        self._unsaved, self._files = None, {}
        (self.folder / RECORD).unlink(missing_ok=True)

    def _clear(self, kept: set[str]) -> None:
        for path in self.folder.iterdir():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def resumable_training(run: Path, job: Mapping[str, Any]) -> Iterator[ResumableTraining]:
    """Lock a run for training, and yield its state.

    An interrupt or an error saves the state that was offered last. After the block the folder is kept only if it
    holds a state.

    Args:
        run: the folder of the finished run.
        job: the run's config; what decides numbers in it must be the same for a training to continue.
    Raises:
        BusyError: another process is training the run.
    """
    folder = state_folder(run)
    with locked(folder / "lock", f"{run}: is being trained"):
        bring_back(folder / "replaced", run.resolve())
        training = ResumableTraining(run, job)
        try:
            yield training
        except OutputError:
            raise  # then a state cannot be written either
        except (KeyboardInterrupt, AudiomosError):
            training.flush()
            raise
        finally:
            if not (folder / RECORD).exists():
                shutil.rmtree(folder)


def remove_leftovers(run: Path, job: Mapping[str, Any]) -> None:
    """Remove the state that a kill left next to a run that had just been finished."""
    if state_folder(run).exists():
        with suppress(OutputExistsError, DataError):  # it belongs to another training or process: leave it
            refuse_other_job(run, job)
            with resumable_training(run, job) as training:
                training.forget()


def refuse_other_job(run: Path, job: Mapping[str, Any]) -> None:
    """Refuse to continue an interrupted training of another job.

    Raises:
        OutputExistsError: naming what differs. DataError: its state is damaged.
    """
    record = read_record(state_folder(run))
    if record is None:
        return
    if differing := job_differences(record["job"], job):
        raise OutputExistsError(
            f"{run}: an interrupted training of this name differs: {first_five(differing)}; repeat that to finish "
            "it, give another --out, or --overwrite to start from the beginning"
        )
