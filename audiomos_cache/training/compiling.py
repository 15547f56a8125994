"""Compiling heads for training: whether it pays, the steps that use the compiled code, and going on where it fails.

The code is in use within a full batch's forward and backward pass and nowhere else: a short last batch, validation and
predictions never meet it, so that no other shape is compiled.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from audiomos_cache.batch import Batch
from audiomos_cache.devices import Compile, should_compile
from audiomos_cache.heads.config import HeadConfig, TrainingConfig
from audiomos_cache.heads.model import Head
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.precision import Execution

# What compiling repays, measured on an H100 with bf16: of each of transformer-dist's steps, 32 clips of 750 frames, it
# saves 1.7 of 7.9 ms, and takes 20 s, or 2 s where PyTorch finds what it compiled earlier.
COMPILING_S = 20.0
SAVED_S_PER_FRAME = 1.7e-3 / (32 * 750)  # of 1024 dimensions

# Computes the gradients of a batch of the clips with these indices, and returns its objective.
Gradients = Callable[[Batch, list[int] | Tensor], Tensor]

log = logging.getLogger(__name__)


def should_compile_heads(requested: Compile, heads: Iterable[HeadConfig], clips: ClipSet, device: torch.device) -> bool:
    """Say whether the heads of a plan are compiled: as requested, or for "auto" where that pays.

    Args:
        requested: what the user says.
        heads: all that are to be trained in this process; those with a transformer gain by it.
        clips: that they are trained on.
        device: where.
    """
    trainings = [head.training for head in heads if head.temporal.kind == "transformer"]
    longest = max(int(reader.valid_frames[index]) for reader, index in clips.places)
    saved = saved_seconds(trainings, len(clips), longest, clips.first_reader.audio_dim)
    return should_compile(requested, device.type, saved, COMPILING_S)


def saved_seconds(trainings: Iterable[TrainingConfig], clips: int, longest: int, audio_dim: int) -> float:
    """Estimate how many seconds compiled code saves on a GPU.

    Args:
        trainings: of each, twice its patience in epochs is counted on.
        clips, longest: of the training set: how many, and the frames of the longest.
        audio_dim: width of the frames.
    """
    epochs = sum(min(training.max_epochs, 2 * training.patience) for training in trainings)
    return epochs * clips * longest * audio_dim / 1024 * SAVED_S_PER_FRAME


def compiled_if_requested(gradients: Gradients, head: nn.Module, batch_size: int, execution: Execution) -> Gradients:
    """Return what computes the gradients of a step: as it is, or with compiled code for full batches."""
    return CompiledGradients(gradients, head, batch_size) if execution.compiled else gradients


class CompiledGradients:
    """Gradients of full batches by compiled code; where that cannot be had, it says so once and goes on without.

    What is most of a head is compiled, when it is first used. The code depends on the architecture and the shapes
    alone: one compilation serves all seeds of a plan, and all heads that differ only in the layers of each target.

    Args:
        gradients: what computes them without; it calls the head.
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
            except Exception as error:  # of whatever kind; what is not the compiler's comes again below
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
    """Return what an error says, without the rest that compilers have to say."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
