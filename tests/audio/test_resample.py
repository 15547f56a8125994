import numpy as np
import pytest
import torch
import torchaudio

from audiomos_cache.audio import resample as resample_module
from audiomos_cache.audio.resample import resample, resampler_identity

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
