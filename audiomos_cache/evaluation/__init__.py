"""How sure the numbers of `metrics` are, whether one head's are better than another's, and where they come from.

Pure functions on what `metrics.points_of` makes of predictions and labels.
"""

from audiomos_cache.evaluation.bootstrap import LEVEL, Uncertainty, bootstrap_intervals
from audiomos_cache.evaluation.comparison import Comparison, Difference, compare, holm, verdict
from audiomos_cache.evaluation.intervals import Bca, UndefinedIntervalError, expanded_level
from audiomos_cache.evaluation.permutation import swap_p_values
from audiomos_cache.evaluation.systems import SystemLine, per_system
from audiomos_cache.evaluation.weighted import WeightedAgreement

__all__ = [
    "LEVEL",
    "Bca",
    "Comparison",
    "Difference",
    "SystemLine",
    "Uncertainty",
    "UndefinedIntervalError",
    "WeightedAgreement",
    "bootstrap_intervals",
    "compare",
    "expanded_level",
    "holm",
    "per_system",
    "swap_p_values",
    "verdict",
]
