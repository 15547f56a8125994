"""libsndfile and FFmpeg read the same from a whole file that both can read."""

from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from audiomos_cache.audio import samples as samples_module
from audiomos_cache.audio.ffmpeg import decode_samples
from audiomos_cache.audio.samples import MOST_SAMPLES, read_samples
from audiomos_cache.errors import DataError
from tests.support.audio import RATE, chord, encode, noise, soundfile_bytes, write

LOSSLESS = {
    f"{container}, {subtype}": {"format": container, "subtype": subtype}
    for container, subtypes in {
        "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
        "WAVEX": ("PCM_16", "PCM_24", "FLOAT"),
        "RF64": ("PCM_16", "FLOAT"),
        "W64": ("PCM_16", "PCM_24"),
        "AIFF": ("PCM_S8", "PCM_16", "PCM_24", "FLOAT"),
        "CAF": ("PCM_16", "ALAC_16", "ALAC_24"),
        "AU": ("PCM_16", "FLOAT"),
        "FLAC": ("PCM_16", "PCM_24"),
    }.items()
    for subtype in subtypes
}
LOSSY = {
    "mp3": {"format": "MP3"},
    "mp3, varying": {"format": "MP3", "bitrate_mode": "VARIABLE"},
    "vorbis": {"format": "OGG"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}
LONGEST_FRAME = {"mp3": 1152, "mp3, varying": 1152, "vorbis": 2048, "opus": 960}


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("channels", [1, 2])
def test_both_decoders_read_the_same_samples(kind: str, channels: int) -> None:
    content = soundfile_bytes(noise(9000, channels), 44100, **LOSSLESS[kind])
    samples, rate, frames, warnings = read_samples("a", content, None, RATE)
    assert (rate, frames, warnings) == (44100, 9000, ())
    np.testing.assert_array_equal(samples, decode_samples("a", content, None, MOST_SAMPLES))


@pytest.mark.parametrize("kind", LOSSY)
@pytest.mark.parametrize("channels", [1, 2])
def test_both_decoders_read_nearly_the_same_of_lossy_audio(kind: str, channels: int) -> None:
    content = soundfile_bytes(chord(3.0, 48000, channels), 48000, **LOSSY[kind])
    expected, rate = soundfile.read(BytesIO(content), dtype="float32", always_2d=True)
    samples, _, frames, _ = read_samples("a", content, None, RATE)
    np.testing.assert_array_equal(samples, expected)
    by_ffmpeg = decode_samples("a", content, None, MOST_SAMPLES)
    assert rate == 48000
    assert abs(len(by_ffmpeg) - frames) <= LONGEST_FRAME[kind]
    both = min(len(by_ffmpeg), frames)
    np.testing.assert_allclose(by_ffmpeg[:both], samples[:both], atol=1e-3)


@pytest.mark.parametrize(
    ("container", "codec", "options", "rate", "error"),
    [
        ("ipod", "aac", {}, 44100, 0.02),
        ("ipod", "alac", {}, 44100, 2e-5),
        ("mp4", "aac", {}, 48000, 0.02),
        ("adts", "aac", {}, 44100, None),
        ("webm", "libopus", {}, 48000, 0.02),
        ("ogg", "libopus", {}, 48000, 0.02),
        ("matroska", "flac", {}, 44100, 2e-5),
        ("ogg", "flac", {}, 44100, 2e-5),
        ("mov", "pcm_s16le", {}, 44100, 2e-5),
        ("wav", "pcm_s16le", {"rf64": "always"}, 44100, 2e-5),
    ],
)
def test_what_is_decoded_is_what_was_encoded(
    container: str, codec: str, options: dict[str, str], rate: int, error: float | None
) -> None:
    music = chord(3.0, rate)
    samples, found_rate, frames, _ = read_samples(
        "a", encode(music, rate, container, codec, options, quality={"b": "192k"}), None, RATE
    )
    assert (found_rate, frames, samples.dtype) == (rate, len(samples), np.float32)
    assert len(samples) == pytest.approx(len(music), abs=2 * 1024)
    if error is not None:
        both = min(len(samples), len(music))
        np.testing.assert_allclose(samples[:both], music[:both], atol=error)


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
def test_opus_has_the_rate_that_libsndfile_gives_it(rate: int) -> None:
    """That of the music before it was encoded; FFmpeg decodes it at 48 kHz."""
    content = soundfile_bytes(chord(3.0, rate), rate, format="OGG", subtype="OPUS")
    expected, _ = soundfile.read(BytesIO(content), dtype="float32")
    samples, found_rate, frames, _ = read_samples("a", content, None, RATE)
    assert (found_rate, frames) == (rate, 3 * rate)
    np.testing.assert_array_equal(samples, expected)
    start = read_samples("a", content, RATE, RATE)[0]
    assert rate <= len(start) < 1.01 * rate
    np.testing.assert_array_equal(start, expected[: len(start)])


@pytest.mark.parametrize("container", ["flac", "ogg", "matroska"])
@pytest.mark.parametrize("count", [500, 5000, 50_000])
def test_a_flac_that_ffmpeg_wrote_to_a_pipe(container: str, count: int) -> None:
    """Its MD5 is that of its samples only by chance."""
    music = noise(count)
    samples = read_samples("a", encode(music, 24000, container, "flac", piped=True), None, RATE)[0]
    np.testing.assert_allclose(samples, music, atol=2e-5)


@pytest.mark.parametrize("seed", range(3))
def test_whole_files_of_any_length_are_read(seed: int) -> None:
    """By all that encode here, of 0.1 to 3 s, at several rates."""
    draw = np.random.default_rng(seed)
    for kinds in ({"format": "MP3"}, {"format": "OGG"}, {"format": "OGG", "subtype": "OPUS"}, {"format": "FLAC"}):
        rate = int(draw.choice([16000, 24000, 48000]))
        music = noise(round(rate * draw.uniform(0.1, 3)), int(draw.integers(1, 3)))
        music[: len(music) // 2] = 0
        _, found_rate, frames, warnings = read_samples("a", soundfile_bytes(music, rate, **kinds), None, RATE)
        assert (found_rate, frames, warnings) == (rate, len(music), ())
    for container, codec in (("mp3", "libmp3lame"), ("ogg", "libopus"), ("webm", "libopus"), ("ipod", "aac")):
        music = noise(round(48000 * draw.uniform(0.1, 3)), 2)
        content = encode(music, 48000, container, codec)
        _, rate, frames, warnings = read_samples("a", content, None, RATE)
        assert frames / rate == pytest.approx(len(music) / 48000, abs=0.03)
        assert warnings == ()


@pytest.mark.parametrize("channels", [1, 3, 8, 9, 24])
def test_ffmpeg_decodes_any_number_of_channels(channels: int) -> None:
    content = soundfile_bytes(noise(900, channels), 44100, format="WAV", subtype="FLOAT")
    by_ffmpeg = decode_samples("a", content, None, MOST_SAMPLES)
    np.testing.assert_array_equal(by_ffmpeg, read_samples("a", content, None, RATE)[0])


def test_bw64_is_read() -> None:
    """BW64 (ITU-R BS.2088) is RF64 by another name."""
    content = soundfile_bytes(noise(9000), 44100, format="RF64")
    expected = read_samples("a", content, None, RATE)[0]
    np.testing.assert_array_equal(read_samples("a", b"BW64" + content[4:], None, RATE)[0], expected)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3", "OGG", "AIFF"])
def test_of_a_long_file_only_what_is_needed_is_decoded(kind: str) -> None:
    content = soundfile_bytes(chord(8.0), 44100, format=kind)
    whole, _, frames, _ = read_samples("a", content, None, RATE)
    start, _, all_frames, _ = read_samples("a", content, RATE, RATE)
    assert 44100 <= len(start) < 44300
    assert all_frames == frames == len(whole)
    np.testing.assert_array_equal(start, whole[: len(start)])


@pytest.mark.parametrize(("container", "codec"), [("ipod", "aac"), ("webm", "libopus"), ("mp3", "libmp3lame")])
def test_of_a_long_file_that_ffmpeg_decodes_too(container: str, codec: str) -> None:
    content = encode(chord(8.0, 48000), 48000, container, codec)
    whole, _, frames, _ = read_samples("a", content, None, RATE)
    start, _, all_frames, _ = read_samples("a", content, RATE, RATE)
    assert 48000 <= len(start) < 48200
    assert all_frames == pytest.approx(frames, abs=1200)
    np.testing.assert_array_equal(start, whole[: len(start)])


def test_samples_are_bounded_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples_module, "MOST_SAMPLES", 50_000)
    for content in (
        soundfile_bytes(noise(26_000, 2), 44100, format="WAV"),
        encode(chord(1.2), 44100, "ipod", "aac"),
        soundfile_bytes(noise(3_000), 1000, format="WAV"),  # 72,000 at the new rate
    ):
        with pytest.raises(DataError, match=r"^a: \d+ samples|^a: more than 50000 samples"):
            read_samples("a", content, None, RATE)


@pytest.mark.parametrize(
    "playlist",
    ["ffconcat version 1.0\nfile {}\n", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"],
)
def test_a_list_of_files_is_not_followed(tmp_path: Path, playlist: str) -> None:
    """FFmpeg would read what it names."""
    named = write(tmp_path / "private.wav", noise(9000), 44100)
    with pytest.raises(DataError, match=r"^a: not audio, or damaged"):
        read_samples("a", playlist.format(named).encode(), None, RATE)


@pytest.mark.parametrize(("kind", "subtype"), [("VOC", "PCM_16"), ("NIST", "PCM_16"), ("IRCAM", "FLOAT")])
def test_what_only_libsndfile_knows_is_named(kind: str, subtype: str) -> None:
    content = soundfile_bytes(noise(900), 16000, format=kind, subtype=subtype)
    with pytest.raises(DataError, match=f"^a: {kind} audio, expected wav, flac, .*; convert it"):
        read_samples("a", content, None, RATE)


def test_a_film_without_sound() -> None:
    with av.open(file := BytesIO(), "w", format="matroska") as film:
        stream = film.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        film.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        film.mux(stream.encode(None))
    with pytest.raises(DataError, match=r"^a: no audio in it, expected some"):
        read_samples("a", file.getvalue(), None, RATE)
