"""Scoring new music: audio and a prompt in, MI and TA out, by the encoders, heads and fusion of a bundle."""

from audiomos_cache.scoring.score import Item, Score
from audiomos_cache.scoring.scorer import Scorer

__all__ = ["Item", "Score", "Scorer"]
