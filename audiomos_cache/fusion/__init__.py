"""Fusion: blend the predictions of several runs into one answer.

`fuse` does it on files; the methods themselves work on `Predictions` in memory.
"""

from audiomos_cache.fusion.fusing import RECORD_NAME, fuse
from audiomos_cache.fusion.inputs import Inputs, inputs_of_files, inputs_of_runs
from audiomos_cache.fusion.methods import METHODS, Fusion, MeanFusion, RidgeFusion, RidgeWeights, align

__all__ = [
    "METHODS",
    "RECORD_NAME",
    "Fusion",
    "Inputs",
    "MeanFusion",
    "RidgeFusion",
    "RidgeWeights",
    "align",
    "fuse",
    "inputs_of_files",
    "inputs_of_runs",
]
