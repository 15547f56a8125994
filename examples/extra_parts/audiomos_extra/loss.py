"""Huber loss of a score: squared near the label, absolute far from it (Huber 1964)."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from audiomos_cache.heads.outputs import TargetOutput
from audiomos_cache.heads.parts import PartConfig
from audiomos_cache.registry import register


@register("loss", "huber")
class HuberObjective:
    """Half the squared error up to `delta`, and `delta` times what is beyond."""

    output: ClassVar[str] = "scalar"
    wants_ratings = False
    capturable = True  # as a CUDA graph: computes with torch alone

    class Config(PartConfig):
        """Keys of the loss."""

        delta: float = Field(0.5, gt=0, description="in score units")

    def __init__(self, delta: float) -> None:
        self.delta = delta

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the labels themselves, (N,)."""
        return labels

    def loss(self, output: TargetOutput, target: Tensor) -> Tensor:
        """Mean over the batch."""
        return functional.huber_loss(output.score, target.to(output.score.dtype), delta=self.delta)
