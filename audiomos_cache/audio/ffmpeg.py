"""FFmpeg, through PyAV: what it reports of an audio file, and the samples of one that libsndfile cannot read."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from audiomos_cache.errors import DataError

# No playlists and lists of files, which would have FFmpeg open what they name.
CONTAINERS = ("aac", "aiff", "au", "caf", "flac", "matroska", "mov", "mp3", "ogg", "w64", "wav", "webm")
EXPECTED = "wav, flac, mp3, ogg, opus, m4a, aac, mp4, webm, aiff, caf or au"
_OPTIONS = {
    "format_whitelist": ",".join(CONTAINERS),
    "protocol_whitelist": "",
    "max_size": "8192",  # of a packet of a WAV, in bytes: fewer packets take less time
    "max_probe_packets": "1",  # else a WAV of 16 bits is searched for other codecs, for 14 ms
}
# The bits of a frame's first four bytes that are the same in all frames of a file: sync word, version, layer, rate.
_SAME_IN_ALL = {"mp3": 0xFFFE0C00, "aac": 0xFFFEFC00}
_ROUNDING_S = 0.002  # of times in whole milliseconds
_JITTER_S = 0.06  # of the times that a browser's recorder gives its packets


@dataclass(frozen=True, slots=True)
class Survey:
    """What FFmpeg reports of a file without decoding it.

    Attributes:
        container: one of `CONTAINERS`.
        codec: its name in FFmpeg, such as "mp3float", "pcm_s16le".
        sample_rate_hz: of the audio.
        declared_s: the length of the file (of a film, also that of the picture) that its header contains; None: none,
            or not for certain.
        held_s: the length of what is there.
        tolerance_s: how much the two may differ in a whole file.
        samples: of each channel, in all packets.
        shown: how many of them are to be heard (mov: the last packet is filled up); None: all.
        packets: how many there are.
        start, end: where the first packet begins and the last one ends, in bytes.
        foreign: bytes between the packets that belong to none (mp3, aac).
        gap: the sample at which some are missing by the packets' own times (flac, matroska, mov); None: nowhere.
        cut: the last packet is not all there.
        setup: what the codec needs beforehand, such as the STREAMINFO of flac.
    """

    container: str
    codec: str
    sample_rate_hz: int
    declared_s: float | None
    held_s: float
    tolerance_s: float
    samples: int
    shown: int | None
    packets: int
    start: int
    end: int
    foreign: int
    gap: int | None
    cut: bool
    setup: bytes


def survey(name: str, content: bytes) -> Survey:
    """Read all packets of a file's audio, the first stream if there are several.

    Args:
        name: of the file, for messages.
        content: its bytes.

    Raises:
        DataError: it is no container of `CONTAINERS`, damaged, or has no audio.
    """
    with _opened(name, content) as (file, stream):
        return _survey(file, stream)


def declared_length_s(file: Any) -> float:
    """Return the length that the header of an open file contains; 0 where there is none."""
    try:
        with av.open(file, "r", options=_OPTIONS, metadata_errors="ignore") as container:
            return (container.duration or 0) / av.time_base
    except (FFmpegError, OSError, ValueError):
        return 0.0


def _survey(file: Any, stream: Any) -> Survey:
    container = next(each for each in CONTAINERS if each in file.format.name.split(","))
    codec, rate, base = stream.codec_context.name, stream.rate, stream.time_base
    frames = _Frames(_SAME_IN_ALL.get(container))
    jitter = {"flac": 0, "mov": _JITTER_S, "matroska": _JITTER_S}.get(container)
    most_due = math.inf if jitter is None else jitter / base
    ends: Counter[int] = Counter()  # of all streams: FFmpeg tells the length of the longest
    count = units = longest = start = end = 0
    gap = due = None
    cut = False
    for packet in file.demux():
        size, pts, length, index = packet.size, packet.pts, packet.duration or 0, packet.stream_index
        if not size:
            continue  # the last of a stream, to flush its decoder
        if pts is not None:
            ends[index] = max(ends[index], pts + length)
        if index != stream.index or not frames.take(packet):
            continue
        if due is not None and gap is None and pts is not None and abs(pts - due) > most_due:
            gap = round(due * base * rate)
        due = None if pts is None else pts + length
        position = packet.pos or 0
        start, end = start or position, position + size
        count, units, longest = count + 1, units + length, max(longest, length)
        cut = cut or packet.is_corrupt
    exact = stream.codec_context.codec.lossless and base * rate == 1
    declares = container not in ("aac", "mp3", "ogg", "w64", "wav")  # of which FFmpeg estimates it
    return Survey(
        container=container,
        codec=codec,
        sample_rate_hz=rate,
        declared_s=file.duration / av.time_base if declares and file.duration is not None else None,
        held_s=float(
            units * base if frames.same else max(ends[each.index] * (each.time_base or 0) for each in file.streams)
        ),
        tolerance_s=0.5 / rate if exact else float(longest * base) + _ROUNDING_S,
        samples=round(units * base * rate),
        shown=round(stream.duration * base * rate) if container == "mov" and stream.duration else None,
        packets=count,
        start=start,
        end=end,
        foreign=frames.foreign,
        gap=gap,
        cut=cut or (frames.same is not None and _is_cut(codec, frames.last)),
        setup=bytes(stream.codec_context.extradata or b""),
    )


class _Frames:
    """Tells the frames of a file that is nothing but frames, one after the other, from what is between and after them.

    Args:
        same: the bits of a frame's first four bytes that are the same in all; None: every packet is a frame.
    """

    def __init__(self, same: int | None) -> None:
        self.same = same
        self.first: int | None = None
        self.last = b""
        self.foreign = self._after_last = 0

    def take(self, packet: Any) -> bool:
        """Return whether a packet is a frame."""
        if self.same is None:
            return True
        content = bytes(packet)
        head = int.from_bytes(content[:4].ljust(4, b"\0"))
        if self.first is None and head >> 21 == 0x7FF:
            self.first = head & self.same
        if head & self.same != self.first:
            self._after_last += len(content) if self.last else 0
            return False
        self.foreign, self._after_last, self.last = self.foreign + self._after_last, 0, content
        return True


def _is_cut(codec: str, packet: bytes) -> bool:
    """Return whether the last frame of an mp3 or aac file is shorter than its own header tells."""
    whole = next(iter(av.CodecContext.create(codec, "r").parse(packet + bytes(1 << 14))), None)
    return whole is None or whole.size > len(packet)


def decode_samples(name: str, content: bytes, needed: int | None, most: int) -> np.ndarray:
    """Decode a file's audio.

    Args:
        name: of the file, for messages.
        content: its bytes.
        needed: how many samples of each channel are wanted; None: all.
        most: how many samples there may be in all channels together.

    Returns:
        (n, channels) float32; full scale is -1 to 1. It may be some more than `needed`, if the file has so many.

    Raises:
        DataError: it is damaged, or too long.
    """
    pieces: list[np.ndarray] = []
    held = 0
    with _opened(name, content) as (file, stream):
        to_floats = av.AudioResampler(format="flt")  # of planes, PyAV reads beyond the eighth
        for frame in file.decode(stream):
            channels = frame.layout.nb_channels
            pieces += [each.to_ndarray().reshape(-1, channels) for each in to_floats.resample(frame)]
            held += frame.samples
            if held * channels > most:
                raise DataError(f"{name}: more than {most} samples, expected at most so many; cut it into pieces")
            if needed is not None and held >= needed:
                break
    return np.concatenate(pieces) if pieces else np.zeros((0, 1), np.float32)


@contextmanager
def _opened(name: str, content: bytes) -> Iterator[tuple[Any, Any]]:
    """Yield the container and its first audio stream; what FFmpeg raises in the block becomes a DataError."""
    try:
        with av.open(BytesIO(content), options=_OPTIONS, metadata_errors="ignore") as file:
            if not file.streams.audio:
                raise DataError(f"{name}: no audio in it, expected some; remove it from the list")
            stream = file.streams.audio[0]
            if stream.codec_context is None:  # a codec that FFmpeg does not have
                raise DataError(f"{name}: audio of an unknown codec, expected one that FFmpeg has; convert it")
            if not stream.rate or stream.time_base is None:
                raise DataError(f"{name}: damaged audio, no sample rate in its header; get it again")
            yield file, stream
    except (FFmpegError, ValueError, OverflowError) as error:
        raise DataError(
            f"{name}: not audio, or damaged, expected a whole {EXPECTED}; get it again, or convert it (ffmpeg -i FILE "
            "new.wav)"
        ) from error
