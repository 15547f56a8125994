"""Decode one audio file: mono, float32, resampled and cut to what an encoder takes."""

import os
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import xxhash

from audiomos_cache.audio.ffmpeg import declared_length_s, survey
from audiomos_cache.audio.resample import resample, resampled_length
from audiomos_cache.audio.samples import Seekable, read_samples
from audiomos_cache.audio.source import AudioSource, read_source
from audiomos_cache.errors import DataError

SILENT_PEAK = 1e-4
SHORT_S = 0.1


@dataclass(frozen=True, slots=True)
class Audio:
    """A decoded clip, or a window of one.

    Attributes:
        samples: (n,) float32, mono; or (n, channels) as they were decoded. Finite, n > 0.
        sample_rate_hz: the rate of `samples`.
        length: how many samples it has at the requested rate.
        duration_s: of the whole file, before any cut.
        file_hash: xxh3_128 of the file's bytes, 16 bytes; zeros where there is no file.
        warnings: a line each for what is odd but can be used.
    """

    samples: np.ndarray
    sample_rate_hz: int
    length: int
    duration_s: float
    file_hash: bytes = bytes(16)
    warnings: tuple[str, ...] = ()


def decode(source: AudioSource, sample_rate_hz: int, max_seconds: float) -> Audio:
    """Read an audio file of any rate from 1 kHz, channel count, and kind of `CONTAINERS`; its name is not used.

    Args:
        source: the file, read once.
        sample_rate_hz: the rate of the returned samples.
        max_seconds: samples beyond are cut; only what is needed of a long file is decoded.

    Raises:
        DataError: the file is missing, empty, truncated, damaged, not audio, or holds no samples, non-finite ones, or
            some on another scale than -1 to 1; or its rate is out of bounds.
    """
    return resampled(read_audio(source, sample_rate_hz, max_seconds), sample_rate_hz)


def read_audio(source: AudioSource, sample_rate_hz: int, max_seconds: float) -> Audio:
    """Do all that `decode` does but resample: return the samples that it needs, at the file's own rate."""
    most = round(max_seconds * sample_rate_hz)
    decoded = read_channels(source, most, sample_rate_hz)
    mono, duration_s = mixed_down(decoded.samples), decoded.duration_s
    warnings = list(decoded.warnings)
    if silence := silence_of(decoded.samples, mono):
        warnings.append(f"{silence}, expected music; check the file")
    if duration_s < SHORT_S:
        warnings.append(f"{duration_s:.3f} s long, expected {SHORT_S} s or more; check the file")
    if decoded.length > most:
        warnings.append(f"{duration_s:.2f} s long, expected {max_seconds:g} s or less; the rest is cut")
    length = min(resampled_length(len(mono), decoded.sample_rate_hz, sample_rate_hz), most)
    named = tuple(f"{source}: {warning}" for warning in warnings)
    return replace(decoded, samples=mono, length=length, warnings=named)


def read_channels(source: AudioSource, most: int | None, new_rate_hz: int) -> Audio:
    """Decode a file, or of a long one only what the first `most` samples at the new rate need.

    Args:
        source: the file, read once.
        most: None: the whole file, of at most `audio.samples.MOST_SAMPLES`.
        new_rate_hz: the rate that it will be resampled to.

    Returns:
        (n, channels) samples at the file's own rate; `length` and `duration_s` are those of the whole file.

    Raises:
        DataError: see `decode`; or it is too long to be read whole.
    """
    content = read_source(source)
    samples, rate, frames, warnings = read_samples(str(source), content, most, new_rate_hz)
    length = resampled_length(frames, rate, new_rate_hz)
    return Audio(samples, rate, length, frames / rate, xxhash.xxh3_128_digest(content), warnings)


def silence_of(samples: np.ndarray, mono: np.ndarray) -> str | None:
    """Return what is silent about a clip, apart from a constant offset (DC), which nobody hears; None: nothing.

    Args:
        samples: (n, channels), as decoded.
        mono: (n,), their mixdown, which is what the encoder hears.
    """
    peak = np.ptp(mono) / 2
    if peak >= SILENT_PEAK:
        return None
    loudest = np.ptp(samples, axis=0).max() / 2
    if loudest >= SILENT_PEAK:
        return f"silent as mono, peak {peak:.1g}: its channels, peak {loudest:.1g}, cancel each other"
    constant = f", all samples about {mono[0]:.2g}" if abs(mono[0]) >= SILENT_PEAK else ""
    return f"silent, peak {peak:.1g}{constant}"


def mixed_down(samples: np.ndarray) -> np.ndarray:
    """Turn (n, channels) into the mean of its channels, (n,) float32."""
    one = samples.shape[1] == 1
    return samples[:, 0] if one else samples.mean(axis=1, dtype=np.float64).astype(np.float32)


def resampled(audio: Audio, sample_rate_hz: int) -> Audio:
    """Resample what `read_audio` returned to the requested rate."""
    samples = resample(audio.samples, audio.sample_rate_hz, sample_rate_hz)[: audio.length]
    return replace(audio, samples=samples, sample_rate_hz=sample_rate_hz)


def decoded_length(source: AudioSource, sample_rate_hz: int, max_seconds: float) -> int:
    """Return how many samples `decode` will give, from the file's header alone; 0 where the header cannot be read."""
    try:
        if isinstance(source, Path) and not source.is_file():  # a pipe would block
            return 0
        with _opened(source) as file:
            is_mp3 = (start := file.read(3))[:2] >= b"\xff\xe0" or start == b"ID3"
            file.seek(0)
            if is_mp3:  # libsndfile reads all of it, and tells the terminal what follows it
                found = survey(str(source), file.read())
                whole = resampled_length(found.samples, found.sample_rate_hz, sample_rate_hz)
            else:
                whole = _length_by_header(file, sample_rate_hz)
    except (OSError, DataError):
        return 0
    return min(whole, round(max_seconds * sample_rate_hz))


def _length_by_header(file: BinaryIO, sample_rate_hz: int) -> int:
    try:
        info = soundfile.info(Seekable(file))
        return resampled_length(info.frames, info.samplerate, sample_rate_hz)
    except soundfile.LibsndfileError:
        file.seek(0)
        return round(declared_length_s(file) * sample_rate_hz)


def _opened(source: AudioSource) -> BinaryIO:
    """Open a source; libsndfile would judge a file by its name, if it knew that."""
    if isinstance(source, Path):
        return os.fdopen(os.open(source, os.O_RDONLY | os.O_CLOEXEC), "rb")
    return BytesIO(source.read_bytes())


def fit_length(samples: np.ndarray, length: int) -> np.ndarray:
    """Pad (n,) with zeros at the end, or cut it, to (length,)."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))
