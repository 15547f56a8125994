"""Writing the files of a run; `runs.py` has their layout."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from audiomos_cache.artifacts import atomic_write
from audiomos_cache.evaluation.predictions import Predictions, predictions_bytes
from audiomos_cache.hashes import write_hashes
from audiomos_cache.runs import CLIPS, CONFIG, HISTORY, METRICS, checkpoint_path, predictions_path

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class RunWriter:
    """Writes the files of a run, each synced, into a folder that is moved to its final path afterwards.

    Attributes:
        folder: that folder.
        hashes: of the checkpoints and predictions in it, by their paths there.
    """

    folder: Path
    hashes: dict[str, str] = field(default_factory=dict)

    def write_config(self, content: Mapping[str, Any]) -> None:
        """Write the resolved config."""
        dumped = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120)
        atomic_write(self.folder / CONFIG, dumped.encode())

    def write_clips(self, train: Iterable[str], dev: Iterable[str]) -> None:
        """Write the ids of the clips that it was trained on and chosen by, sorted."""
        content = json.dumps({"train": sorted(train), "dev": sorted(dev)}, indent=0, ensure_ascii=False)
        atomic_write(self.folder / CLIPS, f"{content}\n".encode())

    def write_checkpoint(self, best: str, weights: "Mapping[str, Tensor]") -> None:
        """Write the weights of a head; the same weights give the same bytes."""
        self._write(checkpoint_path(self.folder, best), weights_bytes(weights))

    def write_history(self, epochs: Iterable[Mapping[str, Any]]) -> None:
        """Write a line for each epoch."""
        atomic_write(self.folder / HISTORY, "".join(f"{json.dumps(epoch)}\n" for epoch in epochs).encode())

    def write_metrics(self, content: Mapping[str, Any]) -> None:
        """Write the numbers of each best checkpoint on each labelled split."""
        atomic_write(self.folder / METRICS, f"{json.dumps(content, indent=2)}\n".encode())

    def write_predictions(self, split: str, best: str, predictions: Predictions) -> None:
        """Write the predictions of a split."""
        self._write(predictions_path(self.folder, split, best), predictions_bytes(predictions))

    def write_hashes(self) -> None:
        """Write the hashes of the checkpoints and predictions, when all are written."""
        write_hashes(self.folder, self.hashes)

    def _write(self, path: Path, content: bytes) -> None:
        self.hashes[path.relative_to(self.folder).as_posix()] = atomic_write(path, content)


def weights_bytes(weights: "Mapping[str, Tensor]") -> bytes:
    """Return the weights of a head as safetensors; the same weights give the same bytes."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
