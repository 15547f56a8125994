"""Helpers of the tests of audio."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 24000


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(7).normal(0, 0.1, (samples, channels)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int, **kinds: object) -> Path:
    soundfile.write(path, samples, rate, **kinds)
    return path
