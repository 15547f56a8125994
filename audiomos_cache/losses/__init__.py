"""What a head is trained on: the objective of its outputs, and what a wrong order of a batch's clips costs besides."""

from audiomos_cache.heads.losses import (
    CoralObjective,
    DistributionObjective,
    L1Objective,
    MseObjective,
    Objective,
    RatersObjective,
    build_objective,
)
from audiomos_cache.heads.ranking import (
    RANKINGS,
    AdaptiveMarginRanking,
    ListwiseRanking,
    NoRanking,
    PairwiseRanking,
    Ranking,
    WeightedRanking,
    build_ranking,
)

__all__ = [
    "RANKINGS",
    "AdaptiveMarginRanking",
    "CoralObjective",
    "DistributionObjective",
    "L1Objective",
    "ListwiseRanking",
    "MseObjective",
    "NoRanking",
    "Objective",
    "PairwiseRanking",
    "Ranking",
    "RatersObjective",
    "WeightedRanking",
    "build_objective",
    "build_ranking",
]
