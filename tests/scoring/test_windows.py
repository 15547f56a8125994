from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import soundfile

from audiomos_cache.audio.decode import Audio, decode
from audiomos_cache.encoders.base import AudioEncoder
from audiomos_cache.errors import DataError
from audiomos_cache.input_spec import InputSpec
from audiomos_cache.scoring.windows import DecodedClip, WindowRule, Windows, clipped_share
from tests.support.scoring import music, wav

RATE = 24000


def cut(path: Path, rule: WindowRule, most_samples: int | None = None) -> Windows:
    return DecodedClip.read(path).cut(rule, RATE, most_samples)


def read_windows(path: Path) -> list[Audio]:
    """A clip in windows of 5 s, one after the other."""
    return cut(path, WindowRule("first", 5.0)).pieces


@pytest.mark.parametrize(
    ("seconds", "windows"), [(2.0, [2.0]), (5.0, [5.0]), (5.9, [5.0]), (6.0, [5.0, 1.0]), (10.5, [5.0, 5.0])]
)
def test_windows(tmp_path: Path, seconds: float, windows: list[float]) -> None:
    found = cut(wav(tmp_path / "a.wav", seconds), WindowRule("first", 5.0))
    assert [window.length / RATE for window in found.pieces] == windows
    assert [window.duration_s for window in found.pieces] == [seconds] * len(windows)
    assert (found.heard, found.may_be_several) == ((0.0, sum(windows)), True)


@pytest.mark.parametrize(("samples", "start"), [(144_002, 12_001), (144_003, 12_001), (120_001, 0), (120_003, 1)])
def test_the_centre_is_the_middle_rounded_down(tmp_path: Path, samples: int, start: int) -> None:
    path = wav(tmp_path / "a.wav", samples / RATE, RATE, channels=2)
    found = cut(path, WindowRule("centre", 5.0))
    [piece] = found.pieces
    whole = soundfile.read(path, dtype="float32")[0].mean(axis=1)
    assert len(whole) == samples
    np.testing.assert_allclose(piece.samples, whole[start : start + 120_000], atol=1e-7)
    assert (piece.length, piece.sample_rate_hz, piece.duration_s) == (120_000, RATE, samples / RATE)
    assert (found.heard, found.may_be_several) == ((start / RATE, (start + 120_000) / RATE), False)


def test_the_centre_is_cut_from_the_resampled_clip(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", 12.0, 44100, channels=2)
    found = cut(path, WindowRule("centre", 5.0))
    whole = decode(path, RATE, 60.0).samples
    np.testing.assert_array_equal(found.pieces[0].samples, whole[84_000:204_000])
    assert found.heard == (3.5, 8.5)


@pytest.mark.parametrize("kind", ["centre", "whole"])
@pytest.mark.parametrize("seconds", [2.0, 5.0])
def test_a_clip_that_is_no_longer_than_a_window_is_heard_whole(
    tmp_path: Path, kind: Literal["centre", "whole"], seconds: float
) -> None:
    path = wav(tmp_path / "a.wav", seconds, 44100)
    found = cut(path, WindowRule(kind, 5.0), most_samples=5 * RATE)
    [piece] = found.pieces
    np.testing.assert_array_equal(piece.samples, soundfile.read(path, dtype="float32")[0])
    assert (piece.sample_rate_hz, piece.length, piece.duration_s) == (44100, seconds * RATE, seconds)
    assert (found.heard, found.may_be_several) == ((0.0, seconds), False)


@pytest.mark.parametrize(
    ("most_samples", "limit"),
    [
        (None, "expected at most 5 s"),
        (5 * RATE, "expected at most 5 s"),
        (5 * RATE - 1, "and there is memory for 5 s at once"),
        (3 * RATE, "and there is memory for 3 s at once"),
    ],
)
def test_what_is_too_long_to_be_heard_at_once_is_refused(tmp_path: Path, most_samples: int | None, limit: str) -> None:
    path = wav(tmp_path / "a.wav", 6.0)
    with pytest.raises(DataError) as caught:
        cut(path, WindowRule("whole", 5.0), most_samples)
    assert str(caught.value) == (
        f"{path}: 6.0 s long, {limit}; all of it is heard at once: cut it, or score it where there is more memory"
    )


def test_the_centre_does_not_hold_the_whole_song(tmp_path: Path) -> None:
    clip = DecodedClip.read(wav(tmp_path / "a.wav", 12.0, 44100))
    for seconds in (5.0, 11.0):
        [piece] = clip.cut(WindowRule("centre", seconds), RATE).pieces
        assert piece.samples.base is None and piece.samples.flags.owndata


def test_a_silent_middle_is_an_error_and_not_a_score(tmp_path: Path) -> None:
    """Where another rule hears more than that, it is music."""
    path = tmp_path / "a.wav"
    samples = music(12.0, RATE)
    samples[3 * RATE : 9 * RATE] = 0
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    clip = DecodedClip.read(path)
    with pytest.raises(DataError) as caught:
        clip.cut(WindowRule("centre", 5.0), RATE)
    assert str(caught.value) == (
        f"{path}: its middle, all that is heard, is silent, peak 0, expected music; check the clip"
    )
    assert clip.cut(WindowRule("centre", 8.0), RATE).heard == (2.0, 10.0)
    assert len(clip.cut(WindowRule("first", 5.0), RATE).pieces) == 3


def test_one_clip_is_cut_by_several_rules(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", 12.0, 44100)
    clip, rules = DecodedClip.read(path), [WindowRule("centre", 4.0), WindowRule("first", 5.0), WindowRule("centre", 4)]
    first, windows, again = (clip.cut(rule, RATE) for rule in rules)
    np.testing.assert_array_equal(first.pieces[0].samples, again.pieces[0].samples)
    np.testing.assert_array_equal(first.pieces[0].samples[:RATE], windows.pieces[0].samples[-RATE:])
    assert clip.cut(WindowRule("centre", 4.0), 16000).pieces[0].length == 64_000, "at another rate"


@pytest.mark.parametrize(
    ("window", "pad_to_s", "mode", "rule", "said"),
    [
        ("first", None, "released", WindowRule("first", 30.0), "mean of 30 s"),
        ("first", 5.0, "mean", WindowRule("first", 5.0), "mean of 5 s"),
        ("centre", 10.0, "released", WindowRule("centre", 10.0), "centre 10 s"),
        ("centre", 10.0, "mean", WindowRule("first", 10.0), "mean of 10 s"),
        ("whole", 30.0, "mean", WindowRule("whole", 30.0), "whole"),
    ],
)
def test_what_is_heard_is_what_the_bundle_says_or_the_mean_of_all(
    audio: AudioEncoder, window: Any, pad_to_s: float | None, mode: Any, rule: WindowRule, said: str
) -> None:
    features = InputSpec.of(audio, None, pad_to_s, "float16", window=window)
    assert (WindowRule.of(features, mode), str(rule)) == (rule, said)


def test_windows_are_the_resampled_clip_cut(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", 12.0, 44100, channels=2)
    windows = read_windows(path)
    whole = decode(path, RATE, 60.0).samples
    np.testing.assert_array_equal(np.concatenate([window.samples for window in windows]), whole)


def test_the_first_window_is_what_extract_encodes(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", 5.5, 44100)
    (window,) = read_windows(path)
    np.testing.assert_allclose(window.samples, decode(path, RATE, 5.0).samples, atol=1e-7)


def test_a_short_clip_is_left_at_its_rate(tmp_path: Path) -> None:
    (window,) = read_windows(wav(tmp_path / "a.wav", 4.0, 44100))
    assert (window.sample_rate_hz, len(window.samples), window.length) == (44100, 4 * 44100, 4 * RATE)


def test_what_is_clipped() -> None:
    samples = np.zeros((100, 1), np.float32)
    samples[10:12] = 1  # two in a row
    samples[50] = -1
    assert clipped_share(samples) == 0
    samples[20:23] = 1
    samples[30:34] = -1.2  # an mp3 may leave full scale
    assert clipped_share(samples) == pytest.approx(7 / 100)
    both = np.concatenate((samples, np.zeros_like(samples)), axis=1)
    assert clipped_share(both) == pytest.approx(7 / 200)
    assert clipped_share(np.ones((2, 1), np.float32)) == 0


def test_one_clipped_channel_is_seen_before_channels_are_averaged(tmp_path: Path) -> None:
    samples = music(4.0, channels=2)
    samples[:, 0] = np.clip(samples[:, 0] * 50, -1, 1)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    (window,) = read_windows(tmp_path / "a.wav")
    (warning,) = window.warnings
    assert warning.startswith("clipped: ")


def test_loud_music_that_touches_full_scale_is_not_clipped(tmp_path: Path) -> None:
    sine = np.sin(2 * np.pi * 440 * np.arange(64000) / 16000)
    soundfile.write(tmp_path / "a.wav", sine / abs(sine).max() * 0.9985, 16000)
    assert read_windows(tmp_path / "a.wav")[0].warnings == ()


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_kinds_of_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, music(7.0, 44100, channels=2), 44100)
    first, second = read_windows(path)
    assert first.duration_s == second.duration_s == pytest.approx(7.0, abs=0.1)


def test_a_header_that_promises_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiomos_cache.audio.samples.MOST_SAMPLES", 50000)
    with pytest.raises(DataError, match="64000 samples to read, expected at most 50000; cut it into pieces"):
        read_windows(wav(tmp_path / "a.wav", 4.0))


def test_a_last_window_that_would_be_padded_begins_earlier_where_padding_is_heard(tmp_path: Path) -> None:
    clip = DecodedClip.read(wav(tmp_path / "a.wav", 12.0, RATE))
    padded, filled = (clip.cut(WindowRule("first", 5.0, fills_last=fills), RATE) for fills in (False, True))
    whole = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
    assert [len(piece.samples) / RATE for piece in padded.pieces] == [5.0, 5.0, 2.0]
    assert [len(piece.samples) / RATE for piece in filled.pieces] == [5.0, 5.0, 5.0]
    np.testing.assert_array_equal(filled.pieces[-1].samples, whole[7 * RATE :])
    assert filled.weights == padded.weights == [5 * RATE, 5 * RATE, 2 * RATE]
    assert filled.heard == padded.heard == (0.0, 12.0)
