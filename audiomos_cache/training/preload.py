"""Where the frames are held while heads are trained."""

import logging
from collections.abc import Sequence
from typing import Literal

import torch

from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.devices import available_ram
from audiomos_cache.errors import ConfigError
from audiomos_cache.training.frame_sources import FramesInMemory, FramesOnDisk, FrameSource
from audiomos_cache.training.pooled_statistics import PooledFrames

Preload = Literal["auto", "ram", "cuda", "none"]

log = logging.getLogger(__name__)


def open_frames(
    readers: Sequence[CacheReader],
    layers: Sequence[int],
    device: torch.device,
    preload: Preload,
    *,
    padding: bool = False,
) -> FrameSource:
    """Open the frames of some splits of a cache, in RAM, on the GPU or on disk, and log which it is.

    Args:
        readers: of all clips that will be asked for.
        layers: all layers that will be asked for.
        device: where the heads are computed.
        preload: where the frames are held. "auto": on the GPU, or else in RAM, where they take less than half of what
            is free; "none": they are not.
        padding: whether the frames from the padding of the audio will be asked for too.
    Raises:
        ConfigError: "cuda", and the heads are computed elsewhere. CacheError: a clip's features are damaged.
    """
    refuse_preload(preload, device)
    counts = [(reader.frames if padding else reader.valid_frames).sum() for reader in readers]
    row_bytes = readers[0].audio_dim * readers[0].dtype.itemsize * len(layers)
    size = int(sum(counts)) * row_bytes
    where = _choose(size, device) if preload == "auto" else preload
    shown = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
    if where == "none":
        log.info("features: %s, read from disk for each batch", shown)
        return FramesOnDisk(device)
    log.info("features: %s %s", shown, {"cuda": "on the GPU", "ram": "in RAM"}[where])
    held_on = device if where == "cuda" else torch.device("cpu")
    return FramesInMemory(readers, layers, held_on, device, padding=padding)


def open_pooled(readers: Sequence[CacheReader], layers: Sequence[int], device: torch.device) -> PooledFrames:
    """Pool the frames of some splits of a cache, and hold what comes of it where the heads are computed.

    That is so little that `--preload` does not say where.

    Args:
        readers, layers, device: as for `open_frames`.
    Raises:
        CacheError: a clip's features are damaged.
    """
    log.info("features: means and standard deviations of %d clips, pooled once", sum(map(len, readers)))
    return PooledFrames(readers, layers, device, device)


def refuse_preload(preload: Preload, device: torch.device) -> None:
    """Raise ConfigError where frames would be held on a GPU for heads that are computed elsewhere."""
    if preload == "cuda" and device.type != "cuda":
        raise ConfigError(f"--preload cuda: heads are computed on {device.type} here; use ram, none or auto")


def _choose(size: int, device: torch.device) -> Preload:
    """Choose where `size` bytes of features are held."""
    if device.type == "cuda" and size < torch.cuda.mem_get_info(device)[0] / 2:
        return "cuda"
    return "ram" if size < available_ram() / 2 else "none"
