"""What a head is trained on: the objective of its outputs."""

from audiomos_cache.losses.objectives import (
    CoralObjective,
    DistributionObjective,
    L1Objective,
    MseObjective,
    Objective,
    RatersObjective,
    build_objective,
)

__all__ = [
    "CoralObjective",
    "DistributionObjective",
    "L1Objective",
    "MseObjective",
    "Objective",
    "RatersObjective",
    "build_objective",
]
