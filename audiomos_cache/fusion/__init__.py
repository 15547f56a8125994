"""Fusion: blend the predictions of several members into one answer.

`fuse` and `apply_fusion` do it on files; `METHODS` work on `Predictions` in memory; below them are pure functions on
arrays: `simplex_weights`, `greedy_weights`, `ridge_coefficients`, `mean_ranks`, `assign_folds`.
"""

from audiomos_cache.fusion.align import align, align_labels, common_clips
from audiomos_cache.fusion.base import Fusion, LearnedFusion
from audiomos_cache.fusion.boosting import LightGBMFusion
from audiomos_cache.fusion.folds import DEFAULT_FOLDS, GROUPS, Folds, assign_folds
from audiomos_cache.fusion.fusing import Fused, apply_fusion, fuse
from audiomos_cache.fusion.greedy import GreedyFusion, greedy_path, greedy_weights
from audiomos_cache.fusion.learning import OutOfFold
from audiomos_cache.fusion.mean import MeanFusion
from audiomos_cache.fusion.methods import FIXED, LEARNED, METHODS
from audiomos_cache.fusion.out_of_fold import out_of_fold
from audiomos_cache.fusion.rank import RankFusion, mean_ranks
from audiomos_cache.fusion.recipe import Recipe
from audiomos_cache.fusion.record import RECORD_NAME, FusionRecord, load_fusion, read_record
from audiomos_cache.fusion.ridge import RidgeFusion, ridge_coefficients
from audiomos_cache.fusion.seen import CHOSEN_BY, EarlyStopping, Leads, lead_over_neighbours, selection_excess
from audiomos_cache.fusion.weighted import WeightedFusion, simplex_weights

__all__ = [
    "CHOSEN_BY",
    "DEFAULT_FOLDS",
    "FIXED",
    "GROUPS",
    "LEARNED",
    "METHODS",
    "RECORD_NAME",
    "EarlyStopping",
    "Folds",
    "Fused",
    "Fusion",
    "FusionRecord",
    "GreedyFusion",
    "Leads",
    "LearnedFusion",
    "LightGBMFusion",
    "MeanFusion",
    "OutOfFold",
    "RankFusion",
    "Recipe",
    "RidgeFusion",
    "WeightedFusion",
    "align",
    "align_labels",
    "apply_fusion",
    "assign_folds",
    "common_clips",
    "fuse",
    "greedy_path",
    "greedy_weights",
    "lead_over_neighbours",
    "load_fusion",
    "mean_ranks",
    "out_of_fold",
    "read_record",
    "ridge_coefficients",
    "selection_excess",
    "simplex_weights",
]
