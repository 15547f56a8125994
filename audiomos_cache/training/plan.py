"""Plans: several heads to train, listed in a YAML file. `configs/ensemble8.yaml` is one, and says how they look."""

import re
from pathlib import Path

from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.config import Group
from audiomos_cache.heads.presets import load_head_config, plan_names, preset_names, presets_folder
from audiomos_cache.training.job import HeadJob
from audiomos_cache.yaml_files import read_mapping, readable

HIGHEST_SEED = 2**63 - 1
LONGEST_NAME = 200  # file systems take 255, and folders beside a run have its name and some more
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
        ConfigError: no such plan, or a run or head in it that is not valid; all problems in one message.
    """
    path = _path_of(plan)
    content = read_mapping(path, "the key runs")
    if "runs" not in content:
        raise ConfigError(f"{path}: no runs in it, so not a plan; a single head is trained with --head")
    try:
        runs = _Plan.model_validate(content).runs
    except ValidationError as error:
        problems = (readable(each, known_keys=()) for each in error.errors())
        raise ConfigError(f"{path}: {'; '.join(problems)}") from error
    if not runs:
        raise ConfigError(f"{path}: runs: none, expected one or more")
    jobs, failed = [], []
    for place, run in enumerate(runs):
        head = str(path.parent / run.head) if run.head.endswith((".yaml", ".yml")) else run.head
        try:
            name, config = load_head_config(head, (*run.overrides, *overrides))
        except ConfigError as error:
            failed.append(f"runs.{place}: {error}")
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
    raise ConfigError(f"--plan {plan}: no such plan; known are {', '.join(plan_names())}, or give a .yaml file")
