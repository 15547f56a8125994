"""MuQ and RoBERTa of full size with random weights, as folders that `extract` loads, and noise to encode.

What an encoder costs does not depend on its weights.
"""

import csv
import json
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from audiomos_cache.encoders.muq import build_muq
from audiomos_cache.encoders.muq_weights import RELEASED_CONFIG
from audiomos_cache.encoders.text import HuggingFaceTextEncoder
from audiomos_cache.encoders.tiny import _byte_tokenizer

SAMPLE_RATE_HZ = 16_000
SYSTEMS, PROMPTS = 31, 384  # MusicEval's

FULL_MUQ_CONFIG: dict[str, Any] = RELEASED_CONFIG


def write_muq(folder: Path) -> Path:
    """Write a MuQ of full size with random weights."""
    folder.mkdir(parents=True)
    model = build_muq(FULL_MUQ_CONFIG)
    save_file({name: each.contiguous() for name, each in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(FULL_MUQ_CONFIG))
    return folder


def random_roberta(device: str) -> HuggingFaceTextEncoder:
    """Build a RoBERTa-base with random weights, which reads bytes."""
    return HuggingFaceTextEncoder(
        _roberta(), _byte_tokenizer(), name="roberta", source="random", revision="none", device=device, untrained=True
    )


def write_roberta(folder: Path) -> Path:
    """Write such a RoBERTa."""
    _roberta().save_pretrained(folder)
    _byte_tokenizer().save_pretrained(folder)
    return folder


def _roberta() -> Any:
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(vocab_size=50_265, max_position_embeddings=514, type_vocab_size=1,
                           bos_token_id=0, pad_token_id=1, eos_token_id=2)  # fmt: skip
    return RobertaModel(config, add_pooling_layer=False)


def write_noise(folder: Path, splits: dict[str, int], seconds: float) -> Path:
    """Write clips of noise, 16 kHz mono, and a manifest of them, with made-up labels; returns the manifest."""
    (folder / "wav").mkdir(parents=True)
    rng = np.random.default_rng(0)
    noise = rng.integers(-8000, 8000, int(seconds * SAMPLE_RATE_HZ), np.int16)
    rows = []
    for split, clips in splits.items():
        for i in range(clips):
            system = f"S{i % SYSTEMS:03d}"
            clip_id = f"{system}_{split}{i:05d}"
            prompt = f"a made-up prompt, number {i % PROMPTS}"
            mi, ta = rng.uniform(1, 5, 2).round(1).tolist()
            rows.append([f"wav/{clip_id}.wav", prompt, clip_id, system, split, mi, ta])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda row: _write(folder / rows[row][0], np.roll(noise, 17 * row)), range(len(rows))))
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([["path", "prompt", "id", "system", "split", "mi", "ta"], *rows])
    return manifest


def _write(path: Path, samples: np.ndarray[Any, Any]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
