"""The ways to blend predictions, by name."""

from audiomos_cache.fusion.averages import MeanFusion, WeightedFusion
from audiomos_cache.fusion.base import Fusion, LearnedFusion
from audiomos_cache.fusion.boosting import LightGBMFusion
from audiomos_cache.fusion.greedy import GreedyFusion
from audiomos_cache.fusion.rank import RankFusion
from audiomos_cache.fusion.stacking import RidgeFusion

LEARNED: dict[str, type[LearnedFusion]] = {
    "weighted": WeightedFusion,
    "ridge": RidgeFusion,
    "lightgbm": LightGBMFusion,
    "greedy": GreedyFusion,
}
FIXED: dict[str, type[MeanFusion] | type[RankFusion]] = {"mean": MeanFusion, "rank": RankFusion}
METHODS: dict[str, type[Fusion]] = {**FIXED, **LEARNED}
