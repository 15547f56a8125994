"""Trainings that are not finished: where their state lies, whose it is, and who may go on with it.

OUT/.NAME.unfinished/
    lock                      held while a process trains the run
    state.json, *.safetensors the state after an epoch: see state.py
    tensorboard/              the history for TensorBoard, where it was asked for
    run/                      the finished run, while it is written
    replaced/                 the run that it replaces, for the moment that takes
"""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from audiomos_cache.artifacts import bring_back, move_folder
from audiomos_cache.errors import AudiomosError, DataError, OutputError, OutputExistsError, first_five
from audiomos_cache.locks import locked
from audiomos_cache.runs import TENSORBOARD
from audiomos_cache.training.checkpoint import RECORD, TrainingState, load_state, read_record, save_state
from audiomos_cache.training.jobs import job_differences

SHARE_OF_TIME = 0.05  # that saving states may take


def unfinished_folder(run: Path) -> Path:
    """Return where the state of a run's training is kept until the run is finished."""
    return run.resolve().with_name(f".{run.name}.unfinished")


class Unfinished:
    """What there is of a run that is not finished. Made by `unfinished`.

    A state is saved after the first epoch and then as often as saving takes 5 % of the time at most: after each epoch
    but where those are very short. So an interrupt, after which `flush` saves what was not saved, costs the epoch it
    came in; a kill costs those not saved too, of twenty times what saving takes at most.

    Attributes:
        job: the run's config; after `load` with the number of threads that the training began with, which decides the
            last digits.
    """

    def __init__(self, run: Path, job: Mapping[str, Any]) -> None:
        self.run, self.folder, self.job = run, unfinished_folder(run), job
        self._unsaved: TrainingState | None = None
        self._files: dict[str, str] = {}
        self._cost_s, self._saved_s = 0.0, time.monotonic()

    def load(self, *, overwrite: bool) -> TrainingState | None:
        """Return the state to go on from, or None where the training begins.

        Args:
            overwrite: where the state is another job's, or damaged, start from the beginning.
        Raises:
            OutputExistsError, DataError: it is such, and `overwrite` is False.
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
        """Save the state after an epoch if it is time to, or if the epoch is the last."""
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
        """Where the finished run is written."""
        return self.folder / "run"

    @property
    def tensorboard(self) -> Path:
        """Where the history is written for TensorBoard, to be a part of the finished run."""
        return self.folder / TENSORBOARD

    def finish(self, *, overwrite: bool) -> None:
        """Put the written run at its place, and forget the training.

        Raises:
            OutputExistsError: there is a run by now, and `overwrite` is False.
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
def unfinished(run: Path, job: Mapping[str, Any]) -> Iterator[Unfinished]:
    """Hold the right to train a run, and give what there is of it.

    An interrupt or an error saves the state that was offered last. After the block the folder is left only where it
    keeps a state.

    Args:
        run: where the finished run goes.
        job: the run's config; what decides numbers in it must be the same for a training to go on.
    Raises:
        BusyError: another process is training the run.
    """
    folder = unfinished_folder(run)
    with locked(folder / "lock", f"{run}: is being trained"):
        bring_back(folder / "replaced", run.resolve())
        training = Unfinished(run, job)
        try:
            yield training
        except OutputError:
            raise  # a state could not be written either
        except (KeyboardInterrupt, AudiomosError):
            training.flush()
            raise
        finally:
            if not (folder / RECORD).exists():
                shutil.rmtree(folder)


def remove_leftovers(run: Path, job: Mapping[str, Any]) -> None:
    """Remove what a kill left beside a run that had taken its place just before."""
    if unfinished_folder(run).exists():
        with suppress(OutputExistsError, DataError):  # another training's, or another process's: not to be touched
            refuse_other_job(run, job)
            with unfinished(run, job) as training:
                training.forget()


def refuse_other_job(run: Path, job: Mapping[str, Any]) -> None:
    """Refuse to go on with an interrupted training of another job.

    Raises:
        OutputExistsError: naming what differs. DataError: what is kept of it is damaged.
    """
    record = read_record(unfinished_folder(run))
    if record is None:
        return
    if differing := job_differences(record["job"], job):
        raise OutputExistsError(
            f"{run}: there is an interrupted training of another kind: {first_five(differing)}; repeat that to finish "
            "it, give another --out, or --overwrite to start from the beginning"
        )
