"""A clip in windows as long as the encoder takes, what is odd about it, and its score from those of its windows."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audiomos_cache.audio.decode import SILENT_PEAK, Audio, Channels, mixed_down, peak_of, read_channels
from audiomos_cache.audio.resample import resample, resampled_length
from audiomos_cache.bundle.calibration import Calibration
from audiomos_cache.errors import DataError
from audiomos_cache.scoring.results import Interval
from audiomos_cache.targets import Floats


@dataclass(frozen=True, slots=True)
class TargetScore:
    """What is said of a clip about one target.

    Attributes:
        score: from 1 to 5; None where nothing was asked.
        interval: None of a bundle that was not calibrated.
        over_windows: standard deviation of the windows' scores; None of a single window.
    """

    score: float | None = None
    interval: Interval | None = None
    over_windows: float | None = None


NO_SCORE = TargetScore()


def clip_score(scores: Floats, spreads: Floats, lengths: Sequence[int], calibration: Calibration | None) -> TargetScore:
    """Average the windows of a clip.

    The interval is that of the mixture of the windows' distributions, in which windows that disagree count too.

    Args:
        scores, spreads: (W,) of each window.
        lengths: of each, its weight.
        calibration: of the target; None: no interval.
    """
    weights = np.asarray(lengths, np.float64) / sum(lengths)
    score = float(weights @ scores)
    apart = float(weights @ (scores - score) ** 2)
    spread = math.sqrt(float(weights @ spreads**2) + apart)
    interval = calibration.interval(score, spread) if calibration else None
    return TargetScore(score, interval, math.sqrt(apart) if len(lengths) > 1 else None)


SHORTEST_S = 3.0  # below, a clip is hardly music
SHORTEST_REST_S = 1.0  # of a long clip, what is left after its last whole window
LONGER_S = 0.1  # than a window is worth a word: mp3 files of 30 s have some more
FULL_SCALE = 0.999
LOUDEST = 100.0  # no sound is so far beyond full scale; numbers on another scale are
CLIPPED_SHARE = 1e-4  # of the samples; a peak that touches full scale is no clipping
_NO_HASH = bytes(16)


@dataclass(frozen=True, slots=True)
class Sound:
    """A clip that is ready to be encoded.

    Attributes:
        windows: one, or of a clip that is longer than a window several, in order, at the encoder's rate.
        duration_s: of the whole clip.
        warnings: what is odd about it, a text each.
    """

    windows: tuple[Audio, ...]
    duration_s: float
    warnings: tuple[str, ...]


def read_sound(path: Path, sample_rate_hz: int, window_s: float) -> Sound:
    """Read a wav, flac, ogg or mp3 file, whole.

    Args:
        path: the file.
        sample_rate_hz: what the encoder expects.
        window_s: the longest that is encoded at once.
    Raises:
        DataError: see `audiomos_cache.audio.decode.decode`.
    """
    return sound_of(read_channels(path, None, sample_rate_hz), sample_rate_hz, window_s)


def channels_of(name: str, samples: Any, rate_hz: float | None) -> Channels:
    """Take a copy of a user's samples: who gives a stream of them may fill the same array again.

    Args:
        name: of the clip, for messages.
        samples: (n,) or (channels, n) of floats, a NumPy array or a tensor, full scale being -1 to 1.
        rate_hz: their sample rate.
    Raises:
        DataError: they are no such samples, none, or not finite; or there is no rate.
    """
    if isinstance(rate_hz, bool) or not isinstance(rate_hz, Real) or not rate_hz >= 1 or rate_hz % 1:
        raise DataError(f"{name}: an array at a sample rate of {rate_hz!r}; give sample_rate, a whole number of Hz")
    held = _array(name, samples)
    if held.ndim not in (1, 2) or (held.ndim == 2 and held.shape[0] > held.shape[1]):
        raise DataError(f"{name}: an array of shape {held.shape}, expected (samples,) or (channels, samples)")
    if not held.size:
        raise DataError(f"{name}: no samples, expected one or more")
    if bad := int(np.count_nonzero(~np.isfinite(held))):
        raise DataError(f"{name}: {bad} NaN or infinite samples, expected finite ones")
    if (peak := peak_of(held)) > LOUDEST:
        raise DataError(f"{name}: samples of up to {peak:.5g}, expected full scale to be -1 to 1; divide them")
    return Channels(np.atleast_2d(held).T, int(rate_hz), held.shape[-1], _NO_HASH)


def _array(name: str, samples: Any) -> NDArray[np.float32]:
    """Copy samples as float32."""
    try:
        if isinstance(samples, torch.Tensor):
            if not samples.is_floating_point():
                raise TypeError(f"a tensor of {samples.dtype}")
            return samples.detach().to("cpu", torch.float32, copy=True).numpy()
        held = np.asarray(samples)
        if held.dtype.kind != "f":
            raise TypeError(f"samples of {held.dtype}")
        with np.errstate(over="ignore"):
            return held.astype(np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: {reason}, expected floats from -1 to 1; divide int16 by 32768") from error


def sound_of(decoded: Channels, sample_rate_hz: int, window_s: float) -> Sound:
    """Cut what was decoded into windows, and look at it; see `read_sound`."""
    mono = mixed_down(decoded.samples)
    whole = resampled_length(len(mono), decoded.sample_rate_hz, sample_rate_hz)
    windows = _windows(mono, decoded, whole, sample_rate_hz, round(window_s * sample_rate_hz))
    warnings = tuple(_oddities(decoded, mono, len(windows), window_s))
    return Sound(windows, decoded.duration_s, warnings)


def _windows(mono: NDArray[np.float32], decoded: Channels, whole: int, rate_hz: int, size: int) -> tuple[Audio, ...]:
    """Cut (n,) samples, `whole` at the encoder's rate, into windows of `size`.

    A rest too short to be worth a window is left out, as an extraction leaves out all after the first window.
    """

    def audio(samples: NDArray[np.float32], own_rate_hz: int, length: int) -> Audio:
        return Audio(samples, own_rate_hz, length, length / rate_hz, decoded.file_hash, ())

    if whole <= size:  # resampled where that is done for an extraction, on a GPU if there is one
        return (audio(mono, decoded.sample_rate_hz, whole),)
    resampled = resample(mono, decoded.sample_rate_hz, rate_hz)
    rest = whole % size
    end = whole - (rest if rest < SHORTEST_REST_S * rate_hz else 0)
    pieces = (resampled[start : min(start + size, end)] for start in range(0, end, size))
    return tuple(audio(piece, rate_hz, len(piece)) for piece in pieces)


def _oddities(decoded: Channels, mono: NDArray[np.float32], windows: int, window_s: float) -> Iterator[str]:
    duration_s = decoded.duration_s
    if (share := clipped_share(decoded.samples)) > CLIPPED_SHARE:
        yield f"clipped: {share:.1%} of the samples are cut off at full scale"
    if (peak := peak_of(mono)) < SILENT_PEAK:
        yield f"silent: peak {peak:.1g}"
    if duration_s < SHORTEST_S:
        yield f"shorter than {SHORTEST_S:g} s: {duration_s:.2f} s"
    if duration_s > window_s + LONGER_S:
        how = f"scored in {windows} windows" if windows > 1 else f"its first {window_s:g} s are scored"
        yield f"longer than {window_s:g} s: {duration_s:.2f} s, {how}"


def clipped_share(samples: NDArray[np.float32]) -> float:
    """Return the share of (n, channels) samples that lie in a row of three or more at full scale."""
    loud = np.abs(samples) >= FULL_SCALE
    if len(loud) < 3 or not loud.any():
        return 0.0
    middle = loud[:-2] & loud[1:-1] & loud[2:]
    flat = np.zeros_like(loud)
    for shift in range(3):
        flat[shift : len(loud) - 2 + shift] |= middle
    return float(flat.mean())
