"""The layout of a run folder, for whoever reads runs: training, prediction, fusion.

config.yaml                        resolved config, seed, fingerprint, versions
best-{loss,srcc,combined}.safetensors
history.jsonl                      a line an epoch
metrics.json                       the numbers of each best checkpoint on each labelled split
predictions/SPLIT.BEST.jsonl
tensorboard/                       the history for TensorBoard, where it was asked for
"""

from pathlib import Path
from typing import Any

import yaml

from audiomos_cache.errors import DataError

BESTS = ("loss", "srcc", "combined")
CONFIG = "config.yaml"
HISTORY = "history.jsonl"
METRICS = "metrics.json"
TENSORBOARD = "tensorboard"


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
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as YAML ({reason}); train the run again") from error
    fingerprint = content.get("fingerprint") if isinstance(content, dict) else None
    if not isinstance(fingerprint, str):
        raise DataError(f"{path}: fingerprint is {fingerprint!r}, expected a text; train the run again")
    found: dict[str, Any] = content
    return found
