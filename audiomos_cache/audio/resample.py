"""Resampling with torchaudio's windowed sinc filter, whichever rates are asked for."""

import math
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np

from audiomos_cache.errors import DataError
from audiomos_cache.torch_settings import full_precision, standard_thread

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 1_000_000  # music has no other; a damaged header, or kHz for Hz, may

LOWPASS_FILTER_WIDTH = 6  # zero crossings of the filter on each side
ROLLOFF = 0.99  # its cutoff, as a fraction of the lower Nyquist frequency
METHOD = "sinc_interp_hann"

_KERNEL_ENTRIES = 1 << 22  # 16 MiB; torchaudio's kernel grows with rate x rate / gcd^2


def check_rate(name: str, rate_hz: float) -> None:
    """Refuse a sample rate that no music has, before a resampler makes thousands of samples of each one.

    Args:
        name: of the clip, for the message.
        rate_hz: its sample rate.
    Raises:
        DataError: it is below 1 kHz or above 1 MHz.
    """
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        in_khz = LOWEST_RATE_HZ <= 1000 * rate_hz <= HIGHEST_RATE_HZ
        meant = f"; {rate_hz:.10g} kHz is {1000 * rate_hz:.10g}" if in_khz else ""
        expected = f"expected {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}"
        raise DataError(f"{name}: a sample rate of {rate_hz:.10g} Hz, {expected}{meant}")


def resample(samples: np.ndarray, rate_hz: int, new_rate_hz: int) -> np.ndarray:
    """Resample (n,) float32 to (ceil(n * new / old),) float32; safe to call from several threads."""
    if rate_hz == new_rate_hz:
        return samples
    old, new, reach = _ratio(rate_hz, new_rate_hz)
    if new * (old + 2 * reach) > _KERNEL_ENTRIES:
        return _resample_by_taps(samples, old, new, reach)
    import torch

    new_samples: np.ndarray = _resampler(old, new)(torch.from_numpy(samples)[None])[0].numpy()
    return new_samples


def resampler_on(device: Any, rate_hz: int, new_rate_hz: int) -> Any:
    """Return the function with which `resample` resamples, for (B, n) on a device of torch.

    Its result is as long as `resample` makes it. None: it would need a kernel too large; `resample` has another way.
    """
    old, new, reach = _ratio(rate_hz, new_rate_hz)
    return None if new * (old + 2 * reach) > _KERNEL_ENTRIES else _resampler(old, new, str(device))


def resampler_identity() -> dict[str, str | int | float]:
    """Return all that decides the samples that `decode` gives at another rate, for a fingerprint."""
    return {
        "name": "torchaudio.functional.resample",
        "version": version("torchaudio").split("+")[0],
        "lowpass_filter_width": LOWPASS_FILTER_WIDTH,
        "rolloff": ROLLOFF,
        "method": METHOD,
    }


def _ratio(rate_hz: int, new_rate_hz: int) -> tuple[int, int, int]:
    """Return the two rates over their greatest common divisor, and the filter's reach in old samples each side."""
    gcd = math.gcd(rate_hz, new_rate_hz)
    old, new = rate_hz // gcd, new_rate_hz // gcd
    return old, new, math.ceil(LOWPASS_FILTER_WIDTH * old / (min(old, new) * ROLLOFF))


def resampled_length(samples: int, rate_hz: int, new_rate_hz: int) -> int:
    """Return how many samples `resample` makes of so many."""
    return math.ceil(samples * new_rate_hz / rate_hz)


def samples_needed(count: int, rate_hz: int, new_rate_hz: int) -> int:
    """Return how many old samples decide the first `count` new ones."""
    old, new, reach = _ratio(rate_hz, new_rate_hz)
    return math.ceil(count / new) * old + reach  # the kernel goes in steps of `old` samples


@lru_cache(maxsize=8)
@standard_thread()
def _resampler(old: int, new: int, device: str = "cpu") -> Callable[[Any], Any]:
    """Return torchaudio's `functional.resample` as a function that keeps its kernel: the same bits, given the dtype.

    It computes the new length in the default dtype of torch, which is the caller's, and may be of half precision.
    """
    import torch
    from torch.nn import functional
    from torchaudio.transforms import Resample

    made = Resample(old, new, METHOD, LOWPASS_FILTER_WIDTH, ROLLOFF, dtype=torch.float32).to(device)

    def resampled(rows: Any) -> Any:
        padded = functional.pad(rows, (made.width, made.width + old))
        with full_precision():
            new_rows = functional.conv1d(padded[:, None], made.kernel, stride=old)
        new_rows = new_rows.transpose(1, 2).reshape(len(rows), -1)
        return new_rows[:, : resampled_length(rows.shape[1], old, new)]

    return resampled


def _resample_by_taps(samples: np.ndarray, old: int, new: int, reach: int) -> np.ndarray:
    """Apply torchaudio's filter only where it is not zero, for rates with hardly a common divisor.

    44,099 -> 24,000 Hz would make torchaudio build a kernel of 4 GB.
    """
    taps = np.arange(-reach, reach + 2)
    padded = np.pad(samples, (reach, reach + 2))
    resampled = np.empty(-(-len(samples) * new // old), np.float32)
    cutoff = min(old, new) * ROLLOFF / old
    step = max(1, (1 << 20) // len(taps))
    for start in range(0, len(resampled), step):
        centre, rest = np.divmod(np.arange(start, min(start + step, len(resampled))) * old, new)
        t = (taps - (rest / new)[:, None]) * cutoff  # (step, taps), in zero crossings
        t = t.clip(-LOWPASS_FILTER_WIDTH, LOWPASS_FILTER_WIDTH)
        kernel = np.sinc(t) * np.cos(t * math.pi / LOWPASS_FILTER_WIDTH / 2) ** 2 * cutoff
        resampled[start : start + step] = (kernel * padded[centre[:, None] + reach + taps]).sum(axis=1)
    return resampled
