"""How heads are computed: what decides the last digits of their numbers, and the time they take."""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.config import TrainingConfig
from audiomos_cache.heads.model import Head

Precision = Literal["fp32", "bf16"]
Compile = Literal["auto", "on", "off"]

# What compiling repays, measured on an H100 with bf16: of each of transformer-dist's steps, 32 clips of 750 frames, it
# saves 1.7 of 7.9 ms, and takes 20 s, or 2 s where PyTorch finds what it compiled earlier.
COMPILING_S = 20.0
SAVED_S_PER_FRAME = 1.7e-3 / (32 * 750)  # of 1024 dimensions


@dataclass(frozen=True, slots=True)
class Computing:
    """How a head is computed.

    Attributes:
        precision: "bf16": matrix products in bfloat16; weights, softmax, norms and losses stay in float32.
        compiled: whether the head is compiled for training.
        recorded: whether a GPU is told a training step once, as a CUDA graph, where that can be.
    """

    precision: Precision = "fp32"
    compiled: bool = False
    recorded: bool = True

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Compute what is in a block in this precision."""
        return torch.autocast(device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def uncompiled(self) -> AbstractContextManager[object]:
        """Compute what is in a block, batches of any shape, without compiled code."""
        if not self.compiled:
            return nullcontext()
        stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return stance


PLAINLY = Computing()


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


def choose_precision(wanted: Precision | None, device: torch.device) -> Precision:
    """Return the precision that was asked for; where none was, bf16 on GPUs that have it, and fp32 elsewhere.

    Raises:
        ConfigError: bf16 on a GPU that does not have it.
    """
    if device.type != "cuda":
        return wanted or "fp32"
    available = torch.cuda.is_bf16_supported(including_emulation=False)
    if wanted == "bf16" and not available:
        raise ConfigError(f"--precision bf16: {torch.cuda.get_device_name(device)} does not have it; use fp32")
    return wanted or ("bf16" if available else "fp32")


def compiling_pays(trainings: Iterable[TrainingConfig], clips: int, longest: int, audio_dim: int) -> bool:
    """Say whether compiling saves more time than it takes.

    Args:
        trainings: all that are to be done in this process. Of each, twice its patience in epochs is counted on.
        clips, longest: of the training set: how many, and the frames of the longest.
        audio_dim: width of the frames.
    """
    epochs = sum(min(training.max_epochs, 2 * training.patience) for training in trainings)
    return epochs * clips * longest * audio_dim / 1024 * SAVED_S_PER_FRAME > COMPILING_S


def compile_head(head: Head, backend: str = "inductor") -> None:
    """Let what is most of a head be compiled when it is first used.

    The code depends on the architecture and the shapes alone: one compilation serves all seeds of a plan, and all heads
    that differ in what follows, the layers of each target.
    """
    head.represent = torch.compile(head.represent, dynamic=False, backend=backend)  # type: ignore[method-assign]


def one_line(error: Exception) -> str:
    """Return what an error says, without the rest that compilers have to say."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
