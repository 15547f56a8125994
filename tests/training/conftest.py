"""Fixtures of the tests of training."""

from tests.support.training import cache, on_gpu, pretend_layers

__all__ = ["cache", "on_gpu", "pretend_layers"]
