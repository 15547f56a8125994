"""Objectives: what an output layer is trained on (targets made from MOS labels), and the loss against it."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from audiomos_cache.heads.outputs import RANKS, TargetOutput
from audiomos_cache.targets import gaussian_distribution, one_hot_distribution, ordinal_levels


class Objective(Protocol):
    """Targets and loss of one kind of output. Losses are means over the batch, in float32 at least."""

    def targets(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Make the training targets (N, ...) of MOS labels (N,)."""

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Compare an output for a batch with its targets (B, ...): a scalar, smallest for a perfect prediction."""


class L1Objective:
    """Mean absolute error of the score."""

    def targets(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the labels themselves, (N,)."""
        return scores

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Mean of |score - label| over the batch."""
        return functional.l1_loss(output.score, target.to(output.score.dtype))


class DistributionObjective:
    """Kullback-Leibler divergence from the target distribution to the predicted one.

    Source: Ritter-Gutierrez et al. 2025: batch mean of KL on log(p + 1e-10).
    """

    FLOOR = 1e-10

    def __init__(self, bins: int, kind: str, sigma: float) -> None:
        self.bins, self.kind, self.sigma = bins, kind, sigma

    def targets(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the target distributions, (N, bins)."""
        if self.kind == "one_hot":
            return one_hot_distribution(scores, self.bins)
        return gaussian_distribution(scores, self.bins, self.sigma)

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Sum of target * log(target / p) over the bins, mean over the batch."""
        assert output.dist is not None, "a distribution objective belongs to a distribution output"
        logs = (output.dist + self.FLOOR).log()
        return functional.kl_div(logs, target.to(logs.dtype), reduction="batchmean")


class CoralObjective:
    """Binary cross-entropy of "the score exceeds k", summed over the thresholds k, mean over the batch.

    Source: Cao, Mirjalili and Raschka 2020 (CORAL).
    """

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks

    def targets(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return [score > k] for each threshold, (N, ranks - 1)."""
        return ordinal_levels(scores, self.ranks)

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Sum of the thresholds' cross-entropies, mean over the batch."""
        assert output.logits is not None, "a CORAL objective belongs to a CORAL output"
        each = functional.binary_cross_entropy_with_logits(
            output.logits, target.to(output.logits.dtype), reduction="none"
        )
        return each.sum(dim=1).mean()


def build_objective(kind: str, *, bins: int, targets: str, sigma: float) -> Objective:
    """Return the objective of an output kind: scalar, distribution (`targets` gaussian or one_hot), coral."""
    objectives: dict[str, Objective] = {
        "scalar": L1Objective(),
        "distribution": DistributionObjective(bins, targets, sigma),
        "coral": CoralObjective(RANKS),
    }
    return objectives[kind]
