"""Masks of padded sequences: True is valid, and the valid positions come first."""

import torch
from torch import Tensor


def valid_mask(lengths: Tensor, longest: int) -> Tensor:
    """Say which positions of B sequences are valid: (B, longest) bool, on the device of `lengths` (B,)."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]
