import numpy as np
import pytest
import torch

from audiomos_cache.encoders.lookup import load_audio_encoder, load_text_encoder


@pytest.fixture(scope="session")
def muq_tiny():
    return load_audio_encoder("muq-tiny")


@pytest.fixture(scope="session")
def roberta_tiny():
    return load_text_encoder("roberta-tiny")


@pytest.fixture(scope="session")
def noise():
    """Three different clips of one second, (3, 24000)."""
    return torch.from_numpy(np.random.default_rng(5).uniform(-0.5, 0.5, (3, 24_000)).astype(np.float32))
