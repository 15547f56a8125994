"""Scorers whose behaviour is known, and music for them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.scoring.ladders import Ladder
from audiomos_cache.scoring.results import Score
from audiomos_cache.scoring.verdicts import Change, Row, judge
from audiomos_cache.targets import Target

RATE_HZ = 24_000
Clip = NDArray[np.float32]
MI, TA = Target("mi"), Target("ta", hears_prompt=True)


def music(seconds: float, seed: int) -> Clip:
    """Chords of decaying harmonics up to 8 kHz: every ladder changes it."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    tones = sum(np.sin(2 * np.pi * hz * t + rng.uniform(0, 6)) / hz**0.3 for hz in rng.uniform(100, 8000, 30))
    return np.asarray(0.02 * tones * (0.3 + np.abs(np.sin(2 * np.pi * 0.7 * t))), np.float32)


def likeness(clean: Sequence[Clip]) -> Callable[[Clip], float]:
    """How well a clip can be told to be one of the clean ones: 1 for these, less for anything made of them."""

    def of(samples: Clip) -> float:
        pairs = [each for each in clean if len(each) == len(samples)]
        return max(float(np.corrcoef(samples, each)[0, 1]) for each in pairs)

    return of


def row(ladder: Ladder, *rungs: list[float], target: Target = MI, is_main: bool = True) -> Row:
    """What is said of differences of clips, a list for each rung; the weaker ones are 0."""
    given = [[0.0] * len(rungs[0])] * (len(ladder.rungs) - len(rungs)) + list(rungs)
    return judge(target, ladder, [Change.of(r, d) for r, d in zip(ladder.rungs, given, strict=True)], is_main=is_main)


class KnownScorer:
    """Scores clips by functions.

    Args:
        scores: by target, (samples, prompt) -> its score; None: there is none; an exception: the error.
        targets: in their order.
    """

    digests = ("d" * 32,)

    def __init__(
        self,
        scores: dict[str, Callable[[Clip, str | None], float | None]],
        targets: tuple[Target, ...] = (MI,),
        untrained: tuple[str, ...] = (),
    ) -> None:
        self.targets, self.untrained, self._scores = targets, untrained, scores
        self.heard: list[tuple[Clip, str | None]] = []

    def score_iter(self, clips: Iterable[tuple[tuple[int, Clip], str | None]], *, on_error: str) -> Iterator[Score]:
        assert on_error == "return"
        for index, ((rate_hz, samples), prompt) in enumerate(clips):
            assert rate_hz == RATE_HZ
            self.heard.append((samples, prompt))
            try:
                found = {name: score(samples, prompt) for name, score in self._scores.items()}
            except ValueError as error:
                yield Score(str(index), None, prompt, error=str(error))
            else:
                yield Score(str(index), None, prompt, scores=found)


class TrainedInName:
    """An encoder that does not say that its weights are random."""

    def __init__(self, encoder: AudioEncoder | TextEncoder) -> None:
        self._encoder = encoder

    untrained = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)
