"""Objectives: what an output layer is trained on (targets made from labels), and the loss against it.

A user's loss is registered as ours are, with the kind of output that it is for, scalar by default:

    @register("loss", "huber")
    class HuberObjective:
        output = "scalar"
        ...
"""

from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.outputs import RANKS, TargetOutput
from audiomos_cache.heads.part_configs import CoralLossConfig, DistributionLossConfig, GaussianConfig, NoKeys
from audiomos_cache.heads.parts import PUBLISHED_AUDIO_DIM, build_part
from audiomos_cache.registry import lookup, register
from audiomos_cache.targets import gaussian_distribution, one_hot_distribution, ordinal_levels, rater_distribution

FLOOR = 1e-10


class Objective(Protocol):
    """Targets and loss of one kind of output. Losses are means over the batch, in float32 at least.

    It is made with its own keys, and, for an output with a distribution, with the number of `bins` first.

    Attributes:
        wants_ratings: whether its targets are made of the listeners' single ratings instead of their mean.
    """

    wants_ratings: bool

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Make the training targets (N, ...) of MOS labels (N,), or of ratings (N, R) where it `wants_ratings`."""

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Compare an output for a batch with its targets (B, ...): a scalar, smallest for a perfect prediction."""


@register("loss", "l1")
class L1Objective:
    """Mean absolute error of the score.

    Source: Cooper et al. 2022 (SSL-MOS), and the published AudioMOS code.
    """

    Config = NoKeys
    output: ClassVar[str] = "scalar"
    wants_ratings = False

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the labels themselves, (N,)."""
        return labels

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Mean of |score - label| over the batch."""
        return functional.l1_loss(output.score, target.to(output.score.dtype))


@register("loss", "mse")
class MseObjective:
    """Mean squared error of the score: far misses cost more than near ones.

    Source: Lo et al. 2019 (MOSNet), the loss of its utterance score.
    """

    Config = NoKeys
    output: ClassVar[str] = "scalar"
    wants_ratings = False

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the labels themselves, (N,)."""
        return labels

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Mean of (score - label) squared over the batch."""
        return functional.mse_loss(output.score, target.to(output.score.dtype))


class _Divergence:
    """Kullback-Leibler divergence from a target distribution to the predicted one.

    Source: Ritter-Gutierrez et al. 2025: batch mean of KL on log(p + 1e-10).
    """

    output: ClassVar[str] = "distribution"

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Sum of target * log(target / p) over the bins, mean over the batch."""
        assert output.dist is not None, "a distribution objective belongs to a distribution output"
        logs = (output.dist + FLOOR).log()
        return functional.kl_div(logs, target.to(logs.dtype), reduction="batchmean")


@register("loss", "gaussian")
class GaussianObjective(_Divergence):
    """Kullback-Leibler divergence from a Gaussian around the label to the predicted distribution.

    Source: Ritter-Gutierrez et al. 2025, section II.
    """

    Config = GaussianConfig
    wants_ratings = False

    def __init__(self, bins: int, sigma: float) -> None:
        self.bins, self.sigma = bins, sigma

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the target distributions, (N, bins)."""
        return gaussian_distribution(labels, self.bins, self.sigma)


@register("loss", "one_hot")
class OneHotObjective(_Divergence):
    """Kullback-Leibler divergence from the label's bin to the predicted distribution."""

    Config = DistributionLossConfig
    wants_ratings = False

    def __init__(self, bins: int) -> None:
        self.bins = bins

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return 1 in the label's bin and 0 in all others, (N, bins)."""
        return one_hot_distribution(labels, self.bins)


@register("loss", "raters")
class RatersObjective(_Divergence):
    """Kullback-Leibler divergence from how a clip's listeners rated it to the predicted distribution over the ranks.

    Source: Faridee and Gamper 2022 (the histogram of the opinion scores as a target).
    """

    Config = DistributionLossConfig
    wants_ratings = True

    def __init__(self, bins: int = RANKS) -> None:
        assert bins == RANKS, "a config with other bins is refused"

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the shares of the ranks 1 to 5, (N, 5), in ratings (N, R)."""
        return rater_distribution(labels)


@register("loss", "coral")
class CoralObjective:
    """Binary cross-entropy of "the score exceeds k", summed over the thresholds k, mean over the batch.

    Source: Cao, Mirjalili and Raschka 2020 (CORAL).
    """

    Config = CoralLossConfig
    output: ClassVar[str] = "coral"
    wants_ratings = False

    def __init__(self, ranks: int = RANKS) -> None:
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


def objective_of(config: HeadConfig) -> Objective:
    """Return what the outputs of a head are trained on, built by the registry from `output.loss`."""
    loss = config.output.loss
    bins = config.output.predicted_bins
    arguments = {} if bins is None else {"bins": bins}
    objective: Objective = build_part(
        "loss", loss.kind, lookup("loss", loss.kind), **arguments, **loss.arguments(PUBLISHED_AUDIO_DIM)
    )
    return objective
