"""Made-up clips of the size that a real encoder gives, in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.cache.file_writer import write_file
from audiomos_cache.cache.format import CachedClip, CachedPrompt, Header, hash_rows

SPLIT = "train"
DIM = 1024
MOST_FRAMES = 750
DTYPE = np.dtype("<f2")
PROMPTS = [CachedPrompt(f"prompt {row}", np.ones((12, 768), DTYPE), np.ones(768, DTYPE)) for row in range(40)]
FRAME_BYTES = 8 * DTYPE.itemsize  # in a file of very many clips
NO_ROWS = hash_rows(np.empty(0, DTYPE))


@dataclass(slots=True)
class Sample:
    """Clips of 250 to 750 frames, and all that is recorded of them.

    Attributes:
        content: the frames of all clips, end to end.
        frames: of each clip, (1, T, DIM), a view of `content`.
    """

    clips: int
    header: Header = field(init=False)
    content: NDArray[Any] = field(init=False)
    frames: list[NDArray[Any]] = field(init=False)
    records: list[CachedClip] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        lengths = rng.integers(250, MOST_FRAMES + 1, self.clips)
        bits = rng.integers(0, 0x3C00, (int(lengths.sum()), DIM), np.uint16)  # 0 to 1 as float16
        self.content = bits.view(DTYPE)
        self.frames = [rows[None] for rows in np.split(self.content, np.cumsum(lengths)[:-1])]
        self.header = header(DIM, 768, self.clips)
        self.records = [record(index, hash_rows(rows), rows.shape[1]) for index, rows in enumerate(self.frames)]


def header(audio_dim: int, text_dim: int, clips: int) -> Header:
    """Return the header of a part."""
    fingerprint = Fingerprint.of({"audio_encoder": {"class": "MadeUp"}, "dtype": "float16"})
    return Header(SPLIT, fingerprint, audio_dim, text_dim, (0,), list_hash="0" * 32, list_length=clips)


def record(index: int, feature_hash: bytes, frames: int) -> CachedClip:
    """Return what is recorded of a made-up clip."""
    name, prompt = f"S{index % 37:03d}", f"P{index:07d}"
    return CachedClip(f"{name}_{prompt}", name, prompt, PROMPTS[index % len(PROMPTS)].text, 1.2, 4.4, frames / 25,
                      bytes(16), frames, frames, (feature_hash,), (NO_ROWS,), index)  # fmt: skip


def write_many_clips(path: Path, clips: int) -> None:
    """Write a finished file of clips of one frame each, as small as can be: nearly all of it is index."""
    frame = np.ones((1, 1, 8), DTYPE)
    feature_hash = hash_rows(frame)
    records = [record(index, feature_hash, 1) for index in range(clips)]
    whole = replace(header(8, 768, clips), complete=True, split_hash="0" * 32)
    write_file(path, whole, records, PROMPTS, _repeat(frame, clips))


def _repeat(frame: NDArray[Any], times: int) -> Iterator[NDArray[Any]]:
    return (frame for _ in range(times))
