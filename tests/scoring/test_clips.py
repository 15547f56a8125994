"""A clip in every form in which libraries give one: the samples are the file's, or the message says what was found."""

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audiomos_cache.audio.decode import Audio, read_channels
from audiomos_cache.audio.source import EncodedAudio
from audiomos_cache.errors import DataError
from audiomos_cache.scoring.clips import file_name, is_clip, read_clip
from tests.support.scoring import music

RATE = 16000
STEREO = music(1.0, RATE, channels=2)  # (n, channels)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 bits, as most files."""
    path = tmp_path_factory.mktemp("audio") / "song.wav"
    soundfile.write(path, STEREO, RATE, subtype="PCM_16")
    return path


def samples_of(given: Any, rate: float | None = None) -> np.ndarray:
    clip = read_clip("clip 0", given, rate)
    audio = read_channels(clip, None, RATE) if isinstance(clip, EncodedAudio) else clip
    assert isinstance(audio, Audio)
    assert (audio.sample_rate_hz, audio.length, audio.duration_s) == (RATE, len(audio.samples), 1.0)
    assert (audio.samples.dtype, audio.samples.flags.c_contiguous) == (np.float32, True)
    return audio.samples


def refused(given: Any, rate: float | None = RATE) -> str:
    with pytest.raises(DataError) as caught:
        clip = read_clip("clip 0", given, rate)
        assert isinstance(clip, EncodedAudio)
        read_channels(clip, None, RATE)
    return str(caught.value)


FORMS = {
    "gradio": lambda path: (RATE, soundfile.read(path, dtype="int16")[0]),
    "soundfile": soundfile.read,
    "soundfile, float32": lambda path: soundfile.read(path, dtype="float32"),
    "soundfile, int32": lambda path: soundfile.read(path, dtype="int32"),
    "librosa": lambda path: (soundfile.read(path, dtype="float32")[0].T, RATE),
    "torchaudio": lambda path: (torch.from_numpy(soundfile.read(path, dtype="float32")[0].T), RATE),
    "a rate of NumPy": lambda path: (np.int64(RATE), torch.from_numpy(soundfile.read(path, dtype="int16")[0])),
    "datasets": lambda path: {"array": soundfile.read(path)[0].T, "sampling_rate": RATE, "path": "song.wav"},
    "datasets, as lists": lambda path: {"array": soundfile.read(path)[0].tolist(), "sampling_rate": RATE},
    "datasets, not decoded": lambda path: {"bytes": path.read_bytes(), "path": None},
    "transformers": lambda path: {"raw": soundfile.read(path)[0], "sampling_rate": RATE},
    "torchcodec": lambda path: SimpleNamespace(get_all_samples=lambda: decoded(path)),
    "torchcodec's samples": lambda path: decoded(path),
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
}


def decoded(path: Path) -> Any:
    return SimpleNamespace(data=torch.from_numpy(soundfile.read(path, dtype="float32")[0].T), sample_rate=RATE)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_samples_of_the_file(form: str, file: Path) -> None:
    expected = soundfile.read(file, dtype="float32", always_2d=True)[0]
    given: Any = FORMS[form]
    np.testing.assert_array_equal(samples_of(given(file)), expected)
    assert is_clip(given(file))


def test_an_open_file(file: Path) -> None:
    with file.open("rb") as opened:
        np.testing.assert_array_equal(samples_of(opened), soundfile.read(file, always_2d=True, dtype="float32")[0])


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32"])
def test_integers_are_divided_by_their_full_scale(kind: str) -> None:
    info = np.iinfo(kind)
    middle = 0 if info.min < 0 else (info.max + 1) // 2
    given = np.tile(np.array([info.min, middle, info.max], kind), RATE // 3 + 1)[:RATE]
    step = 2 / (info.max - info.min + 1)
    for each in (given, torch.from_numpy(given)):
        np.testing.assert_allclose(samples_of(each, RATE)[:3, 0], [-1, 0, 1 - step], atol=1e-9)


def test_24_or_16_bits_in_int32_are_told_from_music_that_is_hardly_there() -> None:
    mono = STEREO[:, 0].astype(float) / np.abs(STEREO[:, 0]).max()
    for bits, peak in ((24, 8388607), (16, 32767)):
        given = (mono * peak).astype(np.int32)
        for each in (given, torch.from_numpy(given), given.astype(">i4")):
            message = (
                f"clip 0: int32 samples of at most {peak}: 24 bits? shift them by 8; 16 bits? give int16, {FLOATS}"
            )
            assert refused(each) == message
        np.testing.assert_allclose(samples_of(given << (32 - bits), RATE)[:, 0], mono, atol=2 / peak)
    assert refused(np.full(9, -(1 << 23), np.int32)).startswith("clip 0: int32 samples of at most 8388608: ")
    assert samples_of(np.full(RATE, 1 + (1 << 23), np.int32), RATE).max() == pytest.approx(2**-8)
    assert not samples_of(np.zeros(RATE, np.int32), RATE).any()


def test_a_masked_array_without_a_masked_sample_is_an_array() -> None:
    np.testing.assert_array_equal(samples_of(np.ma.masked_array(STEREO), RATE), STEREO)


def test_integers_of_another_byte_order() -> None:
    given = np.arange(-8000, 8000).astype(">i2")
    np.testing.assert_array_equal(samples_of(given, RATE), samples_of(given.astype("<i2"), RATE))


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_channels_may_come_first_or_last(channels: int) -> None:
    expected = music(1.0, RATE, channels=channels)
    for given in (
        expected,
        expected.T,
        np.asfortranarray(expected),
        torch.from_numpy(expected),
        expected.astype(float),
    ):
        np.testing.assert_array_equal(samples_of(given, RATE), expected)


SHAPES = r"expected (samples,), (channels, samples) or (samples, channels), of at most 8 channels"


@pytest.mark.parametrize("shape", [(3, 4), (8, 8), (9, 400), (400, 9), (1, 1, 9), (2, 1, 400), ()])
def test_shapes_that_say_nothing(shape: tuple[int, ...]) -> None:
    assert refused(np.zeros(shape)) == f"clip 0: an array of shape {shape}, {SHAPES}"


@pytest.mark.parametrize("shape", [(0,), (0, 2), (2, 0)])
def test_no_samples(shape: tuple[int, ...]) -> None:
    assert refused(np.zeros(shape)).startswith("clip 0: no samples, expected one or more")


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (44, "clip 0: a sample rate of 44 Hz, expected 1000 to 1000000; 44 kHz is 44000"),
        (44.1, "clip 0: a sample rate of 44.1 Hz, expected 1000 to 1000000; 44.1 kHz is 44100"),
        (24000.5, "clip 0: a sample rate of 24000.5 Hz, expected a whole number"),
        (float("nan"), "clip 0: a sample rate of nan Hz, expected 1000 to 1000000"),
        (None, "clip 0: an array at a sample rate of None; give sample_rate, a whole number of Hz"),
        ("24k", "clip 0: an array at a sample rate of '24k'; give sample_rate, a whole number of Hz"),
        (True, "clip 0: an array at a sample rate of True; give sample_rate, a whole number of Hz"),
    ],
)
def test_rates(rate: Any, message: str) -> None:
    assert refused(STEREO, rate) == message
    assert refused({"array": STEREO, "sampling_rate": rate}, None) == message


def test_samples_with_a_rate_of_their_own_keep_it() -> None:
    for given in ((RATE, STEREO), {"array": STEREO, "sampling_rate": RATE}):
        np.testing.assert_array_equal(samples_of(given, 48000), STEREO)
    for given in ({"raw": STEREO}, {"array": STEREO, "sampling_rate": None}):
        np.testing.assert_array_equal(samples_of(given, RATE), STEREO)


EXPECTED = (
    "expected a path, an array or a tensor, (rate, samples), a dict with array and sampling_rate, or with bytes, or "
    "with path, or an audio file as bytes or opened as binary"
)
FLOATS = "expected floats from -1 to 1, or integers of 8, 16 or 32 bits"


class Segment:
    """As pydub's: it has a length and slices, and none of them are samples."""

    def __len__(self) -> int:
        return 3000

    def __iter__(self) -> Iterator["Segment"]:
        return iter([self])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, f"clip 0: found None, {EXPECTED}"),
        (7, f"clip 0: found 7, {EXPECTED}"),
        (Segment(), f"clip 0: found a Segment, {EXPECTED}"),
        ((1, 2), f"clip 0: found a tuple of (int, int), {EXPECTED}"),
        (("a.wav", "b.wav"), f"clip 0: found a tuple of (str, str), {EXPECTED}"),
        ((STEREO, RATE, "en"), f"clip 0: found a tuple of (ndarray, int, str), {EXPECTED}"),
        ((RATE, "a.wav"), "clip 0: found 'a.wav' with a sample rate; give the path alone"),
        ((Path("m/a.wav"), RATE), "clip 0: found 'm/a.wav' with a sample rate; give the path alone"),
        (
            ("24000", STEREO),
            f"clip 0: found a tuple of (str, ndarray); the sample rate '24000' is a string, {EXPECTED}",
        ),
        ("", "clip 0: found '', expected the path of an audio file"),
        (SimpleNamespace(shape=5), f"clip 0: found a SimpleNamespace, {EXPECTED}"),
        ((RATE, None), f"clip 0: found None, {EXPECTED}"),
        ({}, f"clip 0: found a dict with nothing in it, {EXPECTED}"),
        ({"waveform": STEREO, "rate": 1}, f"clip 0: found a dict with 'waveform', 'rate', {EXPECTED}"),
        ({"bytes": None, "path": None}, f"clip 0: found a dict with 'bytes', 'path', {EXPECTED}"),
        ({"array": None, "sampling_rate": RATE}, f"clip 0: found a dict with 'array', 'sampling_rate', {EXPECTED}"),
        ({"bytes": "RIFF"}, "clip 0: expected the bytes of an audio file, found text; open it as binary"),
        (io.StringIO("RIFF"), "clip 0: expected the bytes of an audio file, found text; open it as binary"),
        (SimpleNamespace(read=lambda: STEREO), "clip 0: expected the bytes of an audio file, found an array of shape "),
        (["a.wav"], f"clip 0: samples of <U5, {FLOATS}"),
        ([[0.0, 1.0], [0.0]], "clip 0: setting an array element with a sequence."),
        (
            np.ma.masked_array(STEREO, STEREO > 0.05),
            f"clip 0: samples under a mask; give them without one, .filled(0), {FLOATS}",
        ),
        (np.zeros(0, np.int32), "clip 0: no samples, expected one or more"),
        (np.zeros(9, np.int64), f"clip 0: samples of int64, {FLOATS}"),
        (np.zeros(9, bool), f"clip 0: samples of bool, {FLOATS}"),
        (np.zeros(9, complex), f"clip 0: samples of complex128, {FLOATS}"),
        (torch.zeros(9, dtype=torch.int64), f"clip 0: samples of int64, {FLOATS}"),
        (torch.zeros(9, device="meta"), "clip 0: "),
        (torch.ones(3, 3).to_sparse(), "clip 0: "),
        (np.full(9, np.nan), "clip 0: 9 NaN or infinite samples, expected finite ones"),
        (np.full(9, 1e39), "clip 0: 9 NaN or infinite samples, expected finite ones"),
        (STEREO * 32768, "clip 0: samples of up to "),
        (b"song.wav", "clip 0: not audio, or damaged, expected a whole wav, "),
        ("a\0b.wav", r"'a\x00b.wav': no file can have this name"),
    ],
)
def test_what_is_no_clip(given: Any, message: str) -> None:
    assert refused(given).startswith(message)


def test_a_file_that_was_read_before(file: Path) -> None:
    seek = "clip 0: no bytes, expected an audio file; of one that was read or written to before, seek(0)"
    written = io.BytesIO()
    written.write(file.read_bytes())
    assert refused(written) == seek
    with file.open("rb") as opened:
        opened.read()
        assert refused(opened) == seek
    assert refused(opened) == "clip 0: cannot be read (ValueError: read of closed file)"


def test_encoded_files_without_finite_samples() -> None:
    for samples, message in ((np.zeros(0), "no samples, "), (np.array([0.0, np.inf]), "1 NaN or infinite samples, ")):
        written = io.BytesIO()
        soundfile.write(written, samples, RATE, "FLOAT", format="WAV")
        assert refused(written.getvalue()).startswith(f"clip 0: {message}")


def test_what_is_given_may_change_afterwards() -> None:
    given, content = STEREO.copy(), bytearray(b"RIFF")
    audio, encoded = read_clip("clip 0", given, RATE), read_clip("clip 0", content, None)
    given[:] = 0
    content[:] = b"FFIR"
    assert isinstance(audio, Audio) and isinstance(encoded, EncodedAudio)
    np.testing.assert_array_equal(audio.samples, STEREO)
    assert encoded.content == b"RIFF"


@pytest.mark.parametrize("given", [[], ["a.wav"], ("a.wav", "b.wav"), (), {}, {"a": STEREO}, {"a.wav"}, range(3), None])
def test_no_single_clips(given: Any) -> None:
    assert not is_clip(given)
    assert not is_clip(np.array(["a.wav", "b.wav"]))
    assert not is_clip(np.array([STEREO, "b.wav"], dtype=object))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("songs/a.wav", "a.wav"),
        (Path("songs/a.wav"), "a.wav"),
        ({"bytes": b"", "path": "songs/a.wav"}, "a.wav"),
        ({"bytes": b"", "path": None}, None),
        (STEREO, None),
    ],
)
def test_the_name_of_a_file(given: Any, name: str | None) -> None:
    assert file_name(given) == name
