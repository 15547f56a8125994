"""What music gets worse by, rung by rung: noise, low-pass, clipping, shuffled segments. No rung changes the loudness.

Samples are (n,) float32, mono: what an encoder hears. The same samples, rung and seed give the same samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float32]
_Wave: TypeAlias = NDArray[np.float64]

RATE_HZ = 24_000  # of all samples here, so that a rung means the same for every clip
SEGMENT_S = 1.0
FADE_S = 0.01
FEWEST_SEGMENTS = 3  # of two, one order is the reverse of the other
_STEEPNESS = 8  # of the low-pass, the order of a Butterworth filter: 48 dB an octave
_MOST_GAIN = 100.0  # where next to nothing is left, the rounding errors are not made music


def add_noise(samples: Samples, snr_db: float, seed: int) -> Samples:
    """Add white noise, so much that the music is `snr_db` above it."""
    noise = np.random.default_rng(seed).standard_normal(len(samples))
    return _as_loud(samples + noise * (_rms(samples) / _rms(noise) * 10 ** (-snr_db / 20)), samples)


def low_pass(samples: Samples, cutoff_khz: float) -> Samples:
    """Take away what is above a frequency, without a delay: -3 dB there, -48 dB an octave above."""
    khz = np.fft.rfftfreq(len(samples), 1000 / RATE_HZ)
    gain = 1 / np.sqrt(1 + (khz / cutoff_khz) ** (2 * _STEEPNESS))
    return _as_loud(np.fft.irfft(np.fft.rfft(samples) * gain, len(samples)), samples)


def clip_hard(samples: Samples, gain_db: float) -> Samples:
    """Cut off at `gain_db` below the peak, as an overdriven amplifier does."""
    limit = float(np.abs(samples).max()) * 10 ** (-gain_db / 20)
    return _as_loud(np.clip(samples.astype(np.float64), -limit, limit), samples)


def shuffle_segments(samples: Samples, seed: int) -> Samples:
    """Play segments of about a second in another order, none after the one that it came after, with crossfades.

    Args:
        samples: at least `FEWEST_SEGMENTS` segments long, see `segments_in`.
        seed: decides the order.
    """
    count, size = segments_in(samples), len(samples)
    fade = round(FADE_S * RATE_HZ / 2)  # on each side of a cut
    width = size // count  # the few samples that are left over are silent
    padded = np.pad(samples.astype(np.float64), fade, mode="reflect")  # no step where the clip begins or ends
    rise = np.sin(np.pi / 2 * (np.arange(2 * fade) + 0.5) / (2 * fade))  # two that are not alike keep their power
    window = np.concatenate([rise, np.ones(width - 2 * fade), rise[::-1]])
    mixed = np.zeros(size + 2 * fade)
    for slot, segment in enumerate(_new_order(count, seed)):
        piece = padded[segment * width : (segment + 1) * width + 2 * fade] * window
        mixed[slot * width : (slot + 1) * width + 2 * fade] += piece
    return _as_loud(mixed[fade : fade + size], samples)


def segments_in(samples: Samples) -> int:
    """Return how many segments `shuffle_segments` cuts samples into."""
    return round(len(samples) / (SEGMENT_S * RATE_HZ))


def _new_order(count: int, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    while True:
        order: list[int] = rng.permutation(count).tolist()
        if all(after != before + 1 for before, after in pairwise(order)):
            return order


def _rms(wave: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def _as_loud(wave: _Wave, samples: Samples) -> Samples:
    """Bring what was made of samples to their RMS."""
    wanted, found = _rms(samples), _rms(wave)
    gain = wanted / found if found > wanted / _MOST_GAIN else 1.0
    return (gain * wave).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Ladder:
    """A way in which music gets worse, and how far on each rung, the strongest last.

    Attributes:
        name: of the way.
        rungs: how far, in `unit`.
        unit: what a rung counts.
        apply: (samples, rung, seed) -> samples.
        fewest_segments: that a clip must have.
    """

    name: str
    rungs: tuple[float, ...]
    unit: str
    apply: Callable[[Samples, float, int], Samples]
    fewest_segments: int = 0

    def at(self, rung: float) -> str:
        """Return a rung for a reader: `noise 20 dB SNR`."""
        return f"{self.name} {rung:g} {self.unit}" if self.unit else self.name

    def __str__(self) -> str:
        """Return it for a reader: `noise 20, 10, 0 dB SNR`."""
        return f"{self.name} {', '.join(f'{rung:g}' for rung in self.rungs)} {self.unit}"


NOISE = Ladder("noise", (20, 10, 0), "dB SNR", add_noise)
LOW_PASS = Ladder("low-pass", (4, 2, 1), "kHz", lambda samples, rung, _seed: low_pass(samples, rung))
CLIPPING = Ladder("clipping", (6, 12, 24), "dB", lambda samples, rung, _seed: clip_hard(samples, rung))
SEGMENTS = Ladder(
    "shuffled segments",
    (SEGMENT_S,),
    "s",
    lambda samples, _rung, seed: shuffle_segments(samples, seed),
    fewest_segments=FEWEST_SEGMENTS,
)
PROMPTS = Ladder("shuffled prompts", (1,), "", lambda samples, _rung, _seed: samples)
"""Another clip's prompt: the music stays as it is."""
QUALITY = (NOISE, LOW_PASS, CLIPPING)
"""Under which every score of quality must fall."""
