"""A clip in windows as long as the encoder takes, its warnings, and its score from those of its windows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.audio.decode import Audio, mixed_down, read_channels, silence_of
from audiomos_cache.audio.resample import resample, resampled_length
from audiomos_cache.audio.samples import peak_of
from audiomos_cache.audio.source import AudioSource
from audiomos_cache.dataset.clip import in_other_letters
from audiomos_cache.errors import DataError, one_of
from audiomos_cache.scoring.results import Interval, Score
from audiomos_cache.targets import Floats

if TYPE_CHECKING:
    from audiomos_cache.bundle.calibration import Calibration
    from audiomos_cache.encoders.base import TextFeatures
    from audiomos_cache.input_spec import InputSpec, Window
    from audiomos_cache.scoring.inputs import Item

SHORTEST_S = 3.0  # below, a clip is hardly music
SHORTEST_REST_S = 1.0  # of a long clip, what is left after its last whole window
FULL_SCALE = 0.999
_ANY_RATE_HZ = 24_000  # the length of a clip at another rate is computed from all of its samples
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
    windows: "Windows",
    found: Mapping[str, tuple[Floats, Floats] | None],
    calibrations: "Mapping[str, Calibration]",
    warnings: Sequence[str],
) -> Score:
    """Put the scores of a clip's windows together.

    Args:
        item: the clip.
        windows: W of it.
        found: by target, (W,) scores and (W,) spreads; None for a target that cannot be predicted without a prompt.
        calibrations: by target, of those that have one.
        warnings: that are added to the clip's.
    """
    named: dict[str, float | None] = {}
    spreads: dict[str, float | None] = {}
    intervals: dict[str, Interval | None] = {}
    for target, both in found.items():
        score, interval, spread = (
            clip_score(*both, windows.weights, calibrations.get(target)) if both else (None, None, None)
        )
        named[target], intervals[target] = score, interval
        if windows.may_be_several:
            spreads[f"{target}_spread"] = spread
    return item.score(
        mi=named.get("mi"),
        ta=named.get("ta"),
        mi_interval=intervals.get("mi"),
        ta_interval=intervals.get("ta"),
        scores=named | spreads,
        duration_s=windows.pieces[0].duration_s,
        windows=len(windows.pieces),
        heard=windows.heard,
        warnings=(*windows.pieces[0].warnings, *warnings),
    )


WindowMode = Literal["released", "mean"]
"""What is heard of a clip that is longer than a window: what the bundle was released with, or all of it, averaged."""


@dataclass(frozen=True, slots=True)
class WindowRule:
    """What of a clip is encoded; see `audiomos_cache.input_spec.Window`.

    Attributes:
        kind: "first": all of it, in windows one after the other; "centre": its middle; "whole": all of it at once.
        seconds: of a window; of a whole clip, the most.
        fills_last: whether the last of several windows begins earlier, so that it is not padded: for heads that hear
            padding as if it were music.
    """

    kind: "Window"
    seconds: float
    fills_last: bool = False

    @classmethod
    def of(cls, features: "InputSpec", mode: WindowMode) -> "WindowRule":
        """Return the rule of some features; "mean" hears all of a clip where only its middle would be.

        Raises:
            ArgumentError: an unknown mode.
        """
        one_of("windows", mode, get_args(WindowMode))
        kind = "first" if features.window == "centre" and mode == "mean" else features.window
        return cls(kind, features.max_seconds, fills_last=features.padding == "heard")

    def __str__(self) -> str:
        """Return it for a line of scores: `centre 10 s`, `mean of 30 s`, `whole`."""
        how = {"first": f"mean of {self.seconds:g} s", "centre": f"centre {self.seconds:g} s", "whole": "whole"}
        return how[self.kind]


@dataclass(frozen=True, slots=True)
class Windows:
    """What is encoded of a clip.

    Attributes:
        pieces: one at the clip's own rate, or several in order, or a cut one, at the encoder's rate. Each has the whole
            clip's duration, and its warnings: what is odd about it.
        heard: from when to when, in seconds.
        may_be_several: whether a longer clip has several.
        weights: of the pieces, how much of the clip each stands for, in samples.
    """

    pieces: list[Audio]
    heard: tuple[float, float]
    may_be_several: bool
    weights: list[int]


class DecodedClip:
    """A clip that was read whole, and looked at; bundles cut their windows from it.

    Args:
        name: of the clip, for messages.
        audio: (n, channels) samples of all of it.
    Raises:
        DataError: it is silent: a score of nothing means nothing.
    """

    def __init__(self, name: str, audio: Audio) -> None:
        self.name = name
        self._mono = mixed_down(audio.samples)
        if silence := silence_of(audio.samples, self._mono):
            raise DataError(f"{name}: {silence}, expected music; check the clip")
        self._audio = replace(audio, samples=self._mono, warnings=(*audio.warnings, *_oddities(audio)))
        self._resampled: dict[int, NDArray[np.float32]] = {}

    @classmethod
    def read(cls, source: AudioSource) -> "DecodedClip":
        """Read an audio file, whole.

        Raises:
            DataError: see `audiomos_cache.audio.decode.decode`; or it is silent.
        """
        return cls(str(source), read_channels(source, None, _ANY_RATE_HZ))

    def cut(self, rule: WindowRule, sample_rate_hz: int, most_samples: int | None = None) -> Windows:
        """Cut it into windows.

        A rest that is too short for a window is left out, as an extraction leaves out all after the first window.

        Args:
            rule: what is encoded.
            sample_rate_hz: what the encoder expects.
            most_samples: that memory allows at once.
        Raises:
            DataError: all of it is to be encoded at once, and it is too long.
        """
        rate, several = self._audio.sample_rate_hz, rule.kind == "first"
        size, whole = round(rule.seconds * sample_rate_hz), resampled_length(len(self._mono), rate, sample_rate_hz)
        if rule.kind == "whole":
            self._require_room(whole, sample_rate_hz, rule.seconds, most_samples)
        if whole <= size:  # resampled where that is done for an extraction, on a GPU if there is one
            piece = replace(self._audio, length=whole)
            return Windows([piece], (0.0, self._audio.duration_s), several, [whole])
        resampled = self._at(sample_rate_hz)
        if rule.kind == "centre":
            start = (whole - size) // 2
            starts, end = [start], start + size
            self._require_sound(resampled[start:end])
        else:
            rest = whole % size
            end = whole - (rest if rest < SHORTEST_REST_S * sample_rate_hz else 0)
            starts = list(range(0, end, size))
        weights = [min(size, end - start) for start in starts]
        if rule.fills_last:
            starts[-1] = end - size
        cut = [resampled[start : min(start + size, end)] for start in starts]
        if rule.kind == "centre":
            cut = [cut[0].copy()]  # so that the rest of the song is not held
        pieces = [replace(self._audio, samples=each, sample_rate_hz=sample_rate_hz, length=len(each)) for each in cut]
        heard = (0.0 if several else starts[0] / sample_rate_hz, end / sample_rate_hz)
        return Windows(pieces, heard, several, weights)

    def _require_sound(self, middle: NDArray[np.float32]) -> None:
        if silence := silence_of(middle[:, None], middle):
            raise DataError(f"{self.name}: its middle, all that is heard, is {silence}, expected music; check the clip")

    def _at(self, sample_rate_hz: int) -> NDArray[np.float32]:
        if sample_rate_hz not in self._resampled:
            self._resampled[sample_rate_hz] = resample(self._mono, self._audio.sample_rate_hz, sample_rate_hz)
        return self._resampled[sample_rate_hz]

    def _require_room(self, samples: int, rate_hz: int, most_s: float, most_samples: int | None) -> None:
        limits = {f"expected at most {most_s:g} s": round(most_s * rate_hz)}
        if most_samples is not None:
            limits[f"and there is memory for {most_samples / rate_hz:.0f} s at once"] = most_samples
        limit, most = min(limits.items(), key=lambda each: each[1])
        if samples > most:
            raise DataError(
                f"{self.name}: {samples / rate_hz:.1f} s long, {limit}; all of it is heard at once: cut it, or score "
                "it where there is more memory"
            )


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
