"""A cache of random features of the size that the real encoders give, written at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.cache.file_writer import write_file
from audiomos_cache.cache.format import CachedClip, CachedPrompt, Header, hash_rows

DTYPE = np.dtype("<f2")
TOKENS, PROMPTS, SYSTEMS = 30, 384, 31
DIFFERENT = 64  # clips; the others repeat them under other labels


def write_noise_cache(
    folder: Path, splits: dict[str, int], frames: int, audio_dim: int = 1024, text_dim: int = 768
) -> Path:
    """Write a cache of so many labelled clips in each split, all of `frames` frames."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pool = [rng.standard_normal((1, frames, audio_dim), np.float32).astype(DTYPE) for _ in range(DIFFERENT)]
    hashes = [hash_rows(each[0]) for each in pool]
    prompts = [
        CachedPrompt(f"prompt {row}", rng.standard_normal((4 + row % (TOKENS - 3), text_dim)).astype(DTYPE),
                     np.zeros(text_dim, DTYPE))
        for row in range(PROMPTS)
    ]  # fmt: skip
    fingerprint = Fingerprint.of({"audio_encoder": {"class": "Noise", "dim": audio_dim}, "dtype": "float16"})
    for split, clips in splits.items():
        scores = rng.uniform(1, 5, (clips, 2)).round(1)
        records = [
            CachedClip(f"S{i % SYSTEMS:03d}_{split}{i:05d}", f"S{i % SYSTEMS:03d}", f"P{i % PROMPTS}",
                       f"prompt {i % PROMPTS}", mi, ta, frames / 25, bytes(16), frames, frames,
                       (hashes[i % DIFFERENT],), (hash_rows(np.empty(0, DTYPE)),), i)
            for i, (mi, ta) in enumerate(scores.tolist())
        ]  # fmt: skip
        used = {record.prompt for record in records}
        header = Header(split, fingerprint, audio_dim, text_dim, (0,), list_hash="0" * 32, list_length=clips)
        write_file(
            folder / f"{split}.h5",
            replace(header, complete=True, split_hash="0" * 32),
            records,
            [prompt for prompt in prompts if prompt.text in used],
            (pool[i % DIFFERENT] for i in range(clips)),
        )
    return folder
