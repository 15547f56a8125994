"""Decode one audio file: mono, float32, resampled and cut to what an encoder takes."""

from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
import xxhash

from audiomos_cache.audio.resample import resample, resampled_length, samples_needed
from audiomos_cache.errors import DataError

SILENT_PEAK = 1e-4
SHORT_S = 0.1
MOST_SAMPLES = 1 << 30  # 4 GiB of memory, three hours of stereo; a damaged header may give any number

_FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
_STREAMED_SIZE = 0x7FFFF000  # this or more is the size in the header of a WAV that was written to a pipe
_MOST_FRAMES = _UNKNOWN_FRAMES = 1 << 62  # libsndfile's count for a header without a length is above this
_REST_BYTES = 4096  # what may be between the last frame of an MP3 and the tags that contain their size


@dataclass(frozen=True, slots=True)
class Audio:
    """A decoded clip, or a window of one.

    Attributes:
        samples: (n,) float32, mono; or (n, channels) as they were decoded. Finite, n > 0.
        sample_rate_hz: the rate of `samples`.
        length: how many samples it has at the requested rate.
        duration_s: of the whole file, before any cut (an estimate for a cut MP3 whose header gives no length).
        file_hash: xxh3_128 of the file's bytes, 16 bytes; zeros where there is no file.
        warnings: a line each for what is odd but can be used.
    """

    samples: np.ndarray
    sample_rate_hz: int
    length: int
    duration_s: float
    file_hash: bytes = bytes(16)
    warnings: tuple[str, ...] = ()


def decode(path: Path, sample_rate_hz: int, max_seconds: float) -> Audio:
    """Read a wav, flac, ogg or mp3 file, of any rate and channel count; its content decides, not its name.

    Args:
        path: the file, read once.
        sample_rate_hz: the rate of the returned samples.
        max_seconds: samples beyond are cut; only what is needed of a long file is decoded.

    Raises:
        DataError: the file is missing, empty, truncated, not audio, or holds no or non-finite samples.
    """
    return resampled(read_audio(path, sample_rate_hz, max_seconds), sample_rate_hz)


def read_audio(path: Path, sample_rate_hz: int, max_seconds: float) -> Audio:
    """Do all that `decode` does but resample: return the samples that it needs, at the file's own rate."""
    most = round(max_seconds * sample_rate_hz)
    decoded = read_channels(path, most, sample_rate_hz)
    mono, duration_s = mixed_down(decoded.samples), decoded.duration_s
    warnings = []
    if (peak := peak_of(mono)) < SILENT_PEAK:
        warnings.append(f"{path}: silent, peak {peak:.1g}, expected music; check the file")
    if duration_s < SHORT_S:
        warnings.append(f"{path}: {duration_s:.3f} s long, expected {SHORT_S} s or more; check the file")
    if decoded.length > most:
        warnings.append(f"{path}: {duration_s:.2f} s long, expected {max_seconds:g} s or less; the rest is cut")
    length = min(resampled_length(len(mono), decoded.sample_rate_hz, sample_rate_hz), most)
    return replace(decoded, samples=mono, length=length, warnings=tuple(warnings))


def read_channels(path: Path, most: int | None, new_rate_hz: int) -> Audio:
    """Decode a file, or of a long one only what the first `most` samples at the new rate need.

    Args:
        path: the file, read once.
        most: None: the whole file, of at most `MOST_SAMPLES`.
        new_rate_hz: the rate that it will be resampled to.
    Returns:
        (n, channels) samples at the file's own rate; `length` is that of the whole file.
    Raises:
        DataError: see `decode`; or it is too long to be read whole.
    """
    content = _read_bytes(path)
    samples, rate, frames = _read_frames(path, content, most, new_rate_hz)
    length = resampled_length(frames, rate, new_rate_hz)
    return Audio(samples, rate, length, frames / rate, xxhash.xxh3_128_digest(content))


def mixed_down(samples: np.ndarray) -> np.ndarray:
    """Turn (n, channels) into the mean of its channels, (n,) float32."""
    one = samples.shape[1] == 1
    return samples[:, 0] if one else samples.mean(axis=1, dtype=np.float64).astype(np.float32)


def peak_of(samples: np.ndarray) -> float:
    """Return the largest distance of samples from 0."""
    return float(max(samples.max(), -samples.min()))


def resampled(audio: Audio, sample_rate_hz: int) -> Audio:
    """Resample what `read_audio` returned to the requested rate."""
    samples = resample(audio.samples, audio.sample_rate_hz, sample_rate_hz)[: audio.length]
    return replace(audio, samples=samples, sample_rate_hz=sample_rate_hz)


def decoded_length(path: Path, sample_rate_hz: int, max_seconds: float) -> int:
    """Return how many samples `decode` will give, from the file's header alone; 0 where the header cannot be read."""
    try:
        info = soundfile.info(path)
    except (OSError, soundfile.LibsndfileError):
        return 0
    whole = resampled_length(info.frames, info.samplerate, sample_rate_hz)
    return min(whole, round(max_seconds * sample_rate_hz))


def fit_length(samples: np.ndarray, length: int) -> np.ndarray:
    """Pad (n,) with zeros at the end, or cut it, to (length,)."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def _read_bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe would block, a folder cannot be read
            raise DataError(f"{path}: not a file, expected wav, flac, ogg or mp3")
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: file not found; add it, or remove it from the list") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    if not content:
        raise DataError(f"{path}: empty file (0 bytes), expected audio; get it again")
    return content


def _read_frames(path: Path, content: bytes, most: int | None, new_rate_hz: int) -> tuple[np.ndarray, int, int]:
    """Decode what the first `most` samples at the new rate need; None: all.

    Returns:
        (n, channels) float32, all finite, n > 0; the file's rate in Hz; the frames in the whole file.
    """
    content = _whole_wav(path, content)
    stream = BytesIO(content)
    try:
        with soundfile.SoundFile(stream) as source:
            _check_header(path, source)
            rate, frames, is_mp3 = source.samplerate, source.frames, source.format == "MP3"
            needed = _MOST_FRAMES if most is None else samples_needed(most, rate, new_rate_hz)
            _check_size(path, min(needed, frames) * source.channels)
            decoded = _pcm16_samples(content, source, min(needed, frames))
            if decoded is None:
                decoded = source.read(min(needed, frames), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"{path}: not audio, or damaged, expected a whole wav, flac, ogg or mp3; get it again"
        ) from error
    held = len(decoded)
    if held < min(needed, frames):
        if not is_mp3:
            raise DataError(f"{path}: truncated, {held} samples, expected {frames}; get it again")
        frames = held  # an mp3 without its length: libsndfile guesses it from the first bit rate
    elif is_mp3 and frames < needed and stream.tell() < _end_before_tags(content) - _REST_BYTES:
        raise DataError(  # guessed too short, and libsndfile stops there
            f"{path}: an mp3 of varying bit rate without its length, expected one with it; convert it"
        )
    if not held:
        raise DataError(f"{path}: no samples, expected one or more; get it again, or remove it from the list")
    if bad := int(np.count_nonzero(~np.isfinite(decoded))):
        raise DataError(f"{path}: {bad} NaN or infinite samples, expected finite ones; write it again")
    return decoded, rate, frames


def _end_before_tags(content: bytes) -> int:
    """Return where the tags at the end of an MP3 begin: APE (with a cover, most of a megabyte), Lyrics3v2, ID3v1.

    Source: the layouts that the APE tag, Lyrics3 and ID3 specifications give.
    """
    end = len(content)
    if content[-128:-125] == b"TAG":
        end -= 128
    while True:
        ape, lyrics = content[max(0, end - 32) : end], content[max(0, end - 15) : end]
        if ape[:8] == b"APETAGEX" and len(ape) == 32:
            size, flags = int.from_bytes(ape[12:16], "little"), int.from_bytes(ape[20:24], "little")
            size += 32 * (flags >> 31)  # of the header, which need not be there
        elif lyrics[6:] == b"LYRICS200" and lyrics[:6].isdigit():
            size = int(lyrics[:6]) + 15
        else:
            return end
        if not 0 < size <= end:
            return end
        end -= size


def _check_header(path: Path, source: Any) -> None:
    if source.format not in _FORMATS:
        raise DataError(f"{path}: {source.format} audio, expected wav, flac, ogg or mp3; convert it")
    if source.frames >= _UNKNOWN_FRAMES:
        raise DataError(f"{path}: a streamed {source.format}, no length in its header, expected one; convert it")


def _check_size(path: Path, samples: int) -> None:
    if samples > MOST_SAMPLES:
        raise DataError(f"{path}: {samples} samples to read, expected at most {MOST_SAMPLES}; cut it into pieces")


def _whole_wav(path: Path, content: bytes) -> bytes:
    """Check that a WAV's data chunk is all there (libsndfile reads a truncated one without an error).

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


def _pcm16_samples(content: bytes, source: Any, frames: int) -> np.ndarray | None:
    """Return the first frames of a WAV of 16-bit samples, (frames, channels) float32, or None for another file.

    They equal libsndfile's, which reads 8 KB at a time through Python, one thread at a time.
    """
    if content[:4] != b"RIFF" or source.format not in ("WAV", "WAVEX") or source.subtype != "PCM_16":
        return None
    start, count = _data_chunk(content, "little") + 8, frames * source.channels
    if start + 2 * count > len(content):
        return None
    samples = np.frombuffer(content, "<i2", count, start)
    scaled: np.ndarray = np.multiply(samples, np.float32(2**-15), dtype=np.float32)
    return scaled.reshape(frames, source.channels)
