"""What an extraction chooses for itself, without a GPU: by what it would be told of one."""

from dataclasses import dataclass, replace

import pytest
import torch

from audiomos_cache.encoders.tiny import load_muq_tiny
from audiomos_cache.extraction.options import (
    COMPILE_S,
    ExtractionOptions,
    batch_size_for,
    compile_for,
    precision_for,
    saved_seconds,
)
from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder

GB = 10**9
OPTIONS = ExtractionOptions()


@dataclass
class OnGpu(FakeAudioEncoder):
    """Says that it is on a GPU, where a second of audio takes 10 MB."""

    sample_rate_hz: int = 24_000

    @property
    def device(self):
        return torch.device("cuda")

    def working_bytes(self, samples):
        return samples * 10**7 // 24_000


@pytest.mark.parametrize(
    ("free", "seconds", "clips"),
    [
        (80 * GB, 30.0, 32),  # more would not be quicker
        (80 * GB, None, 32),
        (80 * GB, 5.0, 192),  # as much audio
        (3.75 * GB, 30.0, 10),  # 0.8 x 3.75 GB at 0.3 GB a clip
        (0.1 * GB, 30.0, 1),  # tried, and refused where it does not fit
        (80 * GB, 600.0, 1),
    ],
)
def test_batches_as_large_as_memory_allows_and_no_larger_than_helps(free, seconds, clips):
    assert batch_size_for(OnGpu(), seconds, lambda: int(free)) == clips


def test_on_a_cpu_no_gpu_is_asked():
    assert batch_size_for(FakeAudioEncoder(), 30.0, lambda: pytest.fail("asked")) == 4


@pytest.mark.parametrize(
    ("device", "dtype", "asked", "expected"),
    [
        ("cuda", "float16", None, "fp16"),
        ("cuda", "float32", None, "fp32"),  # those who store float32 want its digits
        ("cpu", "float16", None, "fp32"),
        ("cpu", "float16", "bf16", "bf16"),
        ("cuda", "float16", "fp32", "fp32"),
    ],
)
def test_precision(device, dtype, asked, expected):
    assert precision_for(device, dtype, asked) == expected


def test_precision_is_in_the_fingerprint_where_it_shows():
    def digest(precision, dtype="float16"):
        options = replace(OPTIONS, dtype=dtype)
        return options.input_spec(FakeAudioEncoder(precision=precision), FakeTextEncoder()).fingerprint.digest

    assert digest("fp16") == digest("fp32") != digest("bf16")
    assert len({digest(precision, "float32") for precision in ("fp16", "bf16", "fp32")}) == 3


def test_compiling_pays_from_a_number_of_clips_on():
    few = 2748  # MusicEval's
    assert saved_seconds(few, OPTIONS) < COMPILE_S < saved_seconds(200_000, OPTIONS)
    assert saved_seconds(200_000, replace(OPTIONS, pad_to_s=1.0)) < COMPILE_S
    assert saved_seconds(200_000, replace(OPTIONS, pad_to_s=None)) == 0


class Compiled:
    """Stands in for `MuQEncoder.compile`."""

    def __init__(self, monkeypatch, device="cuda"):
        self.asked = []
        self.encoder = load_muq_tiny(precision="fp16")
        self.encoder.device = torch.device(device)
        monkeypatch.setattr(self.encoder, "compile", lambda *shape: self.asked.append(shape) or COMPILE_S)


@pytest.mark.parametrize(
    ("how", "clips", "options", "device", "compiled"),
    [
        ("auto", 200_000, OPTIONS, "cuda", True),
        ("auto", 2000, OPTIONS, "cuda", False),
        ("auto", 200_000, replace(OPTIONS, pad_to_s=None), "cuda", False),
        ("auto", 200_000, OPTIONS, "cpu", False),
        ("on", 2000, OPTIONS, "cuda", True),
        ("on", 0, OPTIONS, "cuda", False),
        ("off", 200_000, OPTIONS, "cuda", False),
    ],
)
def test_when_the_encoder_is_compiled(monkeypatch, how, clips, options, device, compiled):
    stand_in = Compiled(monkeypatch, device)
    took = compile_for(clips, stand_in.encoder, options, how)
    assert stand_in.asked == ([(4, 720_000)] if compiled else [])
    assert took == (COMPILE_S if compiled else None)


def test_other_encoders_are_not_compiled():
    assert compile_for(10**6, OnGpu(), OPTIONS, "on") is None
