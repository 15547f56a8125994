"""Decode one audio file: mono, float32, resampled and cut to what an encoder takes."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
import xxhash

from audiomos_cache.errors import DataError

LOWPASS_FILTER_WIDTH = 6  # zero crossings of the filter on each side
ROLLOFF = 0.99  # its cutoff, as a fraction of the lower Nyquist frequency
METHOD = "sinc_interp_hann"

SILENT_PEAK = 1e-4
SHORT_S = 0.1

_FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
_STREAMED_SIZE = 0x7FFFF000  # what writers to a pipe promise, who cannot know: this or more
_UNKNOWN_FRAMES = 1 << 62  # libsndfile's count for a header without a length is above this
_TAG_BYTES = 4096  # what may follow the last frame of an MP3
_KERNEL_ENTRIES = 1 << 22  # 16 MiB; torchaudio's kernel grows with rate x rate / gcd^2


@dataclass(frozen=True)
class Audio:
    """A decoded clip.

    Attributes:
        samples: (n,) float32, mono, at `sample_rate_hz`.
        length: how many samples it has at the rate that was asked for.
        duration_s: of the whole file, before any cut (an estimate for a cut MP3 that does not tell).
        file_hash: xxh3_128 of the file's bytes, 16 bytes.
        warnings: a line each, naming the file, for what is odd but can be used.
    """

    samples: np.ndarray
    sample_rate_hz: int
    length: int
    duration_s: float
    file_hash: bytes
    warnings: tuple[str, ...]


def decode(path: Path, sample_rate_hz: int, max_seconds: float) -> Audio:
    """Read a wav, flac, ogg or mp3 file, of any rate and channel count; its content decides, not its name.

    Args:
        path: the file, read once.
        sample_rate_hz: the rate of the samples given back.
        max_seconds: samples beyond are cut; only what is needed of a long file is decoded.

    Raises:
        DataError: the file is missing, empty, truncated, not audio, or holds no or non-finite samples.
    """
    return resampled(read_audio(path, sample_rate_hz, max_seconds), sample_rate_hz)


def read_audio(path: Path, sample_rate_hz: int, max_seconds: float) -> Audio:
    """Do all that `decode` does but resample: the samples that decide those asked for, at the file's own rate."""
    content = _read_bytes(path)
    wanted = round(max_seconds * sample_rate_hz)
    decoded, rate, frames = _read_frames(path, content, wanted, sample_rate_hz)
    one = decoded.shape[1] == 1
    mono = decoded[:, 0] if one else decoded.mean(axis=1, dtype=np.float64).astype(np.float32)  # (n,)
    length = min(math.ceil(len(mono) * sample_rate_hz / rate), wanted)
    duration_s = frames / rate
    warnings = []
    if (peak := float(max(mono.max(), -mono.min()))) < SILENT_PEAK:
        warnings.append(f"{path}: silent, peak {peak:.1g}, expected music; check the file")
    if duration_s < SHORT_S:
        warnings.append(f"{path}: {duration_s:.3f} s long, expected {SHORT_S} s or more; check the file")
    if math.ceil(frames * sample_rate_hz / rate) > wanted:
        warnings.append(f"{path}: {duration_s:.2f} s long, expected {max_seconds:g} s or less; the rest is cut")
    return Audio(mono, rate, length, duration_s, xxhash.xxh3_128_digest(content), tuple(warnings))


def resampled(sound: Audio, sample_rate_hz: int) -> Audio:
    """Bring what `read_audio` gave to the rate that was asked for."""
    samples = resample(sound.samples, sound.sample_rate_hz, sample_rate_hz)[: sound.length]
    return replace(sound, samples=samples, sample_rate_hz=sample_rate_hz)


def decoded_length(path: Path, sample_rate_hz: int, max_seconds: float) -> int:
    """Tell from the file's header alone how many samples `decode` will give; 0 where the header cannot be read."""
    try:
        info = soundfile.info(path)
    except (OSError, soundfile.LibsndfileError):
        return 0
    whole: int = math.ceil(info.frames * sample_rate_hz / info.samplerate)
    return min(whole, round(max_seconds * sample_rate_hz))


def resample(samples: np.ndarray, rate_hz: int, new_rate_hz: int) -> np.ndarray:
    """Resample (n,) float32 to (ceil(n * new / old),) float32; safe to call from several threads."""
    if rate_hz == new_rate_hz:
        return samples
    old, new, reach = _ratio(rate_hz, new_rate_hz)
    if new * (old + 2 * reach) > _KERNEL_ENTRIES:
        return _resample_by_taps(samples, old, new, reach)
    import torch

    new_samples: np.ndarray = _resampler(old, new)(torch.from_numpy(samples)).numpy()
    return new_samples


def resampler_on(device: Any, rate_hz: int, new_rate_hz: int) -> Any:
    """Return the module with which `resample` resamples, for (B, n) on a device of torch.

    Its result is as long as `resample` makes it. None: it would need a kernel too large; `resample` has another way.
    """
    old, new, reach = _ratio(rate_hz, new_rate_hz)
    return None if new * (old + 2 * reach) > _KERNEL_ENTRIES else _resampler(old, new, str(device))


def resampler_identity() -> dict[str, str | int | float]:
    """All that decides what `decode` makes of other rates, for a fingerprint."""
    return {
        "name": "torchaudio.functional.resample",
        "version": version("torchaudio").split("+")[0],
        "lowpass_filter_width": LOWPASS_FILTER_WIDTH,
        "rolloff": ROLLOFF,
        "method": METHOD,
    }


def fit_length(samples: np.ndarray, length: int) -> np.ndarray:
    """Pad (n,) with zeros at the end, or cut it, to (length,)."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def _read_bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe would block, a folder cannot be read
            raise DataError(f"{path}: not a file, expected wav, flac, ogg or mp3")
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; add it, or take it from the list") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    if not content:
        raise DataError(f"{path}: empty file (0 bytes), expected audio; get it again")
    return content


def _read_frames(path: Path, content: bytes, wanted: int, new_rate_hz: int) -> tuple[np.ndarray, int, int]:
    """Decode what the first `wanted` samples at the new rate need.

    Returns:
        (n, channels) float32, all finite, n > 0; the file's rate in Hz; the frames in the whole file.
    """
    content = _whole_wav(path, content)
    stream = BytesIO(content)
    try:
        with soundfile.SoundFile(stream) as sound:
            _check_header(path, sound)
            rate, frames, is_mp3 = sound.samplerate, sound.frames, sound.format == "MP3"
            needed = _needed(wanted, rate, new_rate_hz)
            decoded = _plain_samples(content, sound, min(needed, frames))
            if decoded is None:
                decoded = sound.read(min(needed, frames), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"{path}: not audio, or damaged, expected a whole wav, flac, ogg or mp3; get it again"
        ) from error
    held = len(decoded)
    if held < min(needed, frames):
        if not is_mp3:
            raise DataError(f"{path}: truncated, {held} samples, expected {frames}; get it again")
        frames = held  # an mp3 without its length: libsndfile guesses it from the first bit rate
    elif is_mp3 and frames < needed and stream.tell() < len(content) - _TAG_BYTES:
        raise DataError(  # guessed too short, and libsndfile stops there
            f"{path}: an mp3 of varying bit rate without its length, expected one with it; convert it"
        )
    if not held:
        raise DataError(f"{path}: no samples, expected one or more; get it again, or take it from the list")
    if bad := int(np.count_nonzero(~np.isfinite(decoded))):
        raise DataError(f"{path}: {bad} NaN or infinite samples, expected finite ones; write it again")
    return decoded, rate, frames


def _check_header(path: Path, sound: Any) -> None:
    if sound.format not in _FORMATS:
        raise DataError(f"{path}: {sound.format} audio, expected wav, flac, ogg or mp3; convert it")
    if sound.frames >= _UNKNOWN_FRAMES:
        raise DataError(f"{path}: a streamed {sound.format}, no length in its header, expected one; convert it")


def _whole_wav(path: Path, content: bytes) -> bytes:
    """Check that a WAV's data chunk is all there (libsndfile reads a truncated one without a word).

    Returns:
        The bytes to decode: those of the file, the size of a streamed data chunk (0) filled in.
    """
    orders: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"RIFX": "big"}
    order = orders.get(content[:4])
    if order is None or content[8:12] != b"WAVE":
        return content
    at = _data_chunk(content, order)
    promised, held = int.from_bytes(content[at + 4 : at + 8], order), len(content) - at - 8
    if held < 0:
        return content  # no data chunk: soundfile refuses it
    if promised == 0:
        return content[: at + 4] + held.to_bytes(4, order) + content[at + 8 :]
    if held < promised < _STREAMED_SIZE:
        raise DataError(
            f"{path}: truncated WAV, {held} bytes of audio, expected {promised} by its header; get it again"
        )
    return content


def _data_chunk(content: bytes, order: Literal["little", "big"]) -> int:
    """Return where a WAV's data chunk begins, or where the content ends without one."""
    at = 12
    while content[at : at + 4] != b"data" and at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], order)
        at += 8 + size + size % 2
    return at


def _plain_samples(content: bytes, sound: Any, frames: int) -> np.ndarray | None:
    """Return the first frames of a WAV of 16-bit samples, (frames, channels) float32, or None for another file.

    They are what libsndfile makes of them, which asks for 8 KB at a time, and Python answers one thread at a time.
    """
    if content[:4] != b"RIFF" or sound.format not in ("WAV", "WAVEX") or sound.subtype != "PCM_16":
        return None
    start, count = _data_chunk(content, "little") + 8, frames * sound.channels
    if start + 2 * count > len(content):
        return None
    samples = np.frombuffer(content, "<i2", count, start)
    scaled: np.ndarray = np.multiply(samples, np.float32(2**-15), dtype=np.float32)
    return scaled.reshape(frames, sound.channels)


def _ratio(rate_hz: int, new_rate_hz: int) -> tuple[int, int, int]:
    """The two rates over their greatest common divisor, and the filter's reach in old samples each side."""
    gcd = math.gcd(rate_hz, new_rate_hz)
    old, new = rate_hz // gcd, new_rate_hz // gcd
    return old, new, math.ceil(LOWPASS_FILTER_WIDTH * old / (min(old, new) * ROLLOFF))


def _needed(wanted: int, rate_hz: int, new_rate_hz: int) -> int:
    """How many old samples decide the first `wanted` new ones."""
    old, new, reach = _ratio(rate_hz, new_rate_hz)
    return math.ceil(wanted / new) * old + reach  # the kernel goes in steps of `old` samples


@lru_cache(maxsize=8)
def _resampler(old: int, new: int, device: str = "cpu") -> Any:
    """torchaudio's `functional.resample` with its kernel kept: bit for bit, as the dtype is given."""
    import torch
    from torchaudio.transforms import Resample

    return Resample(old, new, METHOD, LOWPASS_FILTER_WIDTH, ROLLOFF, dtype=torch.float32).to(device)


def _resample_by_taps(samples: np.ndarray, old: int, new: int, reach: int) -> np.ndarray:
    """torchaudio's filter at the few places where it is not zero, for rates with hardly a common divisor.

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
