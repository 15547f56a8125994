"""Make a run from a checkpoint of the published code."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from audiomos_cache.cache.reader import CacheReader, open_cache
from audiomos_cache.errors import ConfigError, one_of
from audiomos_cache.files import real_path
from audiomos_cache.folders import atomic_folder, clear_leftovers
from audiomos_cache.hashes import read_hashes
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.layers import layers_to_read
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.presets import Overrides, load_head_config, overrides_of, with_compat
from audiomos_cache.locks import locked
from audiomos_cache.run_writer import RunWriter
from audiomos_cache.runs import (
    BESTS,
    CONFIG,
    bests_in,
    predictions_path,
    read_run_config,
    refuse_existing,
    versions,
)
from audiomos_cache.torch_settings import standard_torch
from audiomos_cache.upstream.checkpoints import load_upstream_state, read_upstream_checkpoint

AUDIO_DIM, TEXT_DIM = 1024, 768  # of MuQ and RoBERTa
# What two checkpoints of one head have in common, besides its name.
_DECIDING = ("head", "audio_dim", "text_dim", "audio_layers", "layers_read", "fingerprint")


_BESTS = {"ckpt_best_val_loss": "loss", "ckpt_best_val_srcc": "srcc", "ckpt_best_val_combined": "combined"}


@dataclass(frozen=True)
class ImportResult:
    """What `import_upstream` wrote: a checkpoint of a run, and the file that it came from."""

    run: Path
    best: str
    checkpoint: Path

    def __repr__(self) -> str:
        return f"{self.run}: best-{self.best}.safetensors from {self.checkpoint}"

    def to_dict(self) -> dict[str, Any]:
        """Return the paths as strings."""
        return {"run": str(self.run), "best": self.best, "checkpoint": str(self.checkpoint)}


@standard_torch()
def import_upstream(
    checkpoint: str | PathLike[str],
    head: str | PathLike[str],
    out: str | PathLike[str],
    *,
    cache: str | PathLike[str] | None = None,
    best: str | None = None,
    set: Overrides = (),  # noqa: A002
    overwrite: bool = False,
) -> ImportResult:
    """Write a run with the weights of the published code's `.pth` file, to be predicted with as that code does.

    The original's other checkpoints of the same head are added to the run one by one.

    Args:
        checkpoint: the file.
        head: the preset, or YAML file, that it was trained as. Files of transformer-dist,
            transformer-onehot and decoupled-dist look the same.
        out: the run folder to make, or an imported run of the same head to add to.
        cache: the cache with its features, if that is to be remembered and checked.
        best: which of a run's checkpoints it becomes: `loss`, `srcc` or `combined`; None: by the file's name, or loss.
        set: keys of the head to override, such as "layers=12" or {"layers": 12} for a cache of several layers.
        overwrite: replace that checkpoint and its predictions in a run of the same head, or else the whole run.
    Raises:
        DataError: not a checkpoint of this head. OutputExistsError: `out` has this checkpoint already, or is something
            else than an imported run of this head. CacheError: `cache` cannot be opened. ConfigError: an unknown head
            or key.
    Source: the published code of ASTAR-NTU (arXiv 2507.09904).

    >>> import_upstream("ckpt_best_val_srcc.pth", "transformer-dist", "runs-published").best
    'srcc'
    """
    checkpoint, out = Path(checkpoint), Path(out)
    name, config = load_head_config(str(head), overrides_of(set))
    chosen = _BESTS.get(checkpoint.stem, "loss") if best is None else best
    one_of("best", chosen, BESTS)
    features = Path(cache) if cache is not None else None
    _import(checkpoint, name, config, out, chosen, cache=features, overwrite=overwrite)
    return ImportResult(out, chosen, checkpoint)


def _import(
    checkpoint: Path, head: str, config: HeadConfig, out: Path, best: str, *, cache: Path | None, overwrite: bool
) -> None:
    config = with_compat(config, "upstream")
    reader = next(iter(open_cache(cache).values())) if cache else None
    if reader and (reader.audio_dim, reader.text_dim) != (AUDIO_DIM, TEXT_DIM):
        raise ConfigError(
            f"{cache}: frames of {reader.audio_dim} and tokens of {reader.text_dim} dimensions; the published heads "
            f"take {AUDIO_DIM} and {TEXT_DIM}, of MuQ and RoBERTa"
        )
    content = _config(out.name, head, checkpoint, best, config, reader)
    with _writing_alone(out):
        clear_leftovers(out)
        earlier = _same_head(out, content)
        if earlier is None or best in bests_in(out):
            refuse_existing([out], overwrite=overwrite, kept=earlier is not None)
        model = build_head(config, AUDIO_DIM, TEXT_DIM)
        load_upstream_state(model, read_upstream_checkpoint(checkpoint), str(checkpoint))
        with atomic_folder(out, replace=earlier is not None or overwrite) as folder:
            if earlier is not None:
                shutil.copytree(out, folder, dirs_exist_ok=True, ignore=_predictions_by(best))
                content["imported"]["from"] = earlier["imported"]["from"] | content["imported"]["from"]
            left = {name: digest for name, digest in read_hashes(folder).items() if (folder / name).exists()}
            writer = RunWriter(folder, left)
            writer.write_config(content)
            writer.write_checkpoint(best, model.state_dict())
            writer.write_hashes()


@contextmanager
def _writing_alone(out: Path) -> Iterator[None]:
    """Let one process at a time add to a run; otherwise the checkpoint of another would be lost."""
    folder = real_path(out).with_name(f".{out.name}.importing")
    with locked(folder / "lock", f"{out}: is being written"):
        try:
            yield
        finally:
            shutil.rmtree(folder)


def _same_head(out: Path, content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the config of an imported run of the same head and features, if `out` is one."""
    if not (out / CONFIG).is_file():
        return None
    earlier = read_run_config(out)
    imported = earlier.get("imported")
    if not isinstance(imported, dict) or not isinstance(imported.get("from"), dict):
        return None
    same = all(earlier.get(key) == content[key] for key in _DECIDING) and imported["as"] == content["imported"]["as"]
    return earlier if same else None


def _predictions_by(best: str) -> Callable[[str, list[str]], set[str]]:
    """Leave out the predictions of the checkpoint that is replaced."""
    return shutil.ignore_patterns(predictions_path(Path(), "*", best).name)


def _config(
    name: str, head: str, checkpoint: Path, best: str, config: HeadConfig, reader: CacheReader | None
) -> dict[str, Any]:
    """Return the config of an imported run. The file does not contain what it was trained on."""
    return {
        "name": name,
        "seed": None,
        "head": config.model_dump(),
        "imported": {"as": head, "from": {best: str(checkpoint)}},
        "audio_dim": AUDIO_DIM,
        "text_dim": TEXT_DIM,
        "audio_layers": list(reader.layers) if reader else [],
        "layers_read": list(layers_to_read(config.layers, reader.layers)) if reader else [],
        "fingerprint": reader.fingerprint.digest if reader else "unknown",
        "fingerprint_fields": reader.fingerprint.fields if reader else None,
        "versions": versions(),
    }
