"""A run: the layout of its folder, reading it, and writing its files.

config.yaml                        resolved config, seed, fingerprint, versions
best-{loss,srcc,combined}.safetensors
clips.json                         ids of the clips that it was trained on, and that its checkpoints were chosen by
history.jsonl                      one line per epoch
metrics.json                       the numbers of each best checkpoint on each labelled split
predictions/SPLIT.BEST.jsonl
hashes.json                        of the checkpoints and the predictions, which are compared when they are read
tensorboard/                       the history for TensorBoard, if requested
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiomos_cache.artifacts import Fingerprint, refuse_occupied
from audiomos_cache.errors import AudiomosError, ConfigError, DataError, in_one_line, quoted
from audiomos_cache.files import read_file, read_json, read_tensors
from audiomos_cache.hashes import HASHES, read_hashes, require_hash
from audiomos_cache.registry import require_parts

# torch, numpy and pydantic are imported where they are needed: the command line's help reads `BESTS`.
if TYPE_CHECKING:
    from audiomos_cache.heads.model import Head

BESTS = ("loss", "srcc", "combined")
CLIPS = "clips.json"
CONFIG = "config.yaml"
HISTORY = "history.jsonl"
MADE_WITH = "made_with"  # the key of config.yaml, the last one there, for the command, cache and lists
METRICS = "metrics.json"
TENSORBOARD = "tensorboard"


@dataclass(frozen=True, slots=True)
class RunClips:
    """The ids of the clips that a run was trained on, and of those that its checkpoints were chosen by."""

    train: frozenset[str]
    dev: frozenset[str]


def checkpoint_path(run: Path, best: str) -> Path:
    """Return the path of a run's best checkpoint by one of three measures."""
    return run / f"best-{best}.safetensors"


_CHECKPOINTS = [checkpoint_path(Path(), best).name for best in BESTS]
_MOST_BYTES = 2**32  # of a checkpoint: some have 100 MB


def bests_in(run: Path) -> list[str]:
    """Return which of the three bests a run has; an imported one may lack some."""
    return [best for best in BESTS if checkpoint_path(run, best).exists()]


def predictions_path(run: Path, split: str, best: str) -> Path:
    """Return the path of a run's predictions of a split by one of its checkpoints."""
    return run / "predictions" / f"{split}.{best}.jsonl"


def predictions_in(run: Path) -> list[Path]:
    """Return a run's predictions files, sorted."""
    return sorted((run / "predictions").glob("*.jsonl"))


def require_whole(run: Path) -> None:
    """Compare a run's checkpoints and predictions with their hashes.

    Raises:
        DataError: one was changed or damaged; names the first.
    """
    for best in bests_in(run):
        read_checkpoint(run, best)
    for path in predictions_in(run):
        refuse_damaged_predictions(path)


def refuse_damaged_predictions(path: Path) -> None:
    """Refuse a predictions file in a run folder that is not what was written there. Files of the user's own are free.

    Raises:
        DataError: names the file.
    """
    run, name = path.parent.parent, f"{path.parent.name}/{path.name}"
    split, _, best = path.stem.rpartition(".")
    if path.parent.name == "predictions" and name in read_hashes(run):
        again = f"audiomos-cache predict {run} --split {split} --best {best} --overwrite writes it again"
        require_hash(run, name, path.read_bytes(), again)


def read_checkpoint(run: Path, best: str) -> bytes:
    """Read a checkpoint file, and compare it with its hash.

    Raises:
        DataError: it does not exist, or was changed or damaged.
    """
    path = checkpoint_path(run, best)
    if not path.exists():
        there = " or ".join(f"--best {each}" for each in bests_in(run))
        raise DataError(f"{path}: does not exist; {f'give {there}' if there else 'the run has no checkpoint'}")
    content = read_file(path, "a checkpoint", most=_MOST_BYTES)
    make = "train" if (run / HISTORY).exists() else "import"
    require_hash(run, path.name, content, f"copy the run again, or {make} it again with --overwrite")
    return content


def read_run_config(run: Path) -> dict[str, Any]:
    """Read the config.yaml of a run.

    Raises:
        DataError: not a run folder, or its config cannot be read or has no fingerprint.
    """
    path = run / CONFIG
    if not path.exists():
        raise DataError(f"{run}: contains no {CONFIG}, so it is not a run; train-head makes runs")
    from audiomos_cache.yaml_files import read_mapping

    content = read_mapping(path, "keys such as head, seed, fingerprint", DataError, "train the run again")
    if not isinstance(fingerprint := content.get("fingerprint"), str):
        raise DataError(f"{path}: fingerprint is {quoted(fingerprint)}, expected a string; train the run again")
    return content


def fingerprint_in(config: Mapping[str, Any]) -> Fingerprint | None:
    """Return the fingerprint of the features that a run was trained on; None of an imported run without a record.

    Args:
        config: the content of its config.yaml.
    Raises:
        TypeError, ValueError: the fields are not those of a fingerprint.
    """
    fields = config.get("fingerprint_fields")
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise TypeError(f"fingerprint_fields is {quoted(fields)}, expected keys such as audio_encoder")
    try:
        return Fingerprint.of(fields)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"fingerprint_fields are not those of a fingerprint: {error}") from error


def read_run_clips(run: Path) -> RunClips | None:
    """Read which clips a run was trained on and chosen by; None for an imported run, which has no record.

    Raises:
        DataError: the record cannot be read.
    """
    path, expected = run / CLIPS, "a record of clips: the ids of train and of dev"
    if not path.exists():
        return None
    content = read_json(path, expected, advice="train the run again")
    if not (isinstance(content, dict) and all(_are_ids(content.get(role)) for role in ("train", "dev"))):
        raise DataError(f"{path}: found {quoted(content)}, expected {expected}; train the run again")
    return RunClips(frozenset(content["train"]), frozenset(content["dev"]))


def _are_ids(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(each, str) for each in found)


def deciding_config(run: Path) -> bytes:
    """Return the bytes of a run's config.yaml without the command that it was made with; empty where it has none."""
    path = run / CONFIG
    content = read_file(path, "the config of a run") if path.exists() else b""
    kept, made_with, _ = content.partition(f"\n{MADE_WITH}:".encode())
    return kept + (b"\n" if made_with else b"")


_VERSIONED = ("audiomos-cache", "torch", "numpy", "scipy", "h5py", "safetensors")


class Run:
    """A finished run: a trained head in its folder.

    Args:
        folder: the run folder.
    Attributes:
        folder: its folder.
        config: the head's.
        seed: of initial weights, dropout and data order.
        fingerprint: of the cache it was trained on; None of an imported run without a record.
        audio_dim, text_dim: widths of frames and tokens that it was built for.
        audio_layers: numbers of the layers in that cache.
        layers_read: those of them that the head reads. Both are empty in an imported run that was given no cache.
        made_with: the command or call, the cache and the lists that it was trained with; empty of an imported run.
    Raises:
        DataError: the folder is not a run. ConfigError: its config is not valid.

    >>> run = Run("runs/pooling-dist-seed1")
    >>> run.seed, run.audio_dim, run.bests
    (1, 128, ['loss', 'srcc', 'combined'])
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        from pydantic import ValidationError

        from audiomos_cache.heads.config import HeadConfig
        from audiomos_cache.yaml_files import readable

        self.folder = Path(folder)
        content = read_run_config(self.folder)
        require_parts(content.get("parts"), str(self.folder / CONFIG))
        try:
            self.config: HeadConfig = HeadConfig.model_validate(content["head"])
            self.seed = _integer("seed", content["seed"] or 0)
            self.fingerprint = fingerprint_in(content)
            self.audio_dim, self.text_dim = (_integer(name, content[name]) for name in ("audio_dim", "text_dim"))
            self.audio_layers = _integers("audio_layers", content["audio_layers"])
            self.layers_read = _integers("layers_read", content["layers_read"])
            self.made_with: dict[str, Any] = dict(content.get(MADE_WITH) or {})
        except ValidationError as error:
            problems = "; ".join(readable(each, ()) for each in error.errors())
            raise ConfigError(f"{self.folder / CONFIG}: not the config of a run: head: {problems}") from error
        except (KeyError, TypeError, ValueError) as error:
            reason = in_one_line(error)
            raise ConfigError(f"{self.folder / CONFIG}: not the config of a run: {reason}") from error

    @property
    def bests(self) -> list[str]:
        """The checkpoints it has: by dev loss, by system SRCC of MI, combined."""
        return bests_in(self.folder)

    def predictions(self) -> list[Path]:
        """Return its predictions files, `SPLIT.BEST.jsonl`, sorted."""
        return predictions_in(self.folder)

    def metrics(self) -> dict[str, Any]:
        """Return the epoch of each best checkpoint and its numbers on each labelled split; imported runs have none."""
        path, expected = self.folder / METRICS, "the epoch and the numbers of each best checkpoint"
        if not path.exists():
            return {}
        found: dict[str, Any] = read_json(path, expected, advice="train the run again")
        if not _are_metrics(found):
            raise DataError(f"{path}: found {quoted(found)}, expected {expected}; train the run again")
        return found

    def __repr__(self) -> str:
        made = f"\n  made with: {self.made_with['command']}" if "command" in self.made_with else ""
        splits = sorted({path.name.split(".")[0] for path in self.predictions()})
        return (
            f"Run({str(self.folder)!r}): seed {self.seed}, checkpoints by {', '.join(self.bests)}, "
            f"predictions of {', '.join(splits) or 'nothing'}{made}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: config, widths, layers, fingerprint, numbers of each checkpoint."""
        return {
            "run": str(self.folder),
            "seed": self.seed,
            "head": self.config.model_dump(),
            "audio_dim": self.audio_dim,
            "text_dim": self.text_dim,
            "audio_layers": list(self.audio_layers),
            "layers_read": list(self.layers_read),
            "fingerprint": self.fingerprint.digest if self.fingerprint else None,
            "checkpoints": self.bests,
            "predictions": [str(path) for path in self.predictions()],
            "metrics": self.metrics(),
            "made_with": self.made_with,
        }

    def load_head(self, best: str) -> "Head":
        """Build the head and load one of its three checkpoints.

        Raises:
            DataError: the checkpoint is missing or damaged, or does not fit.
        """
        from audiomos_cache.heads.model import build_with

        content = read_checkpoint(self.folder, best)
        try:
            weights = read_tensors(content)
            return build_with(weights, self.config, self.audio_dim, self.text_dim, layers=len(self.audio_layers))
        except (AudiomosError, ValueError, RuntimeError, TypeError, OverflowError) as error:
            path, reason = checkpoint_path(self.folder, best), in_one_line(error)
            raise DataError(f"{path}: not the weights of this run's head: {reason}") from error


def _integer(name: str, found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise TypeError(f"{name} is {quoted(found)}, expected a whole number")
    return found


def _integers(name: str, found: object) -> tuple[int, ...]:
    if not isinstance(found, list):
        raise TypeError(f"{name} is {quoted(found)}, expected whole numbers")
    return tuple(_integer(name, each) for each in found)


def _are_metrics(found: object) -> bool:
    """Return whether a file holds, for each best checkpoint, its epoch, and the numbers of each labelled split."""
    from audiomos_cache.evaluation.metrics import Scores

    if not isinstance(found, dict):
        return False
    try:
        for numbers in found.values():
            _integer("epoch", numbers["epoch"])
            for each in numbers.values():
                if isinstance(each, dict) and "n_clips" in each:
                    Scores.from_json(each)
    except (LookupError, TypeError, ValueError, AttributeError):
        return False
    return True


def refuse_existing(folders: list[Path], *, overwrite: bool, kept: bool = False) -> None:
    """Refuse run folders that exist, before any training. `overwrite` lets runs be replaced, and nothing else.

    Args:
        folders: of the runs to be made.
        overwrite: whether the user gave `--overwrite`.
        kept: whether files in them that are not a run's are kept, so that there may be some.
    Raises:
        OutputExistsError: naming them, or the folder that is not a run, or files that are not a run's.
    """
    refuse_occupied(
        folders,
        what="run",
        own=None if kept else _is_own,
        marker=CONFIG,
        overwrite=overwrite,
        advice="leave these runs out, give another --out",
    )


def _is_own(name: str) -> bool:
    """Return whether a run may have a file, or an empty folder, of this path."""
    folder, _, file = name.partition("/")
    if (last := name.rpartition("/")[2]).startswith(".") and last.endswith(".part"):
        return True  # a process that was killed has left it
    if folder == "predictions":
        return not file or ("/" not in file and file.endswith(".jsonl"))
    return folder == TENSORBOARD or name in (CONFIG, CLIPS, HASHES, HISTORY, METRICS, *_CHECKPOINTS)


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide a run's numbers."""
    import torch

    return {package: _version(package) for package in _VERSIONED} | {"cuda": torch.version.cuda or "none"}


_version = cache(version)  # reading a package's metadata takes milliseconds
