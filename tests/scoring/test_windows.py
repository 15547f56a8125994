from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiomos_cache.audio.decode import decode
from audiomos_cache.errors import DataError
from audiomos_cache.scoring.windows import clipped_share, read_windows
from tests.support.scoring import music, wav

RATE = 24000


@pytest.mark.parametrize(
    ("seconds", "windows"), [(2.0, [2.0]), (5.0, [5.0]), (5.9, [5.0]), (6.0, [5.0, 1.0]), (10.5, [5.0, 5.0])]
)
def test_windows(tmp_path: Path, seconds: float, windows: list[float]) -> None:
    found = read_windows(wav(tmp_path / "a.wav", seconds), RATE, 5.0)
    assert [window.length / RATE for window in found] == windows
    assert [window.duration_s for window in found] == [seconds] * len(windows)


def test_windows_are_the_resampled_clip_cut(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", 12.0, 44100, channels=2)
    windows = read_windows(path, RATE, 5.0)
    whole = decode(path, RATE, 60.0).samples
    np.testing.assert_array_equal(np.concatenate([window.samples for window in windows]), whole)


def test_the_first_window_is_what_extract_encodes(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", 5.5, 44100)
    (window,) = read_windows(path, RATE, 5.0)
    np.testing.assert_allclose(window.samples, decode(path, RATE, 5.0).samples, atol=1e-7)


def test_a_short_clip_is_left_at_its_rate(tmp_path: Path) -> None:
    (window,) = read_windows(wav(tmp_path / "a.wav", 4.0, 44100), RATE, 5.0)
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
    (window,) = read_windows(tmp_path / "a.wav", RATE, 5.0)
    (warning,) = window.warnings
    assert warning.startswith("clipped: ")


def test_loud_music_that_touches_full_scale_is_not_clipped(tmp_path: Path) -> None:
    sine = np.sin(2 * np.pi * 440 * np.arange(64000) / 16000)
    soundfile.write(tmp_path / "a.wav", sine / abs(sine).max() * 0.9985, 16000)
    assert read_windows(tmp_path / "a.wav", RATE, 5.0)[0].warnings == ()


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_kinds_of_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, music(7.0, 44100, channels=2), 44100)
    first, second = read_windows(path, RATE, 5.0)
    assert first.duration_s == second.duration_s == pytest.approx(7.0, abs=0.1)


def test_a_header_that_promises_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiomos_cache.audio.samples.MOST_SAMPLES", 50000)
    with pytest.raises(DataError, match="64000 samples to read, expected at most 50000; cut it into pieces"):
        read_windows(wav(tmp_path / "a.wav", 4.0), RATE, 5.0)
