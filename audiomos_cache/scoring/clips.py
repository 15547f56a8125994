"""A clip as Python users have it: a path, samples and their rate, or an encoded file in memory."""

import math
from collections.abc import Callable, Mapping
from numbers import Real
from os import PathLike, fsdecode
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.audio.decode import Audio
from audiomos_cache.audio.resample import check_rate
from audiomos_cache.audio.samples import check_samples
from audiomos_cache.audio.source import EncodedAudio
from audiomos_cache.errors import DataError, first_five, in_one_line, quoted
from audiomos_cache.files import is_number

if TYPE_CHECKING:
    from torch import Tensor

Samples: TypeAlias = "NDArray[Any] | Tensor | list[float]"
Bytes: TypeAlias = bytes | bytearray | memoryview
AudioLike: TypeAlias = (
    "str | PathLike[str] | Samples | tuple[float, Samples] | tuple[Samples, float] | Mapping[str, Any] | Bytes"
    " | BinaryIO"
)
"""What `read_clip` takes."""

EXPECTED = (
    "expected a path, an array or a tensor, (rate, samples), a dict with array and sampling_rate, or with bytes, or "
    "with path, or an audio file as bytes or opened as binary"
)
MOST_CHANNELS = 8  # in an array; by it the dimension of the channels is told from that of the samples
_PCM = ("int8", "uint8", "int16", "uint16", "int32")  # wider integers are counts or sums, of no known full scale
_FULL_SCALE_24 = 1 << 23  # decoders that give 24 bits as int32 mean this; of 32 bits it would be -48 dB
_NUMBERS = tuple("biufc")  # kinds of a NumPy dtype
_SAMPLES, _RATE = ("array", "raw"), "sampling_rate"  # as datasets and transformers name them in dicts
_KEYS = frozenset((*_SAMPLES, "bytes", "path"))


def is_clip(given: object) -> bool:
    """Return whether something is one clip, rather than a sequence of clips."""
    from torch import Tensor

    if isinstance(given, Mapping):
        return not _KEYS.isdisjoint(given)
    if isinstance(given, tuple):
        return _is_pair(given)
    if isinstance(given, list):
        return bool(given) and _is_number(given[0])
    if isinstance(given, str | PathLike | Bytes | Tensor):
        return True
    if _method(given, "read") or _method(given, "get_all_samples") or _has_samples(given):
        return True
    return getattr(getattr(given, "dtype", None), "kind", None) in _NUMBERS


def described(given: object) -> str:
    """Return what something is, for a message: `an array of shape (2, 3)`, `a generator`, `None`, `'a.wav'`."""
    try:
        shape = getattr(given, "shape", None)
    except Exception:  # an object of the user's may fail in any way
        shape = None
    if isinstance(shape, tuple):
        return f"an array of shape {tuple(shape)}"
    if isinstance(given, tuple):
        return f"a tuple of ({first_five([type(each).__name__ for each in given])})"
    if isinstance(given, Mapping):
        return f"a {type(given).__name__} with {first_five([quoted(key) for key in given]) or 'nothing in it'}"
    if isinstance(given, str | PathLike):
        return quoted(fsdecode(given))
    if isinstance(given, Bytes):
        return f"{bytes(given[:12])!r}{'...' if len(given) > 12 else ''}"
    return quoted(given) if given is None or isinstance(given, Real) else f"a {type(given).__name__}"


def file_name(given: object) -> str | None:
    """Return the name of the file that a clip is, or was read from; None where nobody knows."""
    path = given.get("path") if isinstance(given, Mapping) else given
    return _path(path).name or None if isinstance(path, str | PathLike) else None


def read_clip(name: str, given: Any, sample_rate: float | None) -> Path | EncodedAudio | Audio:
    """Take what a user gave for a clip; samples and bytes are copied, as a stream of clips may fill an array again.

    Args:
        name: of the clip, for messages.
        given: a path; samples, see `audio_of`; a tuple of samples and their rate, in either order, as gradio, soundfile
            and librosa give; a dict of Hugging Face's datasets (array and sampling_rate, or bytes, or path) or
            transformers (raw and sampling_rate); an encoded file's bytes, or the file, opened as binary; a decoder of
            torchcodec, or what it gives.
        sample_rate: of samples that come without a rate of their own, in Hz.
    Returns:
        What is decoded when the clip is scored, or samples of (n, channels).
    Raises:
        DataError: it is nothing of these; the message says what was found.
    """
    if isinstance(given, str | PathLike):
        if not fsdecode(given):
            raise DataError(f"{name}: found '', expected the path of an audio file")
        return _path(given)
    if isinstance(given, Bytes):
        return EncodedAudio(name, bytes(given))
    if isinstance(given, Mapping):
        return _from_dict(name, given, sample_rate)
    if isinstance(given, tuple):
        if not _is_pair(given):
            strings = [each for each in given if isinstance(each, str) and is_number(each)]
            rate = f"; the sample rate {quoted(strings[0])} is a string" if len(given) == 2 and strings else ""
            raise DataError(f"{name}: found {described(given)}{rate}, {EXPECTED}")
        samples, rate = given if _is_number(given[1]) else reversed(given)
        if isinstance(samples, str | PathLike):
            raise DataError(f"{name}: found {described(samples)} with a sample rate; give the path alone")
        return audio_of(name, samples, rate)
    if read := _method(given, "read"):
        return EncodedAudio(name, _content(name, _result(name, read)))
    if decode := _method(given, "get_all_samples"):
        given = _result(name, decode)
    if _has_samples(given):
        return audio_of(name, given.data, given.sample_rate)
    return audio_of(name, given, sample_rate)


def audio_of(name: str, samples: Any, rate_hz: object) -> Audio:
    """Copy samples.

    Args:
        name: of the clip, for messages.
        samples: (n,), (channels, n) or (n, channels), an array, a tensor or a list: floats whose full scale is -1 to 1,
            or integers of at most 32 bits, whose full scale is their type's.
        rate_hz: their sample rate, a whole number.
    Returns:
        (n, channels) samples, at that rate.
    Raises:
        DataError: they are of another kind, shape or scale, none, or not finite; or there is no such rate.
    """
    if not (isinstance(samples, list) or hasattr(samples, "__array__")):
        raise DataError(f"{name}: found {described(samples)}, {EXPECTED}")
    rate = rate_of(name, rate_hz)
    held = _channels_last(name, _as_floats(name, samples))
    check_samples(name, held)
    return Audio(held, rate, len(held), len(held) / rate)


def rate_of(name: str, rate_hz: object) -> int:
    """Return a sample rate in Hz.

    Raises:
        DataError: it is none, or no whole number.
    """
    if not isinstance(rate_hz, Real) or isinstance(rate_hz, bool):
        raise DataError(
            f"{name}: an array at a sample rate of {quoted(rate_hz)}; give sample_rate, a whole number of Hz"
        )
    try:
        rate = float(rate_hz)
    except OverflowError:
        rate = math.inf
    check_rate(name, rate)
    if rate % 1:
        raise DataError(f"{name}: a sample rate of {rate:.10g} Hz, expected a whole number")
    return int(rate)


def _path(given: "str | PathLike[str]") -> Path:
    path = Path(fsdecode(given))
    if "\0" in str(path):
        raise DataError(f"{quoted(str(path))}: no file can have this name")
    return path


def _from_dict(name: str, given: Mapping[str, Any], sample_rate: float | None) -> Path | EncodedAudio | Audio:
    for key in _SAMPLES:
        if given.get(key) is not None:
            rate = given.get(_RATE)
            return audio_of(name, given[key], sample_rate if rate is None else rate)
    if given.get("bytes") is not None:
        return EncodedAudio(name, _content(name, given["bytes"]))
    if isinstance(given.get("path"), str | PathLike):
        return _path(given["path"])
    raise DataError(f"{name}: found {described(given)}, {EXPECTED}")


def _content(name: str, found: object) -> bytes:
    if not isinstance(found, Bytes):
        kind = "text; open it as binary" if isinstance(found, str) else described(found)
        raise DataError(f"{name}: expected the bytes of an audio file, found {kind}")
    if not len(found):
        raise DataError(f"{name}: no bytes, expected an audio file; of one that was read or written to before, seek(0)")
    return bytes(found)


def _method(given: object, name: str) -> Callable[[], Any] | None:
    found = getattr(given, name, None)
    return found if callable(found) else None


def _result(name: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # of whatever library it is
        reason = in_one_line(error)[:200]
        raise DataError(f"{name}: cannot be read ({type(error).__name__}: {reason})") from error


def _has_samples(given: Any) -> bool:
    """Return whether this is what a decoder of torchcodec gives: AudioSamples."""
    return hasattr(given, "sample_rate") and hasattr(given, "data")


def _is_number(given: object) -> bool:
    return isinstance(given, Real) and not isinstance(given, bool)


def _is_pair(given: tuple[object, ...]) -> bool:
    """Return whether a tuple is of samples and their rate."""
    return len(given) == 2 and sum(map(_is_number, given)) == 1


def _as_floats(name: str, samples: Any) -> NDArray[np.float32]:
    """Copy samples as float32; integers are divided by their type's full scale."""
    import torch

    try:
        if isinstance(samples, torch.Tensor):
            tensor = samples.detach().cpu()
            samples = (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # NumPy has no bfloat16
        held = np.asarray(samples)
        if isinstance(samples, np.ma.MaskedArray) and np.any(samples.mask):
            raise TypeError("samples under a mask; give them without one, .filled(0)")
        peak = max(int(held.max()), -int(held.min())) if held.dtype.name == "int32" and held.size else 0
        if 0 < peak <= _FULL_SCALE_24:
            raise TypeError(f"int32 samples of at most {peak}: 24 bits? shift them by 8; 16 bits? give int16")
        if held.dtype.name in _PCM:
            full_scale = 1 << (8 * held.dtype.itemsize - 1)
            offset = full_scale if held.dtype.kind == "u" else 0
            return ((held.astype(np.float64) - offset) / full_scale).astype(np.float32)
        if held.dtype.kind != "f":
            raise TypeError(f"samples of {held.dtype}")
        with np.errstate(over="ignore"):
            return held.astype(np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = in_one_line(error)[:200]
        raise DataError(f"{name}: {reason}, expected floats from -1 to 1, or integers of 8, 16 or 32 bits") from error


def _channels_last(name: str, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Arrange samples of one or two dimensions as (n, channels)."""
    if samples.ndim == 1:
        return samples[:, None]
    if samples.ndim == 2:
        few, many = sorted(samples.shape)
        if few <= 1 or few <= MOST_CHANNELS < many:
            return np.ascontiguousarray(samples.T if samples.shape[0] == few else samples)
    expected = f"(samples,), (channels, samples) or (samples, channels), of at most {MOST_CHANNELS} channels"
    raise DataError(f"{name}: an array of shape {samples.shape}, expected {expected}")
