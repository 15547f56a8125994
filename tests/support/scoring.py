"""Helpers of the tests of scoring."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from audiomos_cache.bundle.bundle import Bundle, BundledHead, EncoderSource
from audiomos_cache.bundle.calibration import Calibration
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.fusion.averages import MeanFusion
from audiomos_cache.heads.model import build_head
from audiomos_cache.scoring.scorer import Scorer

HEADS = ("transformer-dist", "pooling-dist", "decoupled-dist")


PROMPTS = ("A slow piano ballad.", "Fast drums", "rain", "A lively jazz tune with a walking bass.", "Fast drums")


MakeScorer = Callable[..., Scorer]


def make_bundle(audio: AudioEncoder, text: TextEncoder, factor: float = 2.0, **options: Any) -> Bundle:
    """A bundle of untrained heads, whose last layers are scaled so that their predictions differ."""
    members = []
    for seed, name in enumerate(HEADS):
        torch.manual_seed(seed)
        head = build_head(name, audio.dim, text.dim).eval()
        with torch.no_grad():
            for target in (head.mi, head.ta):
                for parameter in target.parameters():
                    parameter.mul_(3)
        members.append(BundledHead(name, head, audio.layers))
    return Bundle(
        name="model",
        digest="0" * 32,
        fingerprint=ExtractionOptions(**options).input_spec(audio, text).fingerprint,
        audio_encoder=EncoderSource("muq-tiny", "seeded random weights", "none", "a" * 32),
        text_encoder=EncoderSource("roberta-tiny", "seeded random weights", "none", "b" * 32),
        members=tuple(members),
        fusion=MeanFusion(HEADS),
        calibrations={target: Calibration(factor, 100, 0.8, 1.0) for target in ("mi", "ta")},
    )


def music(seconds: float, rate: int = 16000, seed: int = 0, channels: int = 1) -> np.ndarray:
    """(n, channels) of noise that swells."""
    n = round(seconds * rate)
    noise = np.random.default_rng(seed).normal(0, 0.1, (n, channels))
    swell = 1 + np.sin(2 * np.pi * (0.3 + seed / 5) * np.arange(n) / rate)
    return np.asarray(noise * swell[:, None], np.float32)


def wav(path: Path, seconds: float, rate: int = 16000, seed: int = 0, channels: int = 1) -> Path:
    soundfile.write(path, music(seconds, rate, seed, channels), rate, subtype="FLOAT")
    return path
