"""The state of a training after an epoch: all that decides how it continues, in memory and on disk."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from audiomos_cache.artifacts import atomic_write, hash_bytes, sync_folder
from audiomos_cache.errors import DataError
from audiomos_cache.files import MOST_WEIGHTS, parse_json, read_file, read_tensors
from audiomos_cache.heads.model import Head
from audiomos_cache.runs import BESTS

RECORD = "state.json"

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What a training needs to continue after its last finished epoch, besides its job and its data.

    Attributes:
        history: an entry per epoch; the bests, and the number of epochs since the last, follow from it.
        weights: of the head after the last epoch, and after each that is a best one; by epoch.
        optimizer: AdamW's memory of each parameter: `NAME.exp_avg` and so on.
        rng_states: states of torch's generators by device, which dropout is drawn from.
    """

    history: Sequence[Mapping[str, Any]]
    weights: Mapping[int, Tensors]
    optimizer: Tensors
    rng_states: Tensors

    @classmethod
    def of(
        cls,
        history: Sequence[Mapping[str, Any]],
        weights: Mapping[int, Tensors],
        head: Head,
        optimizer: torch.optim.Optimizer,
    ) -> "TrainingState":
        """Copy the state of a training; nothing that is trained later changes it."""
        memory = {
            f"{name}.{key}": value.detach().clone()
            for name, parameter in head.named_parameters()
            for key, value in optimizer.state[parameter].items()
        }
        rng_states = {"cpu": torch.get_rng_state()}
        devices = {parameter.device for parameter in head.parameters()}
        rng_states |= {str(device): torch.cuda.get_rng_state(device) for device in devices if device.type == "cuda"}
        return cls(tuple(history), dict(weights), memory, rng_states)

    @property
    def epoch(self) -> int:
        """The last finished epoch."""
        return len(self.history)

    def restore(self, head: Head, optimizer: torch.optim.Optimizer) -> None:
        """Set a head, its optimizer and torch's generators to their state after the last epoch."""
        head.load_state_dict(self.weights[self.epoch])
        memory: dict[str, dict[str, Tensor]] = {}
        for key, value in self.optimizer.items():
            name, _, what = key.rpartition(".")
            memory.setdefault(name, {})[what] = value
        for name, parameter in head.named_parameters():
            optimizer.state[parameter] = {
                what: value.to(parameter.device, copy=True) for what, value in memory.get(name, {}).items()
            }
        for device, generator in self.rng_states.items():
            if device == "cpu":
                torch.set_rng_state(generator)
            else:
                torch.cuda.set_rng_state(generator, device)


def best_epochs(history: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the epoch of each best so far."""
    return {name: line["epoch"] for line in history for name in BESTS if name in line["best"]}


def epochs_since_best(history: Sequence[Mapping[str, Any]]) -> int:
    """Return for how many epochs none of the bests has improved."""
    return len(history) - max(best_epochs(history).values(), default=0)


def measures(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the three measures of an epoch that checkpoints are kept by, higher is better; NaN if undefined."""
    srcc = {
        level: math.nan if line["dev"][level]["srcc"] is None else line["dev"][level]["srcc"]
        for level in ("utt_mi", "sys_mi", "sys_ta")
    }
    return {"loss": -line["dev_loss"], "srcc": srcc["sys_mi"], "combined": (srcc["utt_mi"] + srcc["sys_ta"]) / 2}


def save_state(folder: Path, job: Mapping[str, Any], state: TrainingState, saved: Mapping[str, str]) -> dict[str, str]:
    """Write a state, so that a kill or a power cut leaves it or the one before, whole.

    The tensors go into files of their epoch, which are never changed; the record that names them comes last.

    Args:
        folder: where the states of one training are kept.
        job: the config of the run, as JSON values.
        state: what to save.
        saved: the files of the state before, with their hashes; files that this state shares are not written again.
    Returns:
        The files of this state, with their hashes.
    """
    contents = {f"weights-{epoch}.safetensors": weights for epoch, weights in state.weights.items()}
    contents[f"optimizer-{state.epoch}.safetensors"] = {
        **{f"optimizer/{name}": tensor for name, tensor in state.optimizer.items()},
        **{f"chance/{device}": generator for device, generator in state.rng_states.items()},
    }
    files = {name: saved[name] if name in saved else _write(folder / name, each) for name, each in contents.items()}
    sync_folder(folder)
    record = json.dumps({"job": job, "history": list(state.history), "files": files})
    atomic_write(folder / RECORD, f"{hash_bytes(record.encode())}\n{record}\n".encode())
    sync_folder(folder)
    for path in folder.glob("*.safetensors"):
        if path.name not in files:
            path.unlink()
    return files


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read the record of a training from a folder, without tensors: job, history, files; None if there is none.

    Raises:
        DataError: the record is damaged.
    """
    path = folder / RECORD
    try:
        there = path.exists()
    except NotADirectoryError:
        return None
    if not there:
        return None
    digest, _, record = read_file(path, "the record of a training").partition(b"\n")
    if hash_bytes(record.removesuffix(b"\n")).encode() != digest:
        raise _damaged(path)
    try:
        content = parse_json(record)
    except ValueError as error:
        raise _damaged(path) from error
    if not (isinstance(content, dict) and content.keys() >= {"job", "history", "files"}):
        raise _damaged(path)
    return content


def load_state(folder: Path, record: Mapping[str, Any]) -> TrainingState:
    """Read the state that a record describes.

    Raises:
        DataError: a file of it is missing or damaged.
    """
    history = record["history"]
    read = {name: _read(folder / name, digest) for name, digest in record["files"].items()}
    last = read.pop(f"optimizer-{len(history)}.safetensors")
    parts: dict[str, dict[str, Tensor]] = {"optimizer": {}, "chance": {}}
    for name, tensor in last.items():
        part, _, key = name.partition("/")
        parts[part][key] = tensor
    epochs = {len(history), *best_epochs(history).values()}
    weights = {epoch: read[f"weights-{epoch}.safetensors"] for epoch in epochs}
    return TrainingState(history, weights, parts["optimizer"], parts["chance"])


def _write(path: Path, tensors: Tensors) -> str:
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    return atomic_write(path, content)


def _read(path: Path, digest: str) -> dict[str, Tensor]:
    if not path.exists():
        raise _damaged(path)
    content = read_file(path, "the tensors of a training", most=MOST_WEIGHTS)
    if hash_bytes(content) != digest:
        raise _damaged(path)
    try:
        return read_tensors(content)
    except ValueError as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> DataError:
    return DataError(
        f"{path}: damaged or missing, so the interrupted training cannot be continued; --overwrite starts it "
        "from the beginning"
    )
