import os
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xxhash

from audiomos_cache.audio import decode as decode_module
from audiomos_cache.audio import resample as resample_module
from audiomos_cache.audio.decode import decode, decoded_length, fit_length
from audiomos_cache.audio.resample import resample
from audiomos_cache.audio.source import EncodedAudio
from audiomos_cache.audio.wholeness import NO_LENGTH
from audiomos_cache.errors import DataError
from tests.support.audio import RATE, chord, encode, noise, soundfile_bytes, write


def sine(rate: int, seconds: float, hz: float = 440.0, peak: float = 0.5) -> np.ndarray:
    return peak * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


def float_wav(path: Path, samples: np.ndarray, rate: int) -> Path:
    return write(path, samples, rate, format="WAV", subtype="FLOAT")


def with_sizes(wav: bytes, riff: int, data: int) -> bytes:
    assert wav[36:40] == b"data"
    return wav[:4] + struct.pack("<I", riff) + wav[8:40] + struct.pack("<I", data) + wav[44:]


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return write(tmp_path / "clip.wav", sine(16000, 0.5), 16000, subtype="PCM_16")


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 44099, 48000, 96000, 192000])
def test_a_resampled_sine_is_the_analytic_sine(tmp_path: Path, rate: int) -> None:
    decoded = decode(float_wav(tmp_path / "a.wav", sine(rate, 1.0), rate), RATE, 30.0)
    assert decoded.samples.dtype == np.float32
    assert decoded.samples.shape == (RATE,)
    assert decoded.sample_rate_hz == RATE
    assert decoded.duration_s == 1.0
    assert decoded.warnings == ()
    inner = slice(2000, -2000)  # the ends hold the step from silence
    np.testing.assert_allclose(decoded.samples[inner], sine(RATE, 1.0)[inner], atol=2e-3)


def test_a_file_at_the_right_rate_is_not_changed(tmp_path: Path) -> None:
    samples = noise(5000)
    decoded = decode(float_wav(tmp_path / "a.wav", samples, RATE), RATE, 30.0)
    np.testing.assert_array_equal(decoded.samples, samples[:, 0])


def test_channels_are_averaged(tmp_path: Path) -> None:
    samples = noise(4000, channels=3)
    decoded = decode(float_wav(tmp_path / "a.wav", samples, RATE), RATE, 30.0)
    expected = (samples[:, 0].astype(float) + samples[:, 1] + samples[:, 2]) / 3
    np.testing.assert_allclose(decoded.samples, expected, atol=1e-7)


def test_opposite_channels_are_silent(tmp_path: Path) -> None:
    left = noise(4000)
    decoded = decode(float_wav(tmp_path / "a.wav", np.hstack([left, -left]), RATE), RATE, 30.0)
    assert not decoded.samples.any()
    assert decoded.warnings == (
        f"{tmp_path}/a.wav: silent as mono, peak 0: its channels, peak 0.3, cancel each other, expected music; check "
        "the file",
    )


@pytest.mark.parametrize(
    ("kinds", "error"),
    [
        ({"format": "WAV", "subtype": "PCM_24"}, 1e-6),
        ({"format": "WAV", "subtype": "PCM_16", "endian": "BIG"}, 1e-4),
        ({"format": "WAVEX", "subtype": "PCM_16"}, 1e-4),
        ({"format": "FLAC"}, 1e-4),
        ({"format": "OGG", "subtype": "VORBIS"}, 0.05),
        ({"format": "MP3"}, 0.1),
    ],
)
def test_the_content_decides_the_type(tmp_path: Path, kinds: dict[str, str], error: float) -> None:
    expected = sine(RATE, 1.0)
    path = write(tmp_path / "named.txt", expected, RATE, **kinds)
    decoded = decode(path, RATE, 30.0)
    assert decoded.samples.shape == (RATE,)
    np.testing.assert_allclose(decoded.samples, expected, atol=error)


@pytest.mark.parametrize("rate", [11025, 16000, 44100, 44099, 48000])
@pytest.mark.parametrize("seconds", [0.5, 0.7001])
def test_a_cut_file_equals_the_whole_file_cut(tmp_path: Path, rate: int, seconds: float) -> None:
    samples = noise(2 * rate)
    decoded = decode(float_wav(tmp_path / "a.wav", samples, rate), RATE, seconds)
    whole = resample(samples[:, 0], rate, RATE)
    assert len(whole) == 2 * RATE
    assert len(decoded.samples) == round(seconds * RATE)
    np.testing.assert_allclose(decoded.samples, whole[: len(decoded.samples)], atol=1e-6)
    assert decoded.duration_s == 2.0
    assert decoded.warnings == (f"{tmp_path}/a.wav: 2.00 s long, expected {seconds:g} s or less; the rest is cut",)


def test_only_what_is_needed_is_resampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []

    def counting(samples: np.ndarray, rate_hz: int, new_rate_hz: int) -> np.ndarray:
        lengths.append(len(samples))
        return resample(samples, rate_hz, new_rate_hz)

    monkeypatch.setattr(decode_module, "resample", counting)
    decode(float_wav(tmp_path / "a.wav", noise(160000), 16000), RATE, 1.0)
    assert 16000 < lengths[0] < 16100


def test_threads_give_what_one_thread_gives(tmp_path: Path) -> None:
    paths = [
        float_wav(tmp_path / f"{rate}-{n}.wav", noise(rate // 4), rate)
        for rate in (8000, 16000, 22050, 44100)
        for n in range(3)
    ]
    resample_module._resampler.cache_clear()
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda path: decode(path, RATE, 0.2).samples, paths))
    assert len(together) == 12
    for path, samples in zip(paths, together, strict=True):
        np.testing.assert_array_equal(samples, decode(path, RATE, 0.2).samples)


def test_the_hash_is_of_the_bytes(wav: Path) -> None:
    decoded = decode(wav, RATE, 30.0)
    assert decoded.file_hash == xxhash.xxh3_128(wav.read_bytes()).digest()
    assert len(decoded.file_hash) == 16


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.wav: file not found, expected an audio file; add it"):
        decode(tmp_path / "gone.wav", RATE, 30.0)


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder, expected an audio file"):
        decode(tmp_path, RATE, 30.0)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(DataError, match=r"a\.wav: empty file \(0 bytes\), expected audio; get it again"):
        decode(tmp_path / "a.wav", RATE, 30.0)


@pytest.mark.parametrize("content", [b"a prompt, not music\n" * 99, b"RIFF\x24\0\0\0WAVEfmt ", b"fLaC", b"\0"])
def test_not_audio(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.wav: not audio, or damaged, expected a whole wav, flac"):
        decode(tmp_path / "a.wav", RATE, 30.0)


@pytest.mark.parametrize("left_out", [1, 2, 8000, 15998])
def test_truncated_wav(wav: Path, left_out: int) -> None:
    wav.write_bytes(wav.read_bytes()[:-left_out])
    found = 16000 - left_out
    with pytest.raises(DataError, match=rf"clip\.wav: truncated, {found} bytes of audio, expected 16000; get it again"):
        decode(wav, RATE, 30.0)


def test_truncated_wav_behind_other_chunks(wav: Path) -> None:
    content = wav.read_bytes()
    wav.write_bytes(content[:36] + b"JUNK\x03\0\0\0abc\0" + content[36:-100])
    with pytest.raises(DataError, match="truncated, 15900 bytes of audio, expected 16000"):
        decode(wav, RATE, 30.0)


def test_truncated_flac(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(RATE), RATE)
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(DataError, match=r"a\.flac: truncated, \d+ samples, expected 24000; get it again"):
        decode(path, RATE, 30.0)


@pytest.mark.parametrize("riff", [0, 8, 36, 0xFFFFFFFF])
@pytest.mark.parametrize("data", [0x7FFFF000, 0xFFFFFFFF])
def test_a_streamed_wav_is_read_to_its_end(wav: Path, riff: int, data: int) -> None:
    expected = decode(wav, RATE, 30.0)
    wav.write_bytes(with_sizes(wav.read_bytes(), riff, data))
    decoded = decode(wav, RATE, 30.0)
    np.testing.assert_array_equal(decoded.samples, expected.samples)
    assert decoded.duration_s == 0.5
    assert decoded.file_hash != expected.file_hash
    assert decoded.warnings == (f"{wav}: {NO_LENGTH}",)


@pytest.mark.parametrize("riff", [0, 36, 16036, 0xFFFFFFFF])
@pytest.mark.parametrize("tail", [b"", b"id3 \x04\0\0\0abcd", bytes(9000)])
def test_an_empty_wav_has_no_samples_whatever_follows(wav: Path, riff: int, tail: bytes) -> None:
    wav.write_bytes(with_sizes(wav.read_bytes()[:44], riff, 0) + tail)
    with pytest.raises(DataError, match=r"clip\.wav: no samples.*, expected one or more; get it again"):
        decode(wav, RATE, 30.0)


def test_a_streamed_flac_is_read_to_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(RATE), RATE)
    expected = decode(path, RATE, 30.0)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO's total samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    decoded = decode(path, RATE, 30.0)
    np.testing.assert_array_equal(decoded.samples, expected.samples)
    assert decoded.warnings == (f"{path}: {NO_LENGTH}",)


@pytest.mark.parametrize("kind", ["WAV", "OGG"])
def test_no_samples(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "a.wav", np.zeros((0, 1)), RATE, format=kind)
    with pytest.raises(DataError, match=r"a\.wav: no samples, expected one or more"):
        decode(path, RATE, 30.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_samples(tmp_path: Path, value: float) -> None:
    samples = noise(RATE, channels=2)
    samples[7, 1] = value
    with pytest.raises(DataError, match=r"a\.wav: 1 NaN or infinite samples, expected finite ones"):
        decode(float_wav(tmp_path / "a.wav", samples, RATE), RATE, 30.0)


def test_silence_warns(tmp_path: Path) -> None:
    path = float_wav(tmp_path / "a.wav", sine(RATE, 1.0, peak=9e-5), RATE)
    assert decode(path, RATE, 30.0).warnings == (f"{path}: silent, peak 9e-05, expected music; check the file",)
    assert decode(float_wav(path, sine(RATE, 1.0, peak=2e-4), RATE), RATE, 30.0).warnings == ()


def test_a_constant_is_silence(tmp_path: Path) -> None:
    path = float_wav(tmp_path / "a.wav", np.full(RATE, 0.3), RATE)
    found = "silent, peak 0, all samples about 0.3"
    assert decode(path, RATE, 30.0).warnings == (f"{path}: {found}, expected music; check the file",)
    audible = float_wav(path, sine(RATE, 1.0, peak=2e-4) + 0.3, RATE)
    assert decode(audible, RATE, 30.0).warnings == ()


def test_samples_on_the_scale_of_int16_are_refused(tmp_path: Path) -> None:
    path = float_wav(tmp_path / "a.wav", sine(RATE, 1.0, peak=30000), RATE)
    with pytest.raises(DataError, match=r"a\.wav: samples of up to 30000, expected full scale to be -1 to 1; divide"):
        decode(path, RATE, 30.0)


@pytest.mark.parametrize("rate", [1, 44, 999])
def test_rates_that_no_music_has(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "a.wav", noise(20000), rate, subtype="PCM_16")
    with pytest.raises(DataError, match=rf"a\.wav: a sample rate of {rate} Hz, expected 1000 to 1000000"):
        decode(path, RATE, 30.0)


def test_one_sample_is_short_and_usable(tmp_path: Path) -> None:
    path = float_wav(tmp_path / "a.wav", np.array([0.5, -0.5]), 48000)
    decoded = decode(path, RATE, 30.0)
    assert decoded.samples.shape == (1,)
    assert decoded.warnings == (f"{path}: 0.000 s long, expected 0.1 s or more; check the file",)


def test_clipping_does_not_warn(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", sine(RATE, 1.0, peak=3.0), RATE, subtype="PCM_16")
    assert decode(path, RATE, 1.0).warnings == ()


def test_fit_length_pads_and_cuts() -> None:
    samples = np.array([1, 2, 3], np.float32)
    assert fit_length(samples, 5).tolist() == [1, 2, 3, 0, 0]
    assert fit_length(samples, 2).tolist() == [1, 2]
    assert fit_length(samples, 3).tolist() == [1, 2, 3]
    assert fit_length(samples, 5).dtype == np.float32


@pytest.mark.parametrize(
    ("container", "codec", "error"),
    [
        ("wav", "pcm_s16le", 0),
        ("flac", "flac", 0),
        ("mp3", "libmp3lame", 1200),
        ("ipod", "aac", 0),
        ("webm", "libopus", 200),
    ],
)
def test_a_length_by_the_header_alone(tmp_path: Path, container: str, codec: str, error: int) -> None:
    (tmp_path / "a").write_bytes(content := encode(chord(2.5, 48000), 48000, container, codec))
    for source in (tmp_path / "a", EncodedAudio("a", content)):
        assert decoded_length(source, RATE, 30.0) == pytest.approx(2.5 * RATE, abs=error)
        assert decoded_length(source, RATE, 2.0) == 2 * RATE


@pytest.mark.parametrize("name", ["a.raw", "a.wav", "a.mp3"])
@pytest.mark.parametrize("kind", ["WAV", "MP3"])
def test_a_length_does_not_depend_on_the_name(
    tmp_path: Path, name: str, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(soundfile_bytes(chord(2.5), 44100, format=kind) + bytes(5000) * (kind == "MP3"))
    assert decoded_length(path, RATE, 30.0) == pytest.approx(2.5 * RATE, abs=0.05 * RATE)
    assert decode(path, RATE, 30.0).duration_s == 2.5
    assert capfd.readouterr() == ("", "")


def test_the_length_of_what_is_no_audio(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_bytes(b"a prompt")
    assert [decoded_length(tmp_path / name, RATE, 30.0) for name in ("pipe", "text", "gone", ".", "a" * 5000)] == [
        0
    ] * 5


@pytest.mark.process
def test_import_does_not_load_torch() -> None:
    code = "import sys, audiomos_cache.audio.decode; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
