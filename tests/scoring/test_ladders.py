"""What each rung does to samples, measured by other means than those it is made with."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import correlate, welch

from audiomos_cache.scoring.ladders import (
    CLIPPING,
    LOW_PASS,
    NOISE,
    PROMPTS,
    QUALITY,
    RATE_HZ,
    SEGMENTS,
    add_noise,
    clip_hard,
    low_pass,
    segments_in,
    shuffle_segments,
)
from tests.support.check import music

ALL = [(ladder, rung) for ladder in (*QUALITY, SEGMENTS, PROMPTS) for rung in ladder.rungs]


@pytest.mark.parametrize("snr_db", [30.0, *NOISE.rungs])
def test_noise_is_so_far_below_the_music(snr_db):
    clean = music(4, 0)
    noisy = add_noise(clean, snr_db, seed=1)
    gain = noisy @ clean / (clean @ clean)
    noise = noisy - gain * clean
    assert 10 * np.log10(np.sum((gain * clean) ** 2) / np.sum(noise**2)) == pytest.approx(snr_db, abs=0.1)
    _, power = welch(noise, RATE_HZ, nperseg=256)
    assert power[2:-2].max() < 2 * power[2:-2].min(), "it is white"


@pytest.mark.parametrize("cutoff_khz", LOW_PASS.rungs)
def test_low_pass_keeps_what_is_below_and_takes_what_is_above(cutoff_khz):
    white = np.random.default_rng(0).normal(0, 0.1, 10 * RATE_HZ).astype(np.float32)
    filtered = low_pass(white, cutoff_khz)
    hz, before = welch(white, RATE_HZ, nperseg=2400)
    _, after = welch(filtered, RATE_HZ, nperseg=2400)
    passed = after / before
    low, cut, octave = (
        float(passed[np.argmin(np.abs(hz - 1000 * khz))]) for khz in (cutoff_khz / 2, cutoff_khz, 2 * cutoff_khz)
    )
    assert 10 * np.log10(cut / low) == pytest.approx(-3, abs=0.3)
    assert 10 * np.log10(octave / low) < -45
    assert np.argmax(correlate(filtered, white, "same")) == len(white) // 2, "without a delay"


@pytest.mark.parametrize("gain_db", CLIPPING.rungs)
def test_clipping_flattens_what_is_above_the_threshold(gain_db):
    clean = music(4, 0)
    clipped = clip_hard(clean, gain_db)
    above = np.abs(clean) >= np.abs(clean).max() * 10 ** (-gain_db / 20)
    flat = np.isclose(np.abs(clipped), np.abs(clipped).max(), rtol=1e-6)
    assert flat.sum() > 0 and flat.tolist() == above.tolist()
    assert np.allclose(clipped[~above] / clean[~above], clipped[0] / clean[0], rtol=1e-4), "the rest is louder alone"


@pytest.mark.parametrize("seconds", [2.6, 3.0, 4.4, 10.0])
@pytest.mark.parametrize("seed", range(3))
def test_segments_are_all_there_in_another_order(seconds, seed):
    size = round(seconds * RATE_HZ)
    count = segments_in(np.zeros(size, np.float32))
    assert count == round(seconds)
    width = size // count
    numbered = (1 + np.minimum(np.arange(size) // width, count - 1)).astype(np.float32)
    middles = np.arange(count) * width + width // 2
    found = shuffle_segments(numbered, seed)
    gain = np.sqrt(np.mean(np.square(found[middles]))) / np.sqrt(np.mean(np.square(numbered[middles])))
    order = np.round(found[middles] / gain).astype(int).tolist()
    assert sorted(order) == list(range(1, count + 1))
    assert all(after != before + 1 for before, after in pairwise(order))
    assert len(found) == size


def test_segments_are_joined_without_clicks():
    tone = np.sin(2 * np.pi * 443.7 * np.arange(4 * RATE_HZ) / RATE_HZ).astype(np.float32)
    shuffled = shuffle_segments(tone, seed=0)
    assert np.abs(np.diff(shuffled)).max() < 1.5 * np.abs(np.diff(tone)).max()
    cut = np.concatenate([tone[RATE_HZ:], tone[:RATE_HZ]])
    assert np.abs(np.diff(cut)).max() > 3 * np.abs(np.diff(tone)).max(), "as a cut alone would be"


@pytest.mark.parametrize(("ladder", "rung"), ALL, ids=[ladder.at(rung) for ladder, rung in ALL])
def test_no_rung_changes_the_loudness_or_its_input_and_each_is_the_same_again(ladder, rung):
    clean = music(4, 1)
    kept = clean.copy()
    made = ladder.apply(clean, rung, 5)
    assert made.dtype == np.float32 and made.shape == clean.shape and np.isfinite(made).all()
    assert np.std(made) == pytest.approx(np.std(clean), rel=0.01)
    assert np.array_equal(clean, kept)
    assert np.array_equal(made, ladder.apply(clean, rung, 5))


def test_what_a_filter_leaves_nothing_of_is_not_made_music():
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    high = np.sin(2 * np.pi * 9000 * t).astype(np.float32)
    assert np.abs(low_pass(high, 1)).max() < 1e-3


def test_silence_stays_silent():
    for ladder, rung in ALL:
        assert not ladder.apply(np.zeros(4 * RATE_HZ, np.float32), rung, 0).any()


def test_a_ladder_says_what_it_is():
    assert str(NOISE) == "noise 20, 10, 0 dB SNR"
    assert (NOISE.at(10), PROMPTS.at(1)) == ("noise 10 dB SNR", "shuffled prompts")
