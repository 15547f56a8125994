"""Predict mean opinion scores of generated music from cached features of frozen encoders.

The flow: dataset -> `extract` -> cache -> `train-head` -> runs -> predictions -> `fuse` -> answer; or with a `bundle`,
new music -> `score` -> MI, TA:

    from audiomos_cache import Scorer

    scores = Scorer("model").score(["song.wav"], ["A slow piano ballad."])
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audiomos_cache.scoring.results import Score
    from audiomos_cache.scoring.scorer import Scorer

__version__ = "0.1.0"
_HOMES = {"Score": "results", "Scorer": "scorer"}
__all__ = ["Score", "Scorer", "__version__"]


def __getattr__(name: str) -> object:
    """Import what scores when it is first asked for: it needs torch, and the command line's help does not."""
    if name in _HOMES:
        return getattr(import_module(f"audiomos_cache.scoring.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
