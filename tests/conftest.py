import torch

from tests.support.registry import fresh_registry

__all__ = ["fresh_registry"]

torch.set_num_threads(1)  # the tensors of the tests are small, and other processes share the cores
