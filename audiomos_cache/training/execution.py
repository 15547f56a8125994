"""How heads are executed: what decides the last digits of their numbers, and the time they take.

Compiled code is in use within a full batch's forward and backward pass and nowhere else: a short last batch, validation
and predictions never use it, so that no other shape is compiled.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from audiomos_cache.batch import Batch
from audiomos_cache.devices import Compile, should_compile
from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.config import HeadConfig, TrainingConfig
from audiomos_cache.heads.model import Head
from audiomos_cache.training.data import ClipSet

Precision = Literal["fp32", "bf16"]

# Measured on an H100 with bf16: compiling takes 20 s, or 2 s if PyTorch finds what it compiled earlier, and saves 1.7
# of the 7.9 ms of a step of transformer-dist on 32 clips of 750 frames.
COMPILING_S = 20.0
SAVED_S_PER_FRAME = 1.7e-3 / (32 * 750)  # of 1024 dimensions

# Computes the gradients of a batch of the clips with these indices, and returns its objective.
Gradients = Callable[[Batch, list[int] | Tensor], Tensor]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Execution:
    """How a head is executed.

    Attributes:
        precision: "bf16": matrix products in bfloat16; weights, softmax, norms and losses stay in float32.
        compiled: whether the head is compiled for training; see `CompiledGradients`.
        cuda_graph: whether a training step is captured as a CUDA graph, if possible; see `cuda_graph.py`.
    """

    precision: Precision = "fp32"
    compiled: bool = False
    cuda_graph: bool = True

    def __str__(self) -> str:
        return f"{self.precision}, {'compiled' if self.compiled else 'not compiled'}"

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return a context that computes in this precision; it can be entered again and again."""
        return torch.autocast(device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()


UNCOMPILED_FP32 = Execution()


@contextmanager
def repeatable(device: torch.device, precision: Precision) -> Iterator[None]:
    """Let a GPU that computes in fp32, the reference, use the algorithms that give the same digits each time.

    PyTorch warns about an operation that has none. In bf16 the fastest are used; on a CPU all are deterministic.
    """
    if device.type != "cuda" or precision != "fp32":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first matrix product
    if torch.are_deterministic_algorithms_enabled():  # by the caller, who may want an error in place of a warning
        yield
        return
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


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


def should_compile_heads(requested: Compile, heads: Iterable[HeadConfig], clips: ClipSet, device: torch.device) -> bool:
    """Return whether the heads of a plan are compiled: as requested, or with "auto" if that saves time.

    Args:
        requested: what the user chose.
        heads: all that are to be trained in this process; those with a transformer get faster.
        clips: the training set.
        device: the device of the heads.
    """
    trainings = [head.training for head in heads if head.temporal.kind == "transformer"]
    longest = max(int(reader.valid_frames[index]) for reader, index in clips.entries)
    saved = saved_seconds(trainings, len(clips), longest, clips.first_reader.audio_dim)
    return should_compile(requested, device.type, saved, COMPILING_S)


def saved_seconds(trainings: Iterable[TrainingConfig], clips: int, longest: int, audio_dim: int) -> float:
    """Estimate how many seconds compiled code saves on a GPU.

    Args:
        trainings: each is expected to take twice its patience in epochs.
        clips, longest: how many clips the training set has, and how many frames the longest of them.
        audio_dim: width of the frames.
    """
    epochs = sum(min(training.max_epochs, 2 * training.patience) for training in trainings)
    return epochs * clips * longest * audio_dim / 1024 * SAVED_S_PER_FRAME


def compiled_if_requested(gradients: Gradients, head: nn.Module, batch_size: int, execution: Execution) -> Gradients:
    """Return the function that computes the gradients of a step: unchanged, or with compiled code for full batches."""
    return CompiledGradients(gradients, head, batch_size) if execution.compiled else gradients


class CompiledGradients:
    """Computes gradients of full batches by compiled code; if that fails, it warns once and continues without.

    Most of a head is compiled, when it is first used. The code depends on the architecture and the shapes
    alone: one compilation serves all seeds of a plan, and all heads that differ only in the layers of each target.

    Args:
        gradients: computes them without compiled code; it calls the head.
        head: a `Head`, or a module that wraps one.
        batch_size: clips of a full batch.
        backend: of `torch.compile`.
    """

    def __init__(
        self, gradients: Gradients, head: nn.Module, batch_size: int, backend: str | Callable[..., Any] = "inductor"
    ) -> None:
        self._gradients, self._batch_size = gradients, batch_size
        self._head = next(module for module in head.modules() if isinstance(module, Head))
        self._code: Callable[..., Any] | None = torch.compile(self._head.represent, dynamic=False, backend=backend)

    def __call__(self, batch: Batch, clips: list[int] | Tensor) -> Tensor:
        """Compute the gradients of a batch, full or short."""
        if self._code is not None and len(batch) == self._batch_size:
            try:
                with self._in_use(self._code):
                    return self._gradients(batch, clips)
            except Exception as error:  # of any kind; an error that is not the compiler's is raised again below
                log.warning("the head cannot be compiled, so it is trained without: %s", one_line(error))
                self._code = None
        return self._gradients(batch, clips)

    @contextmanager
    def _in_use(self, code: Callable[..., Any]) -> Iterator[None]:
        """Let the head run compiled code within a block."""
        self._head.represent = code  # type: ignore[method-assign]
        try:
            yield
        finally:
            del self._head.represent


def one_line(error: Exception) -> str:
    """Return the type and the first line of an error: compilers' messages are long."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
