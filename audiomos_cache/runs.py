"""The layout of a run folder, for whoever reads runs: training, prediction, fusion.

config.yaml                        resolved config, seed, fingerprint, versions
best-{loss,srcc,combined}.safetensors
clips.json                         ids of the clips it was trained on and chosen by
history.jsonl                      a line an epoch
metrics.json                       the numbers of each best checkpoint on each labelled split
predictions/SPLIT.BEST.jsonl
tensorboard/                       the history for TensorBoard, where it was asked for
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from audiomos_cache.errors import DataError

BESTS = ("loss", "srcc", "combined")
CLIPS = "clips.json"
CONFIG = "config.yaml"
HISTORY = "history.jsonl"
METRICS = "metrics.json"
TENSORBOARD = "tensorboard"


@dataclass(frozen=True, slots=True)
class RunClips:
    """The ids of the clips that a run was trained on, and of those that its checkpoints were chosen by."""

    train: frozenset[str]
    dev: frozenset[str]


def checkpoint_path(run: Path, best: str) -> Path:
    """Return where a run's best checkpoint by one of three measures lies."""
    return run / f"best-{best}.safetensors"


def bests_in(run: Path) -> list[str]:
    """Return which of the three bests a run has; an imported one may lack some."""
    return [best for best in BESTS if checkpoint_path(run, best).exists()]


def predictions_path(run: Path, split: str, best: str) -> Path:
    """Return where a run's predictions of a split by one of its checkpoints lie."""
    return run / "predictions" / f"{split}.{best}.jsonl"


def read_run_config(run: Path) -> dict[str, Any]:
    """Read what a run says of itself.

    Raises:
        DataError: not a run folder, or its config cannot be read or has no fingerprint.
    """
    path = run / CONFIG
    if not path.is_file():
        raise DataError(f"{run}: no {CONFIG} in it, so not a run; train-head makes runs")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as YAML ({reason}); train the run again") from error
    fingerprint = content.get("fingerprint") if isinstance(content, dict) else None
    if not isinstance(fingerprint, str):
        raise DataError(f"{path}: fingerprint is {fingerprint!r}, expected a text; train the run again")
    found: dict[str, Any] = content
    return found


def read_run_clips(run: Path) -> RunClips | None:
    """Read which clips a run has seen; None for an imported run, or one of before that was recorded.

    Raises:
        DataError: the record cannot be read.
    """
    path = run / CLIPS
    try:
        content = json.loads(path.read_bytes())
        if not all(isinstance(content[role], list) for role in ("train", "dev")):
            raise TypeError("train and dev are not two lists of ids")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: not a record of clips ({error!r}); train the run again") from error
    return RunClips(frozenset(map(str, content["train"])), frozenset(map(str, content["dev"])))
