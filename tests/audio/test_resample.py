import numpy as np
import pytest
import torch
import torchaudio

from audiomos_cache.audio import resample as resample_module
from audiomos_cache.audio.resample import check_rate, resample, resampler_identity
from audiomos_cache.errors import DataError

RATE = 24000


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(7).normal(0, 0.1, samples).astype(np.float32)


@pytest.mark.parametrize("rate", [11025, 16000, 22050, 44100, 48000])
def test_resample_is_torchaudios_bit_for_bit(rate: int) -> None:
    samples = noise(rate // 3)
    expected = torchaudio.functional.resample(torch.from_numpy(samples), rate, RATE).numpy()
    np.testing.assert_array_equal(resample(samples, rate, RATE), expected)


@pytest.mark.parametrize(("rate", "new"), [(16000, RATE), (44100, RATE), (1013, 1009), (1009, 1013)])
def test_the_filter_tap_by_tap_is_torchaudios(monkeypatch: pytest.MonkeyPatch, rate: int, new: int) -> None:
    samples = noise(rate)
    expected = torchaudio.functional.resample(torch.from_numpy(samples).double(), rate, new).numpy()
    monkeypatch.setattr(resample_module, "_KERNEL_ENTRIES", 0)
    resampled = resample(samples, rate, new)
    assert resampled.dtype == np.float32
    np.testing.assert_allclose(resampled, expected, atol=1e-6)


def test_identity_names_what_resample_uses() -> None:
    assert resampler_identity() == {
        "name": "torchaudio.functional.resample",
        "version": torchaudio.__version__.split("+")[0],
        "lowpass_filter_width": 6,
        "rolloff": 0.99,
        "method": "sinc_interp_hann",
    }


@pytest.mark.parametrize("rate", [1000, 8000, 44100.0, 1_000_000])
def test_rates_of_music(rate: float) -> None:
    check_rate("a.wav", rate)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (44, "a.wav: a sample rate of 44 Hz, expected 1000 to 1000000; 44 kHz is 44000"),
        (44.1, "a.wav: a sample rate of 44.1 Hz, expected 1000 to 1000000; 44.1 kHz is 44100"),
        (0, "a.wav: a sample rate of 0 Hz, expected 1000 to 1000000"),
        (1_000_001, "a.wav: a sample rate of 1000001 Hz, expected 1000 to 1000000"),
        (float("nan"), "a.wav: a sample rate of nan Hz, expected 1000 to 1000000"),
    ],
)
def test_rates_that_no_music_has(rate: float, message: str) -> None:
    with pytest.raises(DataError) as caught:
        check_rate("a.wav", rate)
    assert str(caught.value) == message
