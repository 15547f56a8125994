"""Real small encoders, heads with random weights, and music that is noise: scores can be worked out another way."""

from pathlib import Path
from typing import Any

import pytest

from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.encoders.lookup import load_audio_encoder, load_text_encoder
from audiomos_cache.scoring.scorer import Scorer
from tests.support.scoring import MakeScorer, make_bundle, wav


@pytest.fixture(scope="session")
def audio() -> AudioEncoder:
    return load_audio_encoder("muq-tiny")


@pytest.fixture(scope="session")
def text() -> TextEncoder:
    return load_text_encoder("roberta-tiny")


@pytest.fixture(scope="session")
def make_scorer(audio: AudioEncoder, text: TextEncoder) -> MakeScorer:
    """Make a scorer of heads with random weights; options are those of the extraction they belong to."""

    def make(*, batch_size: int | None = None, factor: float = 2.0, **options: Any) -> Scorer:
        bundle = make_bundle(audio, text, factor, **options)
        return Scorer(bundle, audio_encoder=audio, text_encoder=text, batch_size=batch_size)

    return make


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five clips of 3 to 4.5 s, two of one length, of several rates and channel counts."""
    folder = tmp_path_factory.mktemp("clips")
    seconds, rates, channels = (3.0, 4.5, 3.3, 4.5, 3.7), (16000, 44100, 24000, 48000, 22050), (1, 2, 1, 1, 2)
    made = zip(seconds, rates, channels, strict=True)
    return [wav(folder / f"clip{i}.wav", s, rate, i, count) for i, (s, rate, count) in enumerate(made)]
