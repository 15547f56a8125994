"""Real small encoders, heads with random weights, and music that is noise: scores can be worked out another way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audiomos_cache.bundle.calibration import Calibration
from audiomos_cache.bundle.load import Bundle, BundledHead, EncoderSource
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.encoders.lookup import load_audio_encoder, load_text_encoder
from audiomos_cache.extraction.options import ExtractionOptions, fingerprint_of
from audiomos_cache.fusion.averages import MeanFusion
from audiomos_cache.heads.model import build_head
from audiomos_cache.scoring.scorer import Scorer

HEADS = ("transformer-dist", "pooling-dist", "decoupled-dist")
PROMPTS = ("A slow piano ballad.", "Fast drums", "rain", "A lively jazz tune with a walking bass.", "Fast drums")


@pytest.fixture(scope="session")
def audio() -> AudioEncoder:
    return load_audio_encoder("muq-tiny")


@pytest.fixture(scope="session")
def text() -> TextEncoder:
    return load_text_encoder("roberta-tiny")


MakeScorer = Callable[..., Scorer]


@pytest.fixture(scope="session")
def make_scorer(audio: AudioEncoder, text: TextEncoder) -> MakeScorer:
    """Make a scorer of heads with random weights; options are those of the extraction they belong to."""

    def make(*, batch_size: int | None = None, factor: float = 2.0, **options: Any) -> Scorer:
        return Scorer(make_bundle(audio, text, factor, **options), audio, text, batch_size)

    return make


def make_bundle(audio: AudioEncoder, text: TextEncoder, factor: float = 2.0, **options: Any) -> Bundle:
    """A bundle of heads that nothing was learned by; their last layers are made to say different things."""
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
        fingerprint=fingerprint_of(audio, text, ExtractionOptions(**options)),
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
    return (noise * swell[:, None]).astype(np.float32)


def wav(path: Path, seconds: float, rate: int = 16000, seed: int = 0, channels: int = 1) -> Path:
    soundfile.write(path, music(seconds, rate, seed, channels), rate, subtype="FLOAT")
    return path


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five clips of 3 to 4.5 s, two of one length, of several rates and channel counts."""
    folder = tmp_path_factory.mktemp("clips")
    seconds, rates, channels = (3.0, 4.5, 3.3, 4.5, 3.7), (16000, 44100, 24000, 48000, 22050), (1, 2, 1, 1, 2)
    made = zip(seconds, rates, channels, strict=True)
    return [wav(folder / f"clip{i}.wav", s, rate, i, count) for i, (s, rate, count) in enumerate(made)]
