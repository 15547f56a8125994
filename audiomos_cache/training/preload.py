"""Frames that are read once, before training: where they are held, and which are pooled first.

A head without trained layers before its pooling uses only the mean of a clip's frames and perhaps their standard
deviation, which no epoch changes. Two frames have the same: mean + deviation and mean - deviation. They stand
for the clip in every batch, so that neither the head, nor its weights, nor the training knows of it.
"""

import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.devices import available_ram
from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.progress import gigabytes
from audiomos_cache.training.frame_sources import ClipFrames, FramesInMemory, FramesOnDisk, FrameSource

Preload = Literal["auto", "ram", "cuda", "none"]
STAND_INS = 2  # frames that stand for a clip that is pooled first

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
        readers: of all clips that will be requested.
        layers: all layers that will be requested.
        device: where the heads are computed.
        preload: where the frames are held. "auto": on the GPU, or else in RAM, if they take less than half of what
            is free; "none": they are read for each batch.
        padding: whether the frames from the padding of the audio will be requested too.
    Raises:
        ConfigError: "cuda", and the heads are computed on another device. CacheError: a clip's features are damaged.
    """
    refuse_preload(preload, device)
    counts = [(reader.frames if padding else reader.valid_frames).sum() for reader in readers]
    row_bytes = readers[0].audio_dim * readers[0].dtype.itemsize * len(layers)
    size = int(sum(counts)) * row_bytes
    where = _choose(size, device) if preload == "auto" else preload
    shown = f"{size / 1e3:.0f} kB" if size < 1e6 else gigabytes(size)
    if where == "none":
        log.info("features: %s, read from disk for each batch", shown)
        return FramesOnDisk(device)
    log.info("features: %s %s", shown, {"cuda": "on the GPU", "ram": "in RAM"}[where])
    held_on = device if where == "cuda" else torch.device("cpu")
    return FramesInMemory(readers, layers, held_on, device, padding=padding)


def refuse_preload(preload: Preload, device: torch.device) -> None:
    """Raise ConfigError if frames would be held on a GPU for heads that are computed on another device."""
    if preload == "cuda" and device.type != "cuda":
        raise ConfigError(f"--preload cuda: heads are computed on {device.type} here; use ram, none or auto")


def _choose(size: int, device: torch.device) -> Preload:
    """Choose where `size` bytes of features are held."""
    if device.type == "cuda" and size < torch.cuda.mem_get_info(device)[0] / 2:
        return "cuda"
    return "ram" if size < available_ram() / 2 else "none"


def pools_first(config: HeadConfig) -> bool:
    """Return whether a head uses nothing of a clip's frames but their mean and standard deviation.

    That is not so if the frames are mixed first: with those of another clip, or with those of other layers, by trained
    weights. The mean of a mixture of layers is the mixture of their means; of deviations that is not so.
    """
    fixed = config.pooling.kind == "mean" or (config.pooling.kind == "mean_std" and config.layers != "weighted")
    alone = config.temporal.kind == "none" and config.text_audio.kind in ("concat", "none")
    return fixed and alone and config.compat == "none" and not config.training.feature_mixup


class PooledFrames(FramesInMemory):
    """Reads all frames of a cache's splits once, and keeps two instead of each clip's own: see `stand_ins`."""

    def counts(self, reader: CacheReader, *, padding: bool = False) -> NDArray[np.integer[Any]]:
        """Return how many frames each clip of a reader has in a batch, (clips,): two."""
        assert not padding, "heads that read padding are not pooled first"
        return np.broadcast_to(np.int64(STAND_INS), len(reader))

    def stored_dtype(self, reader: CacheReader) -> torch.dtype:
        """Return float32, whatever the cache holds: float16 has too few digits for a mean and a small deviation."""
        del reader
        return torch.float32

    def _read(self, clip: ClipFrames) -> None:
        frames = clip.reader.read_frames(clip.index, layer=clip.layer)
        clip.out.copy_(torch.from_numpy(stand_ins(frames)))


def stand_ins(sequence: NDArray[Any]) -> NDArray[np.float32]:
    """Return two rows with the mean and the (population) standard deviation of a sequence.

    Computed by one thread and in float64, so that nothing but the sequence decides a digit.

    Args:
        sequence: (T, D) float.
    Returns:
        (2, D). NaN where the sequence holds NaN or infinity, or is empty.
    """
    with np.errstate(all="ignore"):  # NaN in a batch is reported later, with the clip
        precise = sequence.astype(np.float64)
        mean = precise.sum(axis=0) / len(precise)
        precise -= mean
        deviation = np.sqrt(np.square(precise, out=precise).sum(axis=0) / len(precise))
        return np.stack([mean + deviation, mean - deviation]).astype(np.float32)


def open_pooled(readers: Sequence[CacheReader], layers: Sequence[int], device: torch.device) -> PooledFrames:
    """Pool the frames of some splits of a cache, and hold the result on the device of the heads.

    The result is so small that `--preload` does not apply to it.

    Args:
        readers, layers, device: as for `open_frames`.
    Raises:
        CacheError: a clip's features are damaged.
    """
    log.info("features: means and standard deviations of %d clips, pooled once", sum(map(len, readers)))
    return PooledFrames(readers, layers, device, device)
