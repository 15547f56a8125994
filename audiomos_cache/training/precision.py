"""How heads are executed: what decides the last digits of their numbers, and the time they take."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from audiomos_cache.errors import ConfigError

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class Execution:
    """How a head is executed.

    Attributes:
        precision: "bf16": matrix products in bfloat16; weights, softmax, norms and losses stay in float32.
        compiled: whether the head is compiled for training; see `compiling.py`.
        cuda_graph: whether a training step is recorded on a GPU, where that can be; see `cuda_graph.py`.
    """

    precision: Precision = "fp32"
    compiled: bool = False
    cuda_graph: bool = True

    def __str__(self) -> str:
        return f"{self.precision}, {'compiled' if self.compiled else 'not compiled'}"

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return what computes a block in this precision; it can be entered again and again."""
        return torch.autocast(device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()


UNCOMPILED_FP32 = Execution()


@contextmanager
def repeatable(device: torch.device, precision: Precision) -> Iterator[None]:
    """Let a GPU that computes in fp32, the reference, take the algorithms that give the same digits each time.

    Where it has none for something, PyTorch warns. In bf16 the fastest are taken; on a CPU all are such.
    """
    if device.type != "cuda" or precision != "fp32":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first matrix product
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


def choose_precision(requested: Precision | None, device: torch.device) -> Precision:
    """Return the requested precision; where none was, bf16 on GPUs that have it, and fp32 elsewhere.

    Raises:
        ConfigError: bf16 on a GPU that does not have it.
    """
    if device.type != "cuda":
        return requested or "fp32"
    available = torch.cuda.is_bf16_supported(including_emulation=False)
    if requested == "bf16" and not available:
        raise ConfigError(f"--precision bf16: {torch.cuda.get_device_name(device)} does not have it; use fp32")
    return requested or ("bf16" if available else "fp32")
