"""Training steps that a GPU is told once, and then only to repeat.

A step of a small head is some hundreds of kernels; launching them takes the host as long as computing them takes the
GPU. A CUDA graph launches them all at once. What differs from step to step, the clips and the learning rate, is on the
GPU before the epoch begins, and a counter there says whose turn it is: the host does nothing for a step but start it.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audiomos_cache.training.precision import one_line

log = logging.getLogger(__name__)


WARM_UP = 3  # steps before it is recorded: memory, kernels and compiled code are there from then on

# Takes a step on the clips (B,) at a learning rate (1,), and returns its loss, a scalar.
TakeStep = Callable[[Tensor, Tensor], Tensor]
Action = Callable[[], None]


class RecordedSteps:
    """The steps of an epoch, those of its short last batch apart.

    Args:
        take: what is recorded; nothing in it may wait for the GPU.
        batch_size: clips of a full batch.
        device: the GPU.
        record: takes an action and returns what repeats it; see `record_graph`.
    """

    def __init__(
        self, take: TakeStep, batch_size: int, device: torch.device, record: Callable[[Action], Action] | None = None
    ) -> None:
        self.take, self.batch_size, self.device = take, batch_size, device
        self._record = record or record_graph
        self._repeat: Action | None = None
        self._taken = 0
        self._short: RecordedSteps | None = None
        self._clips = torch.empty(0, batch_size, dtype=torch.int64, device=device)
        self._rates = self._losses = torch.empty(0, device=device)
        self._turn = torch.zeros(1, dtype=torch.int64, device=device)

    def run(self, batches: Sequence[Sequence[int]], rates: Sequence[float]) -> Tensor:
        """Take a step for each batch.

        Args:
            batches: clips of each; but for the last, which may be smaller, all of `batch_size`.
            rates: the learning rate of each step.
        Returns:
            The loss of each, (batches,), on the GPU, where they may not be finished yet.
        """
        full = [batch for batch in batches if len(batch) == self.batch_size]
        self._prepare(full, rates[: len(full)])
        for _ in full:
            self._next()
        if len(full) == len(batches):
            return self._losses.clone()
        if self._short is None:
            self._short = RecordedSteps(self.take, len(batches[-1]), self.device, self._record)
        return torch.cat((self._losses, self._short.run(batches[len(full) :], rates[len(full) :])))

    def _prepare(self, batches: Sequence[Sequence[int]], rates: Sequence[float]) -> None:
        if len(self._rates) != len(batches):  # once: all epochs have as many
            self._clips = self._clips.new_empty(len(batches), self.batch_size)
            self._rates, self._losses = (self._rates.new_empty(len(batches)) for _ in range(2))
            self._repeat = None
        if batches:
            self._clips.copy_(torch.tensor(batches))
            self._rates.copy_(torch.tensor(rates))
        self._turn.zero_()

    def _next(self) -> None:
        if self._repeat is None and self._taken >= WARM_UP:
            try:
                self._repeat = self._record(self._one)
            except Exception as error:
                log.warning(
                    "steps cannot be recorded as a CUDA graph, so each kernel is launched by itself: %s",
                    one_line(error),
                )
                self._repeat = self._one
        if self._repeat is not None:
            self._repeat()
        else:
            self._one()
            self._taken += 1

    def _one(self) -> None:
        """Take the step whose turn it is, all on the GPU."""
        clips, rate = (each.index_select(0, self._turn) for each in (self._clips, self._rates))
        loss = self.take(clips.squeeze(0), rate)
        self._losses.index_copy_(0, self._turn, loss.reshape(1))
        self._turn.add_(1)


def record_graph(action: Action) -> Action:
    """Record what an action tells the GPU, without doing it, as a CUDA graph; return what does it.

    Chance is drawn anew each time, from torch's generator, whose state moves on as if the action had been done.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        action()
    return graph.replay
