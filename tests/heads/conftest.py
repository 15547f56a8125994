"""Fixtures of the tests of heads."""

import pytest
import torch

from tests.support.heads import make_clips, randomise, yaml_file

__all__ = ["make_clips", "randomise", "yaml_file"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
