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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from audiomos_cache.cache.fingerprint import Fingerprint
from audiomos_cache.errors import ConfigError, DataError, OutputExistsError, first_five
from audiomos_cache.files import write_whole

# torch, numpy and pydantic are imported where they are needed: the command line's help reads `BESTS`.
if TYPE_CHECKING:
    from torch import Tensor

    from audiomos_cache.evaluation.predictions import Predictions
    from audiomos_cache.heads.config import HeadConfig
    from audiomos_cache.heads.model import Head

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


_VERSIONED = ("audiomos-cache", "torch", "numpy", "scipy", "h5py", "safetensors")


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    Attributes:
        folder: where it is.
        config: the head's.
        seed: of initial weights, dropout and data order.
        fingerprint: of the cache it was trained on; None where an imported run cannot say.
        audio_dim, text_dim: widths it was built for.
        audio_layers: numbers of the layers in that cache.
        layers_read: those of them that the head looks at. Both are empty in runs of the first version, whose caches
            had one layer.
    """

    folder: Path
    config: "HeadConfig"
    seed: int
    fingerprint: Fingerprint | None
    audio_dim: int
    text_dim: int
    audio_layers: tuple[int, ...]
    layers_read: tuple[int, ...]

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Read a run's config.

        Raises:
            DataError: not a run folder. ConfigError: its config is not valid.
        """
        from audiomos_cache.heads.config import HeadConfig

        content = read_run_config(folder)
        try:
            return cls(
                folder=folder,
                config=HeadConfig.model_validate(content["head"]),
                seed=int(content["seed"] or 0),
                fingerprint=Fingerprint.of(content["fingerprint_fields"]) if content["fingerprint_fields"] else None,
                audio_dim=int(content["audio_dim"]),
                text_dim=int(content["text_dim"]),
                audio_layers=tuple(map(int, content.get("audio_layers", ()))),
                layers_read=tuple(map(int, content.get("layers_read", ()))),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{folder / CONFIG}: not the config of a run: {' '.join(str(error).split())}") from error

    def load_head(self, best: str) -> "Head":
        """Build the head and load one of its three checkpoints.

        Raises:
            DataError: the checkpoint is missing or does not fit.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from audiomos_cache.heads.model import build_head

        path = checkpoint_path(self.folder, best)
        if not path.exists():
            there = " or ".join(f"--best {each}" for each in bests_in(self.folder))
            raise DataError(f"{path}: no such checkpoint in this run; {f'give {there}' if there else 'it has none'}")
        head = build_head(self.config, self.audio_dim, self.text_dim, layers=len(self.audio_layers))
        try:
            head.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise DataError(f"{path}: not the weights of this run's head: {' '.join(str(error).split())}") from error
        return head


@dataclass(frozen=True, slots=True)
class RunWriter:
    """Writes the files of a run, each synced, into a folder that is not yet at its final place."""

    folder: Path

    def write_config(self, content: Mapping[str, Any]) -> None:
        """Write the resolved config."""
        text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120)
        write_whole(self.folder / CONFIG, text.encode())

    def write_clips(self, train: Iterable[str], dev: Iterable[str]) -> None:
        """Write the ids of the clips that it was trained on and chosen by, sorted."""
        content = json.dumps({"train": sorted(train), "dev": sorted(dev)}, indent=0, ensure_ascii=False)
        write_whole(self.folder / CLIPS, f"{content}\n".encode())

    def write_checkpoint(self, best: str, weights: "Mapping[str, Tensor]") -> None:
        """Write the weights of a head; the same weights give the same bytes."""
        write_whole(checkpoint_path(self.folder, best), weights_bytes(weights))

    def write_history(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write a line for each epoch."""
        write_whole(self.folder / HISTORY, "".join(f"{json.dumps(line)}\n" for line in lines).encode())

    def write_metrics(self, content: Mapping[str, Any]) -> None:
        """Write the numbers of each best checkpoint on each labelled split."""
        write_whole(self.folder / METRICS, f"{json.dumps(content, indent=2)}\n".encode())

    def write_predictions(self, split: str, best: str, predictions: "Predictions") -> None:
        """Write the predictions of a split."""
        from audiomos_cache.evaluation.predictions import write_predictions

        write_predictions(predictions_path(self.folder, split, best), predictions)


def weights_bytes(weights: "Mapping[str, Tensor]") -> bytes:
    """Return the weights of a head as safetensors; the same weights give the same bytes."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})


def refuse_existing(folders: list[Path], *, overwrite: bool) -> None:
    """Refuse run folders that exist, before any training. `overwrite` lets runs be replaced, and nothing else.

    Raises:
        OutputExistsError: naming them.
    """
    existing = [str(folder) for folder in folders if folder.exists()]
    if existing and not overwrite:
        raise OutputExistsError(
            f"runs exist already: {first_five(existing)}; leave them out, give another --out, or --overwrite to "
            "replace them"
        )
    foreign = [folder for folder in existing if not (Path(folder) / CONFIG).is_file()]
    if foreign:
        raise OutputExistsError(
            f"in the place of runs there is something else, which --overwrite would lose: {first_five(foreign)}; "
            "give another --out"
        )


def versions() -> dict[str, str]:
    """Return the versions of what decides a run's numbers."""
    import torch

    return {package: _version(package) for package in _VERSIONED} | {"cuda": torch.version.cuda or "none"}


_version = cache(version)  # reading a package's metadata takes milliseconds
