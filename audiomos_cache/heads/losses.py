"""Objectives: what an output layer is trained on (targets made from labels), and the loss against it."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from audiomos_cache.heads.outputs import RANKS, TargetOutput
from audiomos_cache.targets import gaussian_distribution, one_hot_distribution, ordinal_levels, rater_distribution

FLOOR = 1e-10


class Objective(Protocol):
    """Targets and loss of one kind of output. Losses are means over the batch, in float32 at least.

    Attributes:
        wants_ratings: whether its targets are made of the listeners' single ratings instead of their mean.
    """

    wants_ratings: bool

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Make the training targets (N, ...) of MOS labels (N,), or of ratings (N, R) where it `wants_ratings`."""

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Compare an output for a batch with its targets (B, ...): a scalar, smallest for a perfect prediction."""


class L1Objective:
    """Mean absolute error of the score.

    Source: Cooper et al. 2022 (SSL-MOS), and the published AudioMOS code.
    """

    wants_ratings = False

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the labels themselves, (N,)."""
        return labels

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Mean of |score - label| over the batch."""
        return functional.l1_loss(output.score, target.to(output.score.dtype))


class MseObjective:
    """Mean squared error of the score: far misses cost more than near ones.

    Source: Lo et al. 2019 (MOSNet), the loss of its utterance score.
    """

    wants_ratings = False

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the labels themselves, (N,)."""
        return labels

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Mean of (score - label) squared over the batch."""
        return functional.mse_loss(output.score, target.to(output.score.dtype))


class DistributionObjective:
    """Kullback-Leibler divergence from a distribution around the label to the predicted one.

    Source: Ritter-Gutierrez et al. 2025: batch mean of KL on log(p + 1e-10).
    """

    wants_ratings = False

    def __init__(self, bins: int, kind: str, sigma: float) -> None:
        self.bins, self.kind, self.sigma = bins, kind, sigma

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the target distributions, (N, bins)."""
        if self.kind == "one_hot":
            return one_hot_distribution(labels, self.bins)
        return gaussian_distribution(labels, self.bins, self.sigma)

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Sum of target * log(target / p) over the bins, mean over the batch."""
        return _divergence(output, target)


class RatersObjective:
    """Kullback-Leibler divergence from how a clip's listeners rated it to the predicted distribution over the ranks.

    Source: Faridee and Gamper 2022 (the histogram of the opinion scores as a target).
    """

    wants_ratings = True

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the shares of the ranks 1 to 5, (N, 5), in ratings (N, R)."""
        return rater_distribution(labels)

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Sum of target * log(target / p) over the ranks, mean over the batch."""
        return _divergence(output, target)


class CoralObjective:
    """Binary cross-entropy of "the score exceeds k", summed over the thresholds k, mean over the batch.

    Source: Cao, Mirjalili and Raschka 2020 (CORAL).
    """

    wants_ratings = False

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return [score > k] for each threshold, (N, ranks - 1)."""
        return ordinal_levels(labels, self.ranks)

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Sum of the thresholds' cross-entropies, mean over the batch."""
        assert output.logits is not None, "a CORAL objective belongs to a CORAL output"
        each = functional.binary_cross_entropy_with_logits(
            output.logits, target.to(output.logits.dtype), reduction="none"
        )
        return each.sum(dim=1).mean()


def _divergence(output: TargetOutput, target: Tensor) -> Tensor:
    assert output.dist is not None, "a distribution objective belongs to a distribution output"
    logs = (output.dist + FLOOR).log()
    return functional.kl_div(logs, target.to(logs.dtype), reduction="batchmean")


def build_objective(kind: str, *, bins: int, targets: str, sigma: float, loss: str = "l1") -> Objective:
    """Return the objective of an output kind.

    Args:
        kind: scalar, distribution, coral.
        bins, targets, sigma: of a distribution: gaussian or one_hot over `bins`, or raters over 5.
        loss: of a scalar: l1, mse.
    """
    scalars: dict[str, Objective] = {"l1": L1Objective(), "mse": MseObjective()}
    distributions: dict[str, Objective] = {
        name: DistributionObjective(bins, name, sigma) for name in ("gaussian", "one_hot")
    }
    distributions["raters"] = RatersObjective()
    objectives = {"scalar": scalars[loss], "distribution": distributions[targets], "coral": CoralObjective(RANKS)}
    return objectives[kind]
