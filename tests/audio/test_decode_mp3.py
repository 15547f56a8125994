"""MP3s whose header has no length, or that tags follow."""

import io
import struct
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiomos_cache.audio.decode import decode
from audiomos_cache.errors import DataError
from tests.support.audio import RATE, noise, write


@cache
def mp3(seconds: float, channels: int) -> bytes:
    """Noise."""
    stream = io.BytesIO()
    soundfile.write(stream, noise(int(44100 * seconds), channels), 44100, format="MP3")
    return stream.getvalue()


@cache
def loud_first(seconds: int) -> bytes:
    """An mp3 without its length: two seconds of noise, and so many of soft noise."""
    return mp3_without_its_length(np.concatenate([noise(44100 * 2), 0.01 * noise(44100 * seconds)]))


def mp3_without_its_length(samples: np.ndarray) -> bytes:
    """An mp3 of varying bit rate, without the first frame, which holds the length."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, 44100, format="MP3", bitrate_mode="VARIABLE")
    content = stream.getvalue()
    assert b"Xing" in content[:200]
    kbps = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320][content[2] >> 4]
    return content[144 * kbps * 1000 // 44100 + (content[2] >> 1 & 1) :]


def test_an_mp3_longer_than_guessed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(loud_first(8))
    with pytest.raises(DataError, match=r"a\.mp3: an mp3 of varying bit rate without its length"):
        decode(tmp_path / "a.mp3", RATE, 30.0)


ID3V1 = b"TAG" + b"title".ljust(124, b"\0") + b"\xff"


def ape_tag(held: int, *, header: bool = True) -> bytes:
    """An APEv2 tag with a cover of so many bytes."""
    key, value = b"Cover Art (Front)\0", b"cover.jpg\0" + np.random.default_rng(3).bytes(held)
    item = struct.pack("<II", len(value), 2) + key + value
    ends = [
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, header << 31 | first << 29) + bytes(8)
        for first in (True, False)
    ]
    return (ends[0] if header else b"") + item + ends[1]


def lyrics_tag(held: int) -> bytes:
    """A Lyrics3v2 tag with so many bytes of lyrics."""
    fields = b"LYRICSBEGIN" + b"IND0000210" + b"LYR" + f"{held:05}".encode() + b"la " * (held // 3) + b"l" * (held % 3)
    return fields + f"{len(fields):06}".encode() + b"LYRICS200"


TAGS = {
    "ape": ape_tag(20_000),
    "ape without its header": ape_tag(20_000, header=False),
    "ape, id3": ape_tag(900_000) + ID3V1,
    "lyrics, id3": lyrics_tag(20_000) + ID3V1,
    "ape, lyrics, id3": ape_tag(20_000) + lyrics_tag(20_000) + ID3V1,
    "lyrics, ape, id3": lyrics_tag(20_000) + ape_tag(20_000) + ID3V1,
}


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS)
@pytest.mark.parametrize("channels", [1, 2])
def test_tags_at_the_end_of_an_mp3_are_no_audio(tmp_path: Path, tags: bytes, channels: int) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(mp3(5, channels))
    bare = decode(path, RATE, 30.0)
    path.write_bytes(mp3(5, channels) + tags)
    tagged = decode(path, RATE, 30.0)
    assert (tagged.length, tagged.duration_s, tagged.warnings) == (5 * RATE, 5.0, ())
    np.testing.assert_array_equal(tagged.samples, bare.samples)


@pytest.mark.parametrize("tags", ["ape", "ape without its header", "lyrics, id3", "lyrics, ape, id3"])
def test_an_mp3_longer_than_guessed_is_refused_with_tags_too(tmp_path: Path, tags: str) -> None:
    (tmp_path / "a.mp3").write_bytes(loud_first(20) + TAGS[tags])
    with pytest.raises(DataError, match=r"a\.mp3: an mp3 of varying bit rate without its length"):
        decode(tmp_path / "a.mp3", RATE, 30.0)


@pytest.mark.parametrize(
    "tag",
    [
        b"APETAGEX" + struct.pack("<IIII", 2000, 0, 0, 0) + bytes(8),
        b"APETAGEX" + struct.pack("<IIII", 2000, 1 << 31, 0, 0) + bytes(8),
        b"999999LYRICS200",
        b"+99999LYRICS200",
    ],
)
def test_tags_of_an_impossible_size_are_left_alone(tmp_path: Path, tag: bytes) -> None:
    path = write(tmp_path / "a.mp3", noise(44100), 44100)
    path.write_bytes(path.read_bytes() + tag)
    assert decode(path, RATE, 30.0).duration_s == 1.0
    path.write_bytes(path.read_bytes() + bytes(9000) + tag)
    with pytest.raises(DataError, match=r"a\.mp3: an mp3 of varying bit rate without its length"):
        decode(path, RATE, 30.0)


def test_an_mp3_shorter_than_guessed_is_read_whole(tmp_path: Path) -> None:
    silent_first = np.concatenate([np.zeros((44100, 1)), noise(44100)])
    (tmp_path / "a.mp3").write_bytes(mp3_without_its_length(silent_first))
    decoded = decode(tmp_path / "a.mp3", RATE, 30.0)
    assert decoded.duration_s == pytest.approx(2.0, abs=0.1)
    assert len(decoded.samples) == pytest.approx(2 * RATE, abs=0.1 * RATE)
