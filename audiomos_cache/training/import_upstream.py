"""Making a run from a checkpoint of the published code."""

from pathlib import Path
from typing import Any

from audiomos_cache.cache import CacheReader, open_cache
from audiomos_cache.config import HeadConfig
from audiomos_cache.errors import ConfigError
from audiomos_cache.files import whole_folder
from audiomos_cache.heads import build_head
from audiomos_cache.heads.layers import layers_to_read
from audiomos_cache.heads.upstream import load_upstream_state, read_upstream_checkpoint
from audiomos_cache.presets import with_compat
from audiomos_cache.training.run import RunWriter, refuse_existing, versions

AUDIO_DIM, TEXT_DIM = 1024, 768  # of MuQ and RoBERTa


def import_upstream(
    checkpoint: Path, head: str, config: HeadConfig, out: Path, best: str, *, cache: Path | None, overwrite: bool
) -> None:
    """Write a run with the weights of the published code's `.pth` file, to be predicted with as that code does.

    Args:
        checkpoint: the file.
        head: name of the preset. The file cannot tell transformer-dist, transformer-onehot and decoupled-dist apart.
        config: of the head.
        out: the run folder to make.
        best: which of a run's checkpoints it becomes.
        cache: of the features that it belongs to, if that is to be remembered and checked.
        overwrite: replace a run.
    Raises:
        DataError: not a checkpoint of this head. OutputExistsError: `out` exists. CacheError: no such cache.
    """
    refuse_existing([out], overwrite=overwrite)
    config = with_compat(config, "upstream")
    reader = next(iter(open_cache(cache).values())) if cache else None
    if reader and (reader.audio_dim, reader.text_dim) != (AUDIO_DIM, TEXT_DIM):
        raise ConfigError(
            f"{cache}: frames of {reader.audio_dim} and tokens of {reader.text_dim} dimensions; the published heads "
            f"take {AUDIO_DIM} and {TEXT_DIM}, of MuQ and RoBERTa"
        )
    model = build_head(config, AUDIO_DIM, TEXT_DIM)
    load_upstream_state(model, read_upstream_checkpoint(checkpoint), str(checkpoint))
    with whole_folder(out, replace=overwrite) as folder:
        writer = RunWriter(folder)
        writer.write_config(_config(out.name, head, checkpoint, config, reader))
        writer.write_checkpoint(best, model.state_dict())


def _config(name: str, head: str, checkpoint: Path, config: HeadConfig, reader: CacheReader | None) -> dict[str, Any]:
    """Put together what an imported run knows of itself. What it was trained on, the file does not tell."""
    return {
        "name": name,
        "seed": None,
        "head": config.model_dump(),
        "imported": {"from": str(checkpoint), "as": head},
        "audio_dim": AUDIO_DIM,
        "text_dim": TEXT_DIM,
        "audio_layers": list(reader.layers) if reader else [],
        "layers_read": list(layers_to_read(config.layers, reader.layers)) if reader else [],
        "fingerprint": reader.fingerprint.digest if reader else "unknown",
        "fingerprint_fields": reader.fingerprint.fields if reader else None,
        "versions": versions(),
    }
