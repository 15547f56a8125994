"""Helpers of the tests of audio."""

import io
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

RATE = 24000
MISSING = "file not found, expected an audio file; add it, or remove it from the list"


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(7).normal(0, 0.1, (samples, channels)).astype(np.float32)


def chord(seconds: float, rate: int = 44100, channels: int = 2) -> np.ndarray:
    """(n, channels) of two tones that grow louder, so that no two places are alike."""
    t = np.arange(round(rate * seconds)) / rate
    tones = (0.2 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 3000 * t)) * (0.3 + 0.7 * t / seconds)
    return np.repeat(tones[:, None], channels, axis=1).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int, **kinds: object) -> Path:
    soundfile.write(path, samples, rate, **kinds)
    return path


class _Pipe(io.RawIOBase):
    """Takes what is written to it, and cannot go back."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        self.content += bytes(content)  # type: ignore[call-overload]
        return len(memoryview(content))  # type: ignore[arg-type]


def encode(
    samples: np.ndarray,
    rate: int,
    container: str,
    codec: str,
    options: Mapping[str, str] | None = None,
    *,
    quality: Mapping[str, str] | None = None,
    piped: bool = False,
) -> bytes:
    """Encode (n, channels) with FFmpeg; `piped`: as it writes to a pipe, where it cannot fill in the length.

    `options` are the container's, `quality` the codec's.
    """
    layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
    sink: io.BytesIO | _Pipe = _Pipe() if piped else io.BytesIO()
    with av.open(sink, "w", format=container, options=dict(options or {})) as file:
        stream: Any = file.add_stream(codec, rate=rate, layout=layout, options=dict(quality or {}))
        for start in range(0, len(samples), 4096):
            piece = np.ascontiguousarray(samples[start : start + 4096].T)
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return bytes(sink.content) if isinstance(sink, _Pipe) else sink.getvalue()


def film(sound: np.ndarray, rate: int, picture_s: float, container: str, codec: str) -> bytes:
    """Encode (n, channels) with a picture of another length."""
    sink = io.BytesIO()
    with av.open(sink, "w", format=container) as file:
        picture: Any = file.add_stream("mpeg4" if container != "webm" else "libvpx", rate=10)
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        stream: Any = file.add_stream(codec, rate=rate, layout="stereo")
        for index in range(round(10 * picture_s)):
            frame = av.VideoFrame(32, 32, "yuv420p")
            frame.pts = index
            file.mux(picture.encode(frame))
        file.mux(picture.encode(None))
        for start in range(0, len(sound), 4096):
            piece = np.ascontiguousarray(sound[start : start + 4096].T)
            heard = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
            heard.sample_rate, heard.pts, heard.time_base = rate, start, Fraction(1, rate)
            file.mux(stream.encode(heard))
        file.mux(stream.encode(None))
    return sink.getvalue()


def soundfile_bytes(samples: np.ndarray, rate: int, **kinds: object) -> bytes:
    """Encode (n, channels) with libsndfile."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, **kinds)
    return stream.getvalue()
