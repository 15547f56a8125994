"""Heads to train: single ones, or a plan of several (`configs/ensemble8.yaml`), and the checks before training."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from audiomos_cache.artifacts import differences, hash_bytes
from audiomos_cache.errors import ConfigError, DataError, first_five
from audiomos_cache.heads.config import HeadConfig, parts_of, scaled_lr
from audiomos_cache.heads.layers import layers_to_read
from audiomos_cache.heads.losses import objective_of
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.presets import (
    apply_overrides,
    head_config,
    load_head_config,
    plan_names,
    preset_names,
    presets_folder,
)
from audiomos_cache.registry import not_built_in, warn_of_scripts
from audiomos_cache.runs import MADE_WITH, versions
from audiomos_cache.training.data import ClipSet, Lists, TrainingClips
from audiomos_cache.training.optimizer import LearningRate, steps_per_epoch
from audiomos_cache.yaml_files import Group, read_mapping, readable


@dataclass(frozen=True, slots=True)
class HeadJob:
    """One head to train: name of the run, its config, its seed."""

    name: str
    config: HeadConfig
    seed: int

    @property
    def wants_ratings(self) -> bool:
        """Whether the head is trained on single ratings instead of their mean."""
        return objective_of(self.config).wants_ratings


def run_config(job: HeadJob, clips: TrainingClips, device: str, precision: str = "fp32") -> dict[str, Any]:
    """Return what a run records of how it was made."""
    reader = clips.reader
    return {
        "name": job.name,
        "seed": job.seed,
        "head": job.config.model_dump(),
        "parts": [part | {"code_xxh3_128": _code_hash(part["module"])} for part in not_built_in(parts_of(job.config))],
        "resolved_lr": scaled_lr(job.config.training.lr, reader.audio_dim),
        "audio_dim": reader.audio_dim,
        "text_dim": reader.text_dim,
        "audio_layers": list(reader.layers),
        "layers_read": list(layers_to_read(job.config.layers, reader.layers)),
        "device": device,
        "threads": torch.get_num_threads() if device == "cpu" else None,
        "precision": precision,
        "data": {"train": _described(clips.train, job), "dev": _described(clips.dev, job)},
        "encoders": reader.provenance,
        "fingerprint": reader.fingerprint.digest,
        "fingerprint_fields": reader.fingerprint.fields,
        "versions": versions(),
    }


def job_differences(found: Mapping[str, Any], requested: Mapping[str, Any], *, how: bool = True) -> list[str]:
    """Name what differs between two runs' configs that decides their numbers: `head.dropout is 0.3, requested 0.1`.

    Args:
        found, requested: as `run_config` returns them, or as they were read from a run.
        how: whether device, precision and versions count, which decide the last digits.
    """
    return differences(_what_decides(found, how), _what_decides(requested, how))


def _what_decides(config: Mapping[str, Any], how: bool) -> dict[str, Any]:
    """Return what decides a run's numbers, as JSON values.

    The number of threads is left out, though it decides the last digits: a training that is continued keeps it.
    Of a part that is not built in count which class it is and its module's code, not how its import was spelled.
    """
    left_out = {"name", "encoders", "resolved_lr", "fingerprint", "threads", MADE_WITH}
    left_out |= set() if how else {"device", "precision", "versions"}
    kept = {key: value for key, value in config.items() if key not in left_out}
    kept["data"] = {
        role: {key: value for key, value in described.items() if key != "from"}
        for role, described in (kept.get("data") or {}).items()  # an imported run has none
    }
    part_keys = ("module", "class", "code_xxh3_128", *(("version",) if how else ()))
    kept["parts"] = {
        f"{part.get('kind')} {part.get('name')}": {key: part.get(key) for key in part_keys}
        for part in kept.get("parts") or ()
    }
    decisive: dict[str, Any] = json.loads(json.dumps(kept))
    return decisive


def _code_hash(module: str | None) -> str | None:
    """Return the hash of a module's file; None of a notebook, which has none."""
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    return hash_bytes(Path(file).read_bytes()) if file and Path(file).is_file() else None


def _described(clips: ClipSet, job: HeadJob) -> dict[str, Any]:
    described = {"from": clips.name, "clips": len(clips), "labels_xxh3_128": clips.labels_hash()}
    return described | ({"ratings_xxh3_128": clips.ratings_hash()} if job.wants_ratings else {})


def named_heads(
    heads: Sequence[str | PathLike[str] | Mapping[str, Any] | HeadConfig], overrides: tuple[str, ...]
) -> list[tuple[str, HeadConfig]]:
    """Return the name and the config of each head; those without a name are called `head`, or `head1`, `head2`.

    Args:
        heads: names of presets, YAML files, mappings of the keys in such a file, or configs.
        overrides: `a.b=c`, for all of them.
    Raises:
        ConfigError: as `load_head_config`.
    """
    nameless = [head for head in heads if isinstance(head, Mapping | HeadConfig)]
    named, count = [], 0
    for head in heads:
        if isinstance(head, Mapping | HeadConfig):
            count += 1
            named.append((f"head{count}" if len(nameless) > 1 else "head", _overridden(head, overrides)))
        else:
            named.append(load_head_config(str(head), overrides))
    return named


def _overridden(head: Mapping[str, Any] | HeadConfig, overrides: tuple[str, ...]) -> HeadConfig:
    if not overrides:
        return head_config(head)
    content = head if isinstance(head, Mapping) else head.model_dump(exclude_defaults=True)
    return head_config(apply_overrides(content, overrides))


HIGHEST_SEED = 2**63 - 1
LONGEST_NAME = 200  # file systems take 255, and folders next to a run have its name and a suffix
_FOLDER = re.compile(r"\w[\w .+-]*")


class _PlannedRun(Group):
    head: str
    seed: int = Field(ge=0, le=HIGHEST_SEED)
    overrides: tuple[str, ...] = Field((), alias="set")
    name: str | None = None

    @field_validator("name")
    @classmethod
    def _refuse_what_names_no_folder(cls, found: str | None) -> str | None:
        if found is not None and (not _FOLDER.fullmatch(found) or len(found.encode()) > LONGEST_NAME):
            raise PydanticCustomError(
                "folder_name", f"expected letters, digits, spaces and . _ + -, {LONGEST_NAME} bytes at most, and a "
                "letter, a digit or _ first"
            )  # fmt: skip
        return found


class _Plan(Group):
    runs: tuple[_PlannedRun, ...]


def load_plan(plan: str, overrides: tuple[str, ...] = ()) -> list[HeadJob]:
    """Read a plan by its name, or a YAML file by its path.

    Args:
        plan: a name in `configs/`, or a path; paths in the file are relative to it.
        overrides: `a.b=c`, for all runs, after those that the plan has for some.
    Raises:
        ConfigError: the plan does not exist, or a run or head in it is not valid; all problems in one message.
    """
    path = _path_of(plan)
    content = read_mapping(path, "the key runs")
    if "runs" not in content:
        raise ConfigError(f"{path}: has no key runs, so it is not a plan; give a single head to --head")
    try:
        runs = _Plan.model_validate(content).runs
    except ValidationError as error:
        problems = (readable(each, known_keys=()) for each in error.errors())
        raise ConfigError(f"{path}: {'; '.join(problems)}") from error
    if not runs:
        raise ConfigError(f"{path}: runs: empty, expected one or more")
    jobs, failed = [], []
    for index, run in enumerate(runs):
        head = str(path.parent / run.head) if run.head.endswith((".yaml", ".yml")) else run.head
        try:
            name, config = load_head_config(head, (*run.overrides, *overrides))
        except ConfigError as error:
            failed.append(f"runs.{index}: {error}")
        else:
            jobs.append(HeadJob(run.name or f"{name}-seed{run.seed}", config, run.seed))
    if failed:
        raise ConfigError(f"{path}: {'; '.join(failed)}")
    return jobs


def _path_of(plan: str) -> Path:
    if plan in plan_names():
        return presets_folder() / f"{plan}.yaml"
    if plan in preset_names():
        raise ConfigError(f"--plan {plan}: is a preset for one head, not a plan; give it to --head")
    if plan.endswith((".yaml", ".yml")):
        return Path(plan)
    raise ConfigError(f"--plan {plan}: plan not found; known are {', '.join(plan_names())}, or give a .yaml file")


def check_names(jobs: Sequence[HeadJob]) -> None:
    """Refuse several runs of the same name."""
    names = [job.name for job in jobs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"runs that would have the same name: {first_five(repeated)}; give each head and seed once")


def check_ratings(jobs: Sequence[HeadJob], lists: Lists) -> None:
    """Refuse ratings that no head reads, and heads whose ratings are missing."""
    reading = [job.name for job in jobs if job.wants_ratings]
    if lists.raters and not reading:
        raise ConfigError(
            f"--rater-list {first_five(list(map(str, lists.raters)))}: no head here is trained on single ratings; "
            "leave it out, or --set output.loss=raters --set output.bins=5"
        )
    if reading and not lists.raters:
        raise ConfigError(
            f"{first_five(reading)}: output.loss is 'raters', and no ratings are given; give --rater-list, such as "
            "a person_mos list of MusicEval"
        )


def check_heads(jobs: Sequence[HeadJob], clips: TrainingClips) -> None:
    """Build every head once, without weights: what cannot be built or trained is found before anything is trained.

    Warns of parts that are defined in a script or a notebook, which their runs can be used in alone.
    """
    warn_of_scripts(not_built_in(part for job in jobs for part in parts_of(job.config)))
    reader = clips.reader
    with torch.device("meta"):
        for job in jobs:
            build_head(job.config, reader.audio_dim, reader.text_dim, layers=len(reader.layers))
            layers_to_read(job.config.layers, reader.layers)
            LearningRate.of(job.config.training, 1.0, steps_per_epoch(job.config.training, len(clips.train)))
