"""Fixtures of the tests of the published code."""

import pytest
import torch

from tests.support.heads import make_clips, randomise
from tests.support.training import cache, pretend_layers

__all__ = ["cache", "make_clips", "pretend_layers", "randomise"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
