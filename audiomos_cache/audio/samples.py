"""The samples of an encoded file: decoded by libsndfile, or by FFmpeg where that cannot; never a part in silence."""

from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import BinaryIO, NoReturn

import numpy as np
import soundfile

from audiomos_cache.audio.ffmpeg import CONTAINERS, EXPECTED, Survey, decode_samples, survey
from audiomos_cache.audio.resample import check_rate, resampled_length, samples_needed
from audiomos_cache.audio.wholeness import check_flac, check_whole
from audiomos_cache.errors import DataError

LOUDEST = 100.0  # no music is so far beyond full scale; numbers on another scale are
MOST_SAMPLES = 1 << 30  # 4 GiB of memory, three hours of stereo; a damaged header may give any number

_UNKNOWN_FRAMES = 1 << 62  # libsndfile's count for a header without a length is above this


def read_samples(
    name: str, content: bytes, most: int | None, new_rate_hz: int
) -> tuple[np.ndarray, int, int, tuple[str, ...]]:
    """Decode a file, or of a long one only what the first `most` samples at the new rate need.

    Args:
        name: of the file, for messages.
        content: its bytes.
        most: None: all, `MOST_SAMPLES` at the most.
        new_rate_hz: the rate that it will be resampled to.

    Returns:
        (n, channels) float32 samples; the file's sample rate in Hz; how many samples each channel of the whole file
        has; warnings.

    Raises:
        DataError: see `audiomos_cache.audio.decode.decode`.
    """
    found = _survey(name, content)
    check_rate(name, found.sample_rate_hz)
    warnings = check_whole(name, content, found)

    def needed_at(rate_hz: int) -> int | None:
        return None if most is None else samples_needed(most, rate_hz, new_rate_hz)

    # Of an mp3 that does not tell its length libsndfile guesses one, from the first frame.
    guesses = found.codec.startswith(("mp1", "mp2", "mp3")) and (bool(warnings) or found.container != "mp3")
    if found.container in ("aac", "mp3"):  # what follows would be decoded too, or be told to the terminal
        content = content[: found.end]
    # libsndfile takes damaged ALAC for silence.
    read = None if found.codec == "alac" else _with_libsndfile(name, content, found, needed_at, guesses=guesses)
    samples, rate, frames = _with_ffmpeg(name, content, found, needed_at) if read is None else read
    check_samples(name, samples)
    # FFmpeg writes a wrong MD5 where it cannot go back: into other containers, and of one packet into a pipe.
    if found.container == "flac" and found.packets > 1 and not warnings and len(samples) == frames:
        check_flac(name, samples, found.setup)
    if most is None:
        _check_size(name, resampled_length(frames, rate, new_rate_hz))
    return samples, rate, frames, warnings


class Seekable:
    """A file as libsndfile takes it: a damaged header sends it to places before the file, which only it may know of.

    An error in what it calls would be a traceback on the terminal.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read, self.readinto, self.tell = file.read, file.readinto, file.tell  # type: ignore[attr-defined]

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place, if there is one."""
        with suppress(ValueError, OverflowError, OSError):
            self._file.seek(offset, whence)
        return self._file.tell()


def _survey(name: str, content: bytes) -> Survey:
    try:
        return survey(name, content)
    except DataError:
        kind = _kind_by_libsndfile(content)
        if kind.lower() in ("", *CONTAINERS):
            raise
        raise DataError(f"{name}: {kind} audio, expected {EXPECTED}; convert it (ffmpeg -i FILE new.wav)") from None


def _kind_by_libsndfile(content: bytes) -> str:
    if content[:3] == b"ID3" or content[:1] == b"\xff":  # it would tell the terminal what keeps it from being an mp3
        return ""
    try:
        with soundfile.SoundFile(Seekable(BytesIO(content))) as source:
            return str(source.format)
    except (soundfile.LibsndfileError, TypeError):
        return ""


def check_samples(name: str, samples: np.ndarray) -> None:
    """Check that samples can be music.

    Args:
        name: of the clip, for messages.
        samples: floats, of any shape.

    Raises:
        DataError: there are none, some are not finite, or they are on another scale than -1 to 1.
    """
    if not samples.size:
        raise DataError(f"{name}: no samples, expected one or more; get it again, or remove it from the list")
    if bad := int(np.count_nonzero(~np.isfinite(samples))):
        raise DataError(f"{name}: {bad} NaN or infinite samples, expected finite ones; write it again")
    if (peak := peak_of(samples)) > LOUDEST:
        raise DataError(f"{name}: samples of up to {peak:.5g}, expected full scale to be -1 to 1; divide them")


def peak_of(samples: np.ndarray) -> float:
    """Return the largest distance of samples from 0."""
    return float(max(samples.max(), -samples.min()))


def _with_libsndfile(
    name: str, content: bytes, found: Survey, needed_at: Callable[[int], int | None], *, guesses: bool
) -> tuple[np.ndarray, int, int] | None:
    """Decode the first samples of each channel, as many as are needed at their rate (None: all).

    Returns:
        (n, channels) float32, their rate in Hz (of Opus that of the music before it was encoded, not always 48 kHz),
        and how many there are in the file; or None: libsndfile cannot.
    """
    try:
        source = soundfile.SoundFile(Seekable(BytesIO(content)))
    except soundfile.LibsndfileError:
        return None
    with source:
        rate, frames = source.samplerate, found.samples if guesses else source.frames
        check_rate(name, rate)
        needed = needed_at(rate)
        count = frames if needed is None else min(needed, frames)
        if source.frames >= _UNKNOWN_FRAMES or count > source.frames:
            return None
        if found.container == "ogg" and frames * found.sample_rate_hz > (found.samples + _slack(found)) * rate:
            _refuse_damaged(name, found.samples, frames)
        _check_size(name, count * source.channels)
        if found.codec == "pcm_s16le" and content[:4] == b"RIFF":
            return _pcm16_samples(content, found.start, count, source.channels), rate, frames
        try:
            samples = source.read(count, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise DataError(f"{name}: damaged, expected a whole {source.format} file; get it again") from error
    if len(samples) < count and not guesses:
        _refuse_damaged(name, len(samples), count)
    return (samples, rate, frames) if len(samples) == count else None


def _with_ffmpeg(
    name: str, content: bytes, found: Survey, needed_at: Callable[[int], int | None]
) -> tuple[np.ndarray, int, int]:
    """Do as `_with_libsndfile`, with FFmpeg."""
    rate = found.sample_rate_hz
    needed = needed_at(rate)
    samples = decode_samples(name, content, needed, MOST_SAMPLES)
    if len(samples) < (found.samples if needed is None else min(needed, found.samples)) - _slack(found):
        _refuse_damaged(name, len(samples), found.samples)
    samples = samples[: found.shown]
    whole = needed is None or len(samples) < needed
    return samples[:needed], rate, len(samples) if whole else found.shown or found.samples


def _slack(found: Survey) -> int:
    """Return how many samples there may be less than the packets tell: what a decoder leaves out at both ends."""
    return round(2 * found.tolerance_s * found.sample_rate_hz)


def _pcm16_samples(content: bytes, start: int, frames: int, channels: int) -> np.ndarray:
    """Return the first frames of a WAV of 16-bit samples, (frames, channels) float32.

    They equal libsndfile's, which reads 8 KB at a time through Python, one thread at a time.
    """
    samples = np.frombuffer(content, "<i2", frames * channels, start)
    scaled: np.ndarray = np.multiply(samples, np.float32(2**-15), dtype=np.float32)
    return scaled.reshape(frames, channels)


def _check_size(name: str, samples: int) -> None:
    if samples > MOST_SAMPLES:
        raise DataError(f"{name}: {samples} samples to read, expected at most {MOST_SAMPLES}; cut it into pieces")


def _refuse_damaged(name: str, found: int, expected: int) -> NoReturn:
    raise DataError(f"{name}: damaged, {found} samples could be decoded, expected {expected}; get it again")
