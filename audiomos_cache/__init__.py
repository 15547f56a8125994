"""Predict mean opinion scores of generated music from cached features of frozen encoders.

The flow: dataset -> `extract` -> cache -> `train-head` -> runs -> predictions -> `fuse` -> answer.
"""

__version__ = "0.1.0"
