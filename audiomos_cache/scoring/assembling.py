"""From the scores of a clip's windows to the score of the clip."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiomos_cache.bundle.calibration import Calibration
from audiomos_cache.evaluation.metrics import Floats
from audiomos_cache.scoring.score import Interval


@dataclass(frozen=True, slots=True)
class TargetScore:
    """What is said of a clip about one target.

    Attributes:
        score: from 1 to 5; None where nothing was asked.
        interval: None of a bundle that was not calibrated.
        over_windows: standard deviation of the windows' scores; None of a single window.
    """

    score: float | None = None
    interval: Interval | None = None
    over_windows: float | None = None


NO_SCORE = TargetScore()


def clip_score(scores: Floats, spreads: Floats, lengths: Sequence[int], calibration: Calibration | None) -> TargetScore:
    """Average the windows of a clip.

    The interval is that of the mixture of the windows' distributions, in which windows that disagree count too.

    Args:
        scores, spreads: (W,) of each window.
        lengths: of each, its weight.
        calibration: of the target; None: no interval.
    """
    weights = np.asarray(lengths, np.float64) / sum(lengths)
    score = float(weights @ scores)
    apart = float(weights @ (scores - score) ** 2)
    spread = math.sqrt(float(weights @ spreads**2) + apart)
    interval = calibration.interval(score, spread) if calibration else None
    return TargetScore(score, interval, math.sqrt(apart) if len(lengths) > 1 else None)
