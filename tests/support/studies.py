"""Synthetic studies whose true numbers are known: systems, clips within them, two predictions of the clips' scores.

Of a clip: truth = 3 + quality of its system + quality of its own, both normal; prediction = the same with errors of the
system and of the clip. All four numbers of the population follow from variances and covariances: SRCC and KTAU of a
normal pair of correlation r are 6/pi asin(r/2) and 2/pi asin(r). System means of n clips are such pairs too, of a
correlation that depends on n; over systems of several n, as here, they are mixtures, and their SRCC and KTAU are
taken from a million simulated systems.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from audiomos_cache.evaluation.metrics import Points
from audiomos_cache.targets import Floats

# Clips of 31 systems, 413 in all: a test split's.
CLIPS = np.array([8, 18, 20, 20, 4, 10, 16, 10, 18, 8, 10, 8, 8, 19, 14, 24, 6, 14, 16, 6, 16, 20, 8, 10, 18, 10, 10,
                  10, 24, 16, 14])  # fmt: skip
SYSTEM = np.repeat(np.arange(len(CLIPS)), CLIPS)
BETWEEN, WITHIN = 0.7, 0.6  # standard deviations of true quality, of systems and of clips within one


@dataclass(frozen=True)
class Head:
    """How a head errs: standard deviations of a system's error and of a clip's; `scale` stretches its scores."""

    system_error: float
    clip_error: float
    scale: float = 1.0

    def variances(self) -> tuple[Floats, Floats]:
        """Covariance matrices of (prediction, truth), between systems and within them."""
        a = self.scale
        between = [[a**2 * (BETWEEN**2 + self.system_error**2), a * BETWEEN**2], [a * BETWEEN**2, BETWEEN**2]]
        within = [[a**2 * (WITHIN**2 + self.clip_error**2), a * WITHIN**2], [a * WITHIN**2, WITHIN**2]]
        return np.array(between), np.array(within)

    def true_numbers(self) -> tuple[Floats, Floats]:
        """MSE, LCC, SRCC, KTAU of all clips, and of the means of systems of as many clips as in `CLIPS`."""
        between, within = self.variances()
        clips = of_normal(between + within)
        rng = np.random.default_rng(0)
        counts = rng.choice(CLIPS, 1_000_000)[:, None]
        draw = [rng.multivariate_normal((0, 0), matrix, len(counts)) for matrix in (between, within)]
        x, y = (draw[0] + draw[1] / np.sqrt(counts)).T
        systems = [np.mean((x - y) ** 2), *(each(x, y).statistic for each in (stats.pearsonr, stats.spearmanr))]
        return clips, np.array([*systems, stats.kendalltau(x, y).statistic])


def of_normal(covariance: Floats) -> Floats:
    """MSE, LCC, SRCC and KTAU of a normal pair of equal means."""
    (xx, xy), (_, yy) = covariance
    r = xy / np.sqrt(xx * yy)
    return np.array([xx + yy - 2 * xy, r, 6 / np.pi * np.arcsin(r / 2), 2 / np.pi * np.arcsin(r)])


def study(rng: np.random.Generator, *heads: Head) -> list[dict[str, Points]]:
    """Draw a study of MI and TA: for each head what `metrics.points_of` would return, of the same clips."""
    found: list[dict[str, Points]] = [{} for _ in heads]
    for target in ("mi", "ta"):
        quality, own = rng.normal(0, BETWEEN, len(CLIPS)), rng.normal(0, WITHIN, len(SYSTEM))
        truth = quality[SYSTEM] + own
        for head, points in zip(heads, found, strict=True):
            errors = rng.normal(0, head.system_error, len(CLIPS))[SYSTEM] + rng.normal(0, head.clip_error, len(SYSTEM))
            predicted = head.scale * (truth + errors)
            points[f"utt_{target}"] = Points(3 + predicted, 3 + truth, SYSTEM)
            points[f"sys_{target}"] = Points(3 + means(predicted), 3 + means(truth), np.arange(len(CLIPS)))
    return found


def means(values: Floats) -> Floats:
    return np.asarray(np.bincount(SYSTEM, values) / CLIPS)
