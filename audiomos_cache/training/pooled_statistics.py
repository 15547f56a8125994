"""Frames that are pooled once, for heads that learn nothing before they pool.

All that such a head sees of a clip are the mean of its frames and perhaps their standard deviation, which no epoch
changes. Two frames have the same: mean + deviation and mean - deviation. They stand for the clip in every batch, so
that neither the head, nor its weights, nor the training knows of it.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.training.frame_sources import ClipFrames, FramesInMemory

STAND_INS = 2


def pools_first(config: HeadConfig) -> bool:
    """Say whether a head sees nothing of a clip's frames but their mean and standard deviation.

    Not where they are mixed before: with those of another clip, or with those of other layers, by shares that are
    learned. The mean of a mixture of layers is the mixture of their means; of deviations that is not so.
    """
    fixed = config.pooling.kind == "mean" or (config.pooling.kind == "mean_std" and config.layers != "weighted")
    alone = config.temporal.kind == "none" and config.text_audio.kind in ("concat", "none")
    return fixed and alone and config.compat == "none" and not config.training.feature_mixup


class PooledFrames(FramesInMemory):
    """Reads all frames of a cache's splits once, and keeps two in the place of each clip's: see `stand_ins`."""

    def counts(self, reader: CacheReader, *, padding: bool = False) -> NDArray[np.integer[Any]]:
        """Return how many frames each clip of a reader has in a batch, (clips,): two."""
        assert not padding, "what looks at padding is not pooled first"
        return np.broadcast_to(np.int64(STAND_INS), len(reader))

    def stored_dtype(self, reader: CacheReader) -> torch.dtype:
        """Return float32, whatever the cache holds: float16 has too few digits for a small deviation beside a mean."""
        del reader
        return torch.float32

    def _read(self, wanted: ClipFrames) -> None:
        frames = wanted.reader.read_frames(wanted.index, layer=wanted.layer)
        wanted.out.copy_(torch.from_numpy(stand_ins(frames)))


def stand_ins(sequence: NDArray[Any]) -> NDArray[np.float32]:
    """Make two positions with the mean and the (population) standard deviation of a sequence.

    Computed by one thread and in float64, so that nothing but the sequence decides a digit.

    Args:
        sequence: (T, D) float.
    Returns:
        (2, D). NaN where the sequence holds NaN or infinity, or is empty.
    """
    with np.errstate(all="ignore"):  # who meets NaN in a batch names the clip
        precise = sequence.astype(np.float64)
        mean = precise.sum(axis=0) / len(precise)
        precise -= mean
        deviation = np.sqrt(np.square(precise, out=precise).sum(axis=0) / len(precise))
        return np.stack([mean + deviation, mean - deviation]).astype(np.float32)
