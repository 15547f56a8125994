"""What a head is told about clips: how far its outputs are from what it should have said, and how it orders them."""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.losses import Objective, build_objective
from audiomos_cache.heads.model import HeadOutput
from audiomos_cache.training.batches import FeatureBatches


class TargetedBatches:
    """Batches of a labelled clip set, with the targets of both scores on their device."""

    def __init__(self, features: FeatureBatches, objective: Objective) -> None:
        self.clips = features.clips
        self.features = features
        self.objective = objective
        self._labels = tuple(map(self._tensor, (self.clips.mi, self.clips.ta)))
        given = self.clips.ratings if objective.wants_ratings else self.clips
        assert given is not None, "ratings are there where a head is trained on them"
        self._targets = tuple(self._tensor(objective.targets(each)) for each in (given.mi, given.ta))

    def loss(self, output: HeadOutput, indices: Sequence[int] | Tensor) -> Tensor:
        """Add the losses of MI and TA against the targets of the clips at `indices`."""
        mi, ta = (targets[indices] for targets in self._targets)
        return self.objective.loss(output.mi_output, mi) + self.objective.loss(output.ta_output, ta)

    def labels(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return MI and TA of the clips at `indices`, (B,) each."""
        mi, ta = (labels[indices] for labels in self._labels)
        return mi, ta

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32).to(self.features.device)


def objective_of(config: HeadConfig) -> Objective:
    """Return what a head's outputs are trained on."""
    output = config.output
    return build_objective(output.kind, bins=output.bins, targets=output.targets, sigma=output.sigma, loss=output.loss)
