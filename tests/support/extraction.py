"""Helpers of the tests of extraction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from torch import Tensor

from audiomos_cache.dataset.clip import Clip
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.extraction.extract_split import extract_split
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.extraction.summary import SplitSummary
from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder

PROMPTS = ("slow organ", "a fast flute", "sad guitar", "happy synth drums")


PAD = ExtractionOptions(pad_to_s=1.0, batch_size=3)


OWN_LENGTH = ExtractionOptions(pad_to_s=None, batch_size=3)


BOTH = pytest.mark.parametrize("options", [PAD, OWN_LENGTH], ids=["pad", "own length"])


@dataclass
class LoggingEncoder(FakeAudioEncoder):
    """Keeps the batches that it was given, and raises in place of one."""

    batches: list[np.ndarray] = field(default_factory=list)
    fails_at: int | None = None
    failure: type[BaseException] = KeyboardInterrupt

    def encode(self, waveforms: Tensor) -> Tensor:
        if len(self.batches) == self.fails_at:
            raise self.failure
        self.batches.append(waveforms.numpy().copy())
        return super().encode(waveforms)


def wave_of(number: int, frames: int) -> NDArray[np.float32]:
    """So many blocks of 100 samples with the values number/16, (number + 1)/16, ..."""
    return np.repeat((number + np.arange(frames)) / 16, 100).astype(np.float32)


def write_wav(path: Path, samples: NDArray[np.float32], rate: int = 1000) -> None:
    soundfile.write(path, samples, rate, subtype="FLOAT")


def make_clips(folder: Path, count: int = 10) -> tuple[Clip, ...]:
    """Clips of 3, 5, 7, 3, ... frames, at the fake encoder's rate, in an order that is not that of their names."""
    (folder / "wav").mkdir(parents=True)
    clips = []
    for i in range(count):
        clip_id = f"S{i % 4:03d}_P{count - i:03d}"
        path = folder / "wav" / f"{clip_id}.wav"
        write_wav(path, wave_of(i, 3 + 2 * (i % 3)))
        prompt = PROMPTS[i % 4] if i != 5 else PROMPTS[0]
        mi, ta = (None, None) if i == 2 else (1 + i / 4, 4.5)
        clips.append(Clip(clip_id, path, f"S{i % 4:03d}", f"P{count - i:03d}", prompt, "train", mi, ta))
    return tuple(clips)


def extract(
    clips: Sequence[Clip],
    cache: Path,
    options: ExtractionOptions = PAD,
    audio: AudioEncoder | None = None,
    text: TextEncoder | None = None,
    **others: Any,
) -> SplitSummary:
    return extract_split(clips, cache, audio or LoggingEncoder(), text or FakeTextEncoder(), options, **others)


def clean_bytes(clips: Sequence[Clip], folder: Path, options: ExtractionOptions = PAD) -> bytes:
    extract(clips, folder, options)
    return (folder / "train.h5").read_bytes()
