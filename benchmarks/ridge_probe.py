"""Baselines of `reproduce.py`: a ridge probe of pooled features, and the mean of the labels.

The probe is linear in the mean and the standard deviation of a clip's valid frames; for TA also in the mean of its
prompt's tokens. Both are fitted to the split `train` alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from audiomos_cache import Cache
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.targets import TARGETS

Floats = NDArray[np.float64]

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
NEAR_CONSTANT = 2.0**-11  # relative to its mean: a column that varies by no more than the rounding of float16


@dataclass(frozen=True)
class Probe:
    """A ridge regression on standardised columns.

    Attributes:
        columns: which columns are used: (D,) bool.
        mean, spread: of these columns on the clips that it was fitted to.
        ridge: scikit-learn's model, with the penalty that it chose.
    """

    columns: NDArray[np.bool_]
    mean: Floats
    spread: Floats
    ridge: RidgeCV

    @classmethod
    def fit(cls, features: Floats, truth: Floats) -> "Probe":
        """Fit it to (N, D) features and (N,) scores; of `PENALTIES` the best by leave-one-out.

        Columns that hardly vary are left out, since standardising would make noise of them.
        """
        mean, spread = features.mean(axis=0), features.std(axis=0)
        columns = spread > NEAR_CONSTANT * np.abs(mean)
        mean, spread = mean[columns], spread[columns]
        return cls(columns, mean, spread, RidgeCV(PENALTIES).fit((features[:, columns] - mean) / spread, truth))

    def predict(self, features: Floats) -> Floats:
        """Predict the score of each row of (N, D) features: (N,)."""
        return np.asarray(self.ridge.predict((features[:, self.columns] - self.mean) / self.spread))

    def about(self) -> dict[str, Any]:
        """Return plain values: the penalty, and how many of the columns are used."""
        return {
            "penalty": float(self.ridge.alpha_),
            "columns": int(self.columns.sum()),
            "near_constant": int((~self.columns).sum()),
        }


def pooled(reader: CacheReader) -> dict[str, Floats]:
    """Pool the features of a split's clips, by target: (N, 2 D) of frames for MI, with tokens (N, 2 D + L) for TA."""
    audio, text = [], []
    for index in range(len(reader)):
        frames = reader.read_frames(index, layer=reader.layers[-1]).astype(np.float64)
        audio.append(np.concatenate([frames.mean(axis=0), frames.std(axis=0)]))
        text.append(reader.read_prompt(index).tokens.astype(np.float64).mean(axis=0))
    of_audio = np.stack(audio)
    return {"mi": of_audio, "ta": np.concatenate([of_audio, np.stack(text)], axis=1)}


def ridge_probe(cache: Cache, split: str) -> tuple[Predictions, dict[str, Any]]:
    """Fit a probe of each target to the split `train`, and predict another split; returns what was chosen, too."""
    train, held_out = cache.reader("train"), cache.reader(split)
    features, others = pooled(train), pooled(held_out)
    labels: Mapping[str, Floats] = {"mi": train.mi, "ta": train.ta}
    probes = {target: Probe.fit(features[target], labels[target]) for target in TARGETS}
    scores = {target: probes[target].predict(others[target]) for target in TARGETS}
    chosen = {target: probe.about() for target, probe in probes.items()}
    return Predictions.build(held_out.ids, **scores), {"penalties": list(PENALTIES), "chosen": chosen}


def train_mean(cache: Cache, split: str) -> Predictions:
    """Predict the mean of the labels of `train` for every clip of another split."""
    train, ids = cache.reader("train"), cache.reader(split).ids
    mi, ta = (np.full(len(ids), labels.mean()) for labels in (train.mi, train.ta))
    return Predictions.build(ids, mi, ta)
