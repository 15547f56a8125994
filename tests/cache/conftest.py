from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import xxhash

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.file_writer import write_file
from audiomos_cache.cache.format import CachedClip, CachedPrompt, Header

MELODY = "ein Stück für Flöte, 'schnell', 90 BPM 🎵"


@dataclass
class Sample:
    """Content for a cache file, with hashes that are not computed by our code."""

    header: Header
    prompts: list[CachedPrompt]
    clips: list[CachedClip] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)

    def add(self, clip_id, frames, valid, prompt=MELODY, **others):
        """Add a clip of so many random frames in each layer; those from `valid` on are of padding."""
        rng = np.random.default_rng(len(self.clips))
        layers = [rng.normal(size=(frames, self.header.audio_dim)) for _ in self.header.layers]
        rows = np.stack(layers).astype(self.header.dtype)
        hashes = [
            tuple(xxhash.xxh3_128_digest(layer.tobytes()) for layer in part)
            for part in (rows[:, :valid], rows[:, valid:])
        ]
        record = {"system": "S001", "prompt_id": "P001", "mi": 1.2, "ta": 4.4, "duration_s": 0.3} | others
        record = {"position": len(self.clips)} | record
        audio_hash = xxhash.xxh3_128_digest(clip_id.encode())
        self.clips.append(CachedClip(clip_id, prompt=prompt, audio_hash=audio_hash, frames=frames, valid_frames=valid,
                                     feature_hash=hashes[0], padding_hash=hashes[1], **record))  # fmt: skip
        self.frames.append(rows)

    def with_layers(self, *layers):
        """Make the same clips again, with frames of other layers than the one."""
        clips, self.clips, self.frames = self.clips, [], []
        self.header = replace(self.header, layers=layers)
        for clip in clips:
            labels = {name: getattr(clip, name) for name in ("prompt", "position", "system", "prompt_id", "mi", "ta")}
            self.add(clip.id, clip.frames, clip.valid_frames, duration_s=clip.duration_s, **labels)
        return self

    def write(self, path: Path) -> Path:
        write_file(path, self.header, self.clips, self.prompts, self.frames)
        return path


def content_of(path):
    """All that our reader gives of a file, as plain values that compare equal byte for byte, NaN too."""
    file = CacheFile(path)
    return (
        repr(file.header),
        [repr(file.clip(index)) for index in range(len(file))],
        [
            file.read_frames(index, layer=layer, padding=True).tobytes()
            for index in range(len(file))
            for layer in file.header.layers
        ],
        [(p.text, p.tokens.tobytes(), p.pad_vector.tobytes()) for p in map(file.read_prompt, range(len(file.prompts)))],
    )


@pytest.fixture(name="content_of")
def give_content_of():
    return content_of


@pytest.fixture
def sample() -> Sample:
    """Two prompts and three clips: padded and unlabelled, of one frame, and unpadded with an odd id."""
    rng = np.random.default_rng(100)
    fingerprint = Fingerprint.of({"audio_encoder": {"class": "Fake", "layer": -1}, "dtype": "float16"})
    provenance = {"audio_encoder": {"source": "none", "untrained": True}}
    skipped = (("S009_P001", "S009_P001.wav: no such file"), ("ü", "leer"))
    header = Header("train", fingerprint, 3, 2, (12,), provenance, skipped, "0" * 32, 5, complete=True)
    prompts = [
        CachedPrompt(text, rng.normal(size=(length, 2)).astype("f2"), rng.normal(size=2).astype("f2"))
        for text, length in ((MELODY, 3), ("B", 1))
    ]
    sample = Sample(header, prompts)
    sample.add("audiomos2025-track1-S001_P001", 5, 3, mi=float("nan"), ta=float("nan"))
    sample.add("S002_P099", 1, 1, prompt_id="P099", system="S002", position=2)
    sample.add("clip é", 4, 4, prompt="B", position=3, prompt_id="clip é", system="Ω", mi=1.0, ta=5.0, duration_s=1 / 3)
    return sample


@pytest.fixture
def path(sample, tmp_path) -> Path:
    """The sample as a file."""
    return sample.write(tmp_path / "train.h5")
