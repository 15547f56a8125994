"""The verb `train_head`: turn the user's arguments into jobs, train them with `train_heads`, and sum up the runs.

`train_heads.py` does the training; this module has what the public function adds to it.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import numpy as np

from audiomos_cache.devices import Compile, resolve_device
from audiomos_cache.errors import ArgumentError, one_of, paths_of, quoted
from audiomos_cache.evaluation.metrics import Scores, compute_metrics
from audiomos_cache.evaluation.predictions import Predictions, read_predictions
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.presets import Overrides, overrides_of
from audiomos_cache.profiling import OFF, Profile
from audiomos_cache.progress import Progress, counted, no_progress
from audiomos_cache.runs import predictions_path
from audiomos_cache.torch_settings import standard_torch
from audiomos_cache.training.data import ClipSet, Lists
from audiomos_cache.training.execution import Precision
from audiomos_cache.training.finished_run import HeadResult
from audiomos_cache.training.jobs import HIGHEST_SEED, HeadJob, load_plan, named_heads
from audiomos_cache.training.preload import Preload
from audiomos_cache.training.train_heads import train_heads

DEFAULT_HEAD, DEFAULT_SEED = "transformer-dist", 1984

Source = str | PathLike[str]
HeadLike = Source | Mapping[str, Any] | HeadConfig


@dataclass(frozen=True)
class TrainResult:
    """The result of `train_head`.

    Attributes:
        out: the folder of the runs.
        runs: the result of each head and seed, in order, without those that another process is training.
        mean: the numbers of the mean of the runs' best-loss predictions on the dev split; None of a single run, and
            if checkpoints were chosen on a list.
    """

    out: Path
    runs: tuple[HeadResult, ...]
    mean: Scores | None = None

    @property
    def folders(self) -> list[Path]:
        """The run folders."""
        return [run.folder for run in self.runs]

    def rows(self) -> list[dict[str, Any]]:
        """Return a table: of each run, and of their mean, the dev SRCC of the best-loss checkpoint."""
        rows = [
            {"run": run.folder.name, "epochs": run.epochs, **_srccs(run.dev["loss"]), "seconds": run.seconds}
            for run in self.runs
        ]
        if self.mean:
            rows.append({"run": "mean of the predictions", "epochs": None, **_srccs(self.mean), "seconds": None})
        return rows

    def __repr__(self) -> str:
        lines = [
            f"TrainResult: {counted(len(self.runs), 'run')} in {self.out}; SRCC on the clips that chose the checkpoints"
        ]
        for row in self.rows():
            numbers = ", ".join(f"{name} {row[name]:.4f}" for name in ("utt_mi", "utt_ta", "sys_mi", "sys_ta"))
            lines.append(f"  {row['run']}: {numbers}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: of each run its folder, epochs, seconds and dev numbers; those of the mean."""
        return {
            "out": str(self.out),
            "runs": [
                {
                    "folder": str(run.folder),
                    "epochs": run.epochs,
                    "seconds": run.seconds,
                    "dev": {best: scores.to_json() for best, scores in run.dev.items()},
                }
                for run in self.runs
            ],
            "mean": self.mean.to_json() if self.mean else None,
        }


@standard_torch()
def train_head(
    cache: Source = "cache/default",
    head: HeadLike | Sequence[HeadLike] | None = None,
    seed: int | Sequence[int] | None = None,
    *,
    plan: Source | None = None,
    out: Source = "runs",
    set: Overrides = (),  # noqa: A002
    train_list: Source | None = None,
    dev_list: Source | None = None,
    rater_lists: Source | Sequence[Source] = (),
    device: str = "auto",
    preload: Preload = "auto",
    precision: Precision | None = None,
    compile: Compile = "auto",  # noqa: A002
    tensorboard: bool = False,
    overwrite: bool = False,
    command: str | None = None,
    progress: Progress = no_progress,
    profile: Profile = OFF,
) -> TrainResult:
    """Train heads on cached features: a run folder for each head and seed.

    A run keeps three checkpoints (best dev loss, best system SRCC of MI, best combined), their predictions of every
    split in the cache, and its history. On a CPU the same seed with the same number of threads gives the same files.
    After an interrupt the same call continues where it stopped: finished runs that are equal to those asked for are
    skipped, and in the result.

    Args:
        cache: the cache folder.
        head: a preset's name, a YAML file, a mapping of its keys or a HeadConfig; or several of them. None:
            transformer-dist. A mapping and a HeadConfig have no name: their runs are called `head-seed1984`.
        seed: of initial weights, dropout and data order; or several. None: 1984.
        plan: a plan's name or YAML file, which lists heads and seeds.
        out: the folder of the run folders, which are called `HEAD-seedSEED`.
        set: keys to override in every head: {"training.lr": 1e-4}, ["training.lr=1e-4"], or "training.lr=1e-4".
        train_list, dev_list: lists of clips and labels to train on, and to choose checkpoints on, instead of the
            splits `train` and `dev`.
        rater_lists: lists of each listener's ratings, for heads with output.loss=raters.
        device: `auto`, `cpu` or `cuda`.
        preload: the memory that holds the features: `ram`, `cuda`, `none` (read again for each batch), or `auto`: on
            the GPU, or else in RAM, if they take less than half of what is free.
        precision: of matrix products: `fp32` or `bf16`; weights, softmax and losses are float32 in both. None: bf16 on
            a GPU that has it, fp32 elsewhere.
        compile: compile the heads: `on`, `off`, or `auto`: on a GPU, where that saves more time than it takes.
        tensorboard: write the history for TensorBoard too, into the runs.
        overwrite: replace runs of the same name that differ (in device, precision and versions too) or are damaged, and
            start from the first epoch where another training was interrupted. Equal runs are skipped all the same.
        command: the command that the runs record; None: this call.
        progress: called with (run, epoch, epochs, dev loss) after each epoch.
        profile: collects the time that each stage takes.
    Returns:
        The runs with their numbers: MSE, LCC, SRCC and KTAU of MI and TA on the dev clips.
    Raises:
        ArgumentError: a plan together with heads or seeds, or arguments that are none of their choices. ConfigError:
        an unknown preset or key, or a head that cannot be built for this cache. OutputExistsError: a run exists
        already that differs; names how. BusyError: other processes are training all of the runs. CacheError: the cache
        or a split does not exist. DataError: a list that is not valid, clips in both, or a finished run that is
        damaged. DivergedRunsError: a loss is not finite; the other runs are finished, and in its `results`.
    Source: heads, losses and checkpoints of Ritter-Gutierrez et al. 2025 (arXiv 2507.09904).

    >>> result = train_head("cache/tiny", "pooling-dist", seed=[1, 2], out="runs-example",
    ...                     set={"training.max_epochs": 2})
    >>> [run.folder.name for run in result.runs]
    ['pooling-dist-seed1', 'pooling-dist-seed2']
    >>> sorted(result.rows()[0])
    ['epochs', 'run', 'seconds', 'sys_mi', 'sys_ta', 'utt_mi', 'utt_ta']
    """
    given = dict(locals())
    if plan is not None and (head is not None or seed is not None):
        raise ArgumentError("--plan lists heads and seeds itself; leave out --head and --seed")
    if precision is not None:
        one_of("precision", precision, get_args(Precision))
    one_of("preload", preload, get_args(Preload))
    one_of("compile", compile, get_args(Compile))
    seeds, overrides = _seeds(seed), overrides_of(set)
    cache, out = Path(cache), Path(out)
    train, dev = (Path(each) if each is not None else None for each in (train_list, dev_list))
    lists = Lists(train, dev, tuple(paths_of("rater_lists", rater_lists)))
    if plan is not None:
        jobs = load_plan(str(plan), overrides)
    else:
        heads = (
            [DEFAULT_HEAD]
            if head is None
            else [head]
            if isinstance(head, str | PathLike | Mapping | HeadConfig)
            else list(head)
        )
        configs = named_heads(heads, overrides)
        jobs = [HeadJob(f"{name}-seed{each}", config, each) for name, config in configs for each in seeds]

    def report(job: HeadJob, line: Mapping[str, Any], last: bool) -> None:
        total = line["epoch"] if last else job.config.training.max_epochs
        progress(job.name, line["epoch"], total, f"dev loss {line['dev_loss']:.4f}")

    results = train_heads(
        jobs, cache, out, lists=lists, overwrite=overwrite, device=resolve_device(device), preload=preload,
        precision=precision, compiling=compile, tensorboard=tensorboard, profile=profile, on_epoch=report,
        made_with=_made_with(command or _call(given), cache, lists),
    )  # fmt: skip
    mean = _mean_of_runs(results, cache) if dev_list is None and len(results) > 1 else None
    return TrainResult(out, tuple(results), mean)


def _seeds(given: int | Sequence[int] | None) -> list[int]:
    """Return the seeds; refuse what is none."""
    several = [] if given is None else list(given) if isinstance(given, Iterable) else [given]
    for each in several:
        if isinstance(each, bool) or not isinstance(each, Integral):
            raise ArgumentError(f"seed is {quoted(given)}, expected a whole number, or several")
        if not 0 <= each <= HIGHEST_SEED:
            raise ArgumentError(f"seed {each}: expected 0 to {HIGHEST_SEED}")
    return list(map(int, several)) or [DEFAULT_SEED]


def _made_with(command: str, cache: Path, lists: Lists) -> dict[str, Any]:
    """Return the command, the cache and the lists that a run is made with, as it records them."""
    return {
        "command": command,
        "cache": str(cache),
        "train_list": str(lists.train) if lists.train else None,
        "dev_list": str(lists.dev) if lists.dev else None,
        "rater_lists": list(map(str, lists.raters)),
    }


def _call(given: Mapping[str, Any]) -> str:
    """Return a call of `train_head` as Python, with the arguments that are not the defaults."""
    left_out = ("command", "progress", "profile")
    parameters = inspect.signature(train_head).parameters
    changed = {key: value for key, value in given.items() if key not in left_out and value != parameters[key].default}
    shown = {key: str(value) if isinstance(value, PathLike) else value for key, value in changed.items()}
    return f"train_head({', '.join(f'{key}={quoted(value)}' for key, value in shown.items())})"


def _mean_of_runs(results: Sequence[HeadResult], cache: Path) -> Scores:
    """Return the numbers of the mean of the runs' best-loss predictions on the cache's dev split."""
    members = [read_predictions(predictions_path(result.folder, "dev", "loss")) for result in results]
    mi, ta = (np.mean([getattr(member, target) for member in members], axis=0) for target in ("mi", "ta"))
    return compute_metrics(Predictions.build(members[0].ids, mi, ta), ClipSet.of_split(cache, "dev").labels)


def _srccs(scores: Scores) -> dict[str, float]:
    return {view: getattr(scores, view).srcc for view in ("utt_mi", "utt_ta", "sys_mi", "sys_ta")}
