"""Ranking terms: what it costs when a batch's scores order its clips otherwise than the labels do.

Each is added, with a weight, to what an objective makes of the same scores; none of them fixes a score by itself, as
a shift of all scores changes none. All take scores (B,) and labels (B,) and give a scalar, in float32 at least, that
does not depend on the order of the batch.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.model import HeadOutput
from audiomos_cache.heads.parts import PUBLISHED_AUDIO_DIM
from audiomos_cache.heads.pooling import at_least_float32

ROUNDING = 1e-6  # of the gap between two labels in float32, at most


class Ranking(Protocol):
    """A ranking term. One clip alone costs nothing."""

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Compare the scores (B,) of a batch with its labels (B,): a scalar."""


@dataclass(frozen=True, slots=True)
class NoRanking:
    """The scores of a batch are not compared."""

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Zero."""
        return scores.new_zeros(())


@dataclass(frozen=True, slots=True)
class ListwiseRanking:
    """Cross-entropy from the labels to the scores, each as a distribution over the clips of the batch.

    Smallest, but not 0, where the scores are the labels or shifted from them. Where all labels are equal it is
    smallest for equal scores.
    Source: Cao et al. 2007 (ListNet); DeRA-MOS (arXiv 2606.10010) adds it to MI: weight 0.01, temperature 1.
    """

    temperature: float = 1.0

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Minus the sum of softmax(labels / temperature) * log_softmax(scores / temperature)."""
        expected = (at_least_float32(labels) / self.temperature).softmax(dim=0)
        return -(expected * (at_least_float32(scores) / self.temperature).log_softmax(dim=0)).sum()


@dataclass(frozen=True, slots=True)
class PairwiseRanking:
    """By how much the scores of each pair of clips differ less than `margin` in the labels' order.

    Pairs whose labels are within `tolerance` are left out; 0 where no pair is left. Where `margin` is at most
    `tolerance`, no scores do better than the labels themselves; where it is 0, equal scores do as well.
    Source: DeRA-MOS (arXiv 2606.10010), its ablation: margin 0, tolerance 0.25.
    """

    margin: float = 0.0
    tolerance: float = 0.25

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Mean of max(0, margin - sign(label_i - label_j) (score_i - score_j)) over the pairs that count."""
        ahead = _gaps(labels)
        return _mean_of(_shortfall(self.margin, ahead, scores), ahead.abs() > self.tolerance + ROUNDING)


@dataclass(frozen=True, slots=True)
class AdaptiveMarginRanking:
    """By how much each pair's scores differ less than in proportion to its labels; pairs with a good clip weigh more.

    The margin of a pair is `margin_scale` times the gap of its labels. Its weight grows from 1 to `preference` as the
    better one of the two goes from the batch's lowest label to its highest. 0 where all labels are equal. Where
    `margin_scale` is at most 1, no scores do better than the labels themselves.
    Source: QAMRO (arXiv 2508.08957): preference 7, margin scale 0.2; it adds MI and TA with weight 1.
    """

    margin_scale: float = 0.2
    preference: float = 7.0

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Mean of weight * max(0, margin - sign(label_i - label_j) (score_i - score_j)) over pairs of two labels."""
        labels = at_least_float32(labels)
        ahead = _gaps(labels)
        lowest, highest = labels.aminmax()
        quality = (labels - lowest) / (highest - lowest).clamp(min=ROUNDING)
        weight = 1 + (self.preference - 1) * torch.maximum(quality[:, None], quality[None, :])
        # Each pair stands here twice, as (i, j) and as (j, i), at the same cost: the mean is that of the pairs.
        return _mean_of(weight * _shortfall(self.margin_scale * ahead.abs(), ahead, scores), ahead != 0)


RANKINGS: dict[str, type[NoRanking | ListwiseRanking | PairwiseRanking | AdaptiveMarginRanking]] = {
    "none": NoRanking,
    "listwise": ListwiseRanking,
    "pairwise": PairwiseRanking,
    "adaptive_margin": AdaptiveMarginRanking,
}


@dataclass(frozen=True, slots=True)
class WeightedRanking:
    """A ranking term over MI and over TA, each with its weight."""

    ranking: Ranking
    weight_mi: float
    weight_ta: float

    def loss(self, output: HeadOutput, mi: Tensor, ta: Tensor) -> Tensor:
        """Return weight_mi * term(MI) + weight_ta * term(TA) for a batch with labels `mi` (B,) and `ta` (B,)."""
        total = output.mi.new_zeros(())
        for weight, scores, labels in ((self.weight_mi, output.mi, mi), (self.weight_ta, output.ta, ta)):
            if weight:
                total = total + weight * self.ranking.loss(scores, labels)
        return total


def ranking_of(config: HeadConfig) -> WeightedRanking:
    """Return a head's ranking term with its weights."""
    keys = config.ranking.arguments(PUBLISHED_AUDIO_DIM)
    weight_mi, weight_ta = (keys.pop(weight, 0.0) for weight in ("weight_mi", "weight_ta"))
    return WeightedRanking(RANKINGS[config.ranking.kind](**keys), weight_mi, weight_ta)


def _gaps(values: Tensor) -> Tensor:
    """Return value_i - value_j for each ordered pair of (B,) values: (B, B)."""
    values = at_least_float32(values)
    return values[:, None] - values[None, :]


def _shortfall(margin: Tensor | float, ahead: Tensor, scores: Tensor) -> Tensor:
    """Return by how much each pair's scores differ less than `margin` in the order of its labels: (B, B)."""
    return (margin - ahead.sign() * _gaps(scores)).clamp(min=0)


def _mean_of(costs: Tensor, counted: Tensor) -> Tensor:
    """Average the costs that count; 0, with a gradient of 0, where none does."""
    return costs.masked_fill(~counted, 0).sum() / counted.sum().clamp(min=1)
