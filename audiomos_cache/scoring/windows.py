"""A clip in windows as long as the encoder takes, its warnings, and its score from those of its windows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.audio.decode import Audio, mixed_down, read_channels, silence_of
from audiomos_cache.audio.resample import resample, resampled_length
from audiomos_cache.audio.samples import peak_of
from audiomos_cache.audio.source import AudioSource
from audiomos_cache.dataset.clip import in_other_letters
from audiomos_cache.errors import DataError
from audiomos_cache.scoring.results import NAMED, Interval, Score
from audiomos_cache.targets import Floats

if TYPE_CHECKING:
    from audiomos_cache.bundle.calibration import Calibration
    from audiomos_cache.encoders.base import TextFeatures
    from audiomos_cache.scoring.inputs import Item

SHORTEST_S = 3.0  # below, a clip is hardly music
SHORTEST_REST_S = 1.0  # of a long clip, what is left after its last whole window
FULL_SCALE = 0.999
CLIPPED_SHARE = 1e-4  # of the samples; a peak that touches full scale is no clipping


def clip_score(
    scores: Floats,
    spreads: Floats,
    lengths: Sequence[int],
    calibration: "Calibration | None",
) -> tuple[float, Interval | None, float | None]:
    """Average the windows of a clip.

    The interval is that of the mixture of the windows' distributions, in which windows that disagree count too.

    Args:
        scores, spreads: (W,) of each window.
        lengths: of each, its weight.
        calibration: of the target; None: no interval.
    Returns:
        The score, from 1 to 5; its interval, None without a calibration; and the standard deviation of the windows'
        scores, None of a single window.
    """
    weights = np.asarray(lengths, np.float64) / sum(lengths)
    score = float(weights @ scores)
    variance = float(weights @ (scores - score) ** 2)
    spread = math.sqrt(float(weights @ spreads**2) + variance)
    interval = calibration.interval(score, spread) if calibration else None
    return score, interval, math.sqrt(variance) if len(lengths) > 1 else None


def score_of_clip(
    item: "Item",
    windows: Sequence[Audio],
    found: Mapping[str, tuple[Floats, Floats]],
    calibrations: "Mapping[str, Calibration]",
    warnings: Sequence[str],
) -> Score:
    """Put the scores of a clip's windows together.

    Args:
        item: the clip.
        windows: W.
        found: by target, (W,) scores and (W,) spreads; of targets that have none, nothing.
        calibrations: by target, of those that have one.
        warnings: that are added to the windows'.
    """
    lengths = [window.length for window in windows]
    values: dict[str, Any] = {}
    named: dict[str, float | None] = dict.fromkeys(NAMED)
    for target, (scores, spreads) in found.items():
        score, interval, spread = clip_score(scores, spreads, lengths, calibrations.get(target))
        values |= {target: score, f"{target}_interval": interval}
        named[f"{target}_spread"] = spread
    return Score(
        item.id,
        str(item.path) if item.path else None,
        item.prompt,
        scores=named,
        duration_s=windows[0].duration_s,
        windows=len(windows),
        warnings=(*windows[0].warnings, *warnings),
        columns=item.columns,
        **values,
    )


def read_windows(source: AudioSource, sample_rate_hz: int, window_s: float) -> list[Audio]:
    """Read an audio file, whole, and cut it; see `cut_windows`.

    Raises:
        DataError: see `audiomos_cache.audio.decode.decode`; or it is silent.
    """
    return cut_windows(str(source), read_channels(source, None, sample_rate_hz), sample_rate_hz, window_s)


def cut_windows(name: str, decoded: Audio, sample_rate_hz: int, window_s: float) -> list[Audio]:
    """Cut a clip into windows, and look at it.

    A rest that is too short for a window is left out, as an extraction leaves out all after the first window.

    Args:
        name: of the clip, for messages.
        decoded: (n, channels) samples of the whole clip.
        sample_rate_hz: what the encoder expects.
        window_s: the longest that is encoded at once.
    Returns:
        One window at the clip's own rate; or several of a clip that is longer than a window, in order, at the encoder's
        rate. Each has the whole clip's duration, and its warnings: what is odd about it.
    Raises:
        DataError: it is silent: a score of nothing means nothing.
    """
    mono, rate = mixed_down(decoded.samples), decoded.sample_rate_hz
    if silence := silence_of(decoded.samples, mono):
        raise DataError(f"{name}: {silence}, expected music; check the clip")
    size, whole = round(window_s * sample_rate_hz), resampled_length(len(mono), rate, sample_rate_hz)
    if whole <= size:  # resampled where that is done for an extraction, on a GPU if there is one
        windows = [replace(decoded, samples=mono, length=whole)]
    else:
        resampled = resample(mono, rate, sample_rate_hz)
        rest = whole % size
        end = whole - (rest if rest < SHORTEST_REST_S * sample_rate_hz else 0)
        pieces = (resampled[start : min(start + size, end)] for start in range(0, end, size))
        windows = [replace(decoded, samples=p, sample_rate_hz=sample_rate_hz, length=len(p)) for p in pieces]
    warnings = (*decoded.warnings, *_oddities(decoded))
    return [replace(window, warnings=warnings) for window in windows]


def _oddities(decoded: Audio) -> Iterator[str]:
    if (peak := peak_of(decoded.samples)) > 1:
        yield f"louder than full scale: a peak of {peak:.4g}, expected 1 at most"
    elif (share := clipped_share(decoded.samples)) > CLIPPED_SHARE:
        yield f"clipped: {share:.1%} of the samples are cut off at full scale"
    if decoded.duration_s < SHORTEST_S:
        yield f"shorter than {SHORTEST_S:g} s: {decoded.duration_s:.2f} s"


def prompt_oddities(prompt: str | None, features: "TextFeatures | None", most_tokens: int) -> Iterator[str]:
    """Give warnings about a prompt.

    Args:
        prompt: as it was given.
        features: what the text encoder gave for it; None: it was not encoded.
        most_tokens: that the encoder takes.
    """
    if prompt is not None and features is None:
        yield "prompt empty: MI alone"
    if features and in_other_letters(prompt or ""):
        yield "prompt mostly in other letters than Latin, expected English"
    if features and features.cut:
        yield f"prompt cut at {most_tokens} tokens"


def clipped_share(samples: NDArray[np.float32]) -> float:
    """Return the share of (n, channels) samples in runs of three or more at full scale."""
    loud = np.abs(samples) >= FULL_SCALE
    if len(loud) < 3 or not loud.any():
        return 0.0
    middle = loud[:-2] & loud[1:-1] & loud[2:]
    flat = np.zeros_like(loud)
    for shift in range(3):
        flat[shift : len(loud) - 2 + shift] |= middle
    return float(flat.mean())
