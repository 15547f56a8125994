"""Training steps that are recorded on a GPU once, as a CUDA graph, and then repeated.

A step of a small head is some hundreds of kernels; launching them takes the host as long as computing them takes the
GPU. A CUDA graph launches them all at once. What differs from step to step, the clips and the learning rate, is on the
GPU before the epoch begins, and a counter there says whose turn it is: the host does nothing for a step but start it.
Python runs while a step is recorded and not when it is repeated: forward hooks of a head fire in the first steps alone.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.compiling import one_line
from audiomos_cache.training.precision import Execution

log = logging.getLogger(__name__)


WARM_UP = 3  # steps before it is recorded: memory, kernels and compiled code are there from then on

# Takes a step on the clips (B,) at a learning rate (1,), and returns its loss, a scalar.
TakeStep = Callable[[Tensor, Tensor], Tensor]
# Takes a step for each batch of an epoch, at the learning rate of each, and returns the loss of each, (batches,).
TakeSteps = Callable[[Sequence[list[int]], Sequence[float]], Tensor]
Action = Callable[[], None]


def recorded_if_possible(
    steps: TakeSteps, step: TakeStep, config: HeadConfig, batches: FeatureBatches, execution: Execution
) -> TakeSteps:
    """Return what takes the steps of an epoch: recorded ones where they can be, or else `steps` as they are.

    Recorded are those of heads whose clips are on the GPU: not with a BiLSTM, which needs their lengths on the host,
    and not with mixup, which draws on the host.

    Args:
        steps: takes the steps one after the other, as the host comes to each.
        step: takes one step without waiting for the GPU.
        config, batches, execution: of the training.
    """
    host_is_needed = batches.on_gpu is None or config.temporal.kind == "bilstm" or config.training.feature_mixup > 0
    if host_is_needed or not execution.cuda_graph:
        return steps
    return GraphSteps(step, config.training.batch_size, batches.device)


class GraphSteps:
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
        self._short: GraphSteps | None = None
        self._clips = torch.empty(0, batch_size, dtype=torch.int64, device=device)
        self._rates = self._losses = torch.empty(0, device=device)
        self._turn = torch.zeros(1, dtype=torch.int64, device=device)

    def __call__(self, batches: Sequence[Sequence[int]], rates: Sequence[float]) -> Tensor:
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
            self._short = GraphSteps(self.take, len(batches[-1]), self.device, self._record)
        return torch.cat((self._losses, self._short(batches[len(full) :], rates[len(full) :])))

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
    """Record what an action gives the GPU to do, without doing it, as a CUDA graph; return what does it.

    Chance is drawn anew each time, from torch's generator, whose state moves on as if the action had been done.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        action()
    return graph.replay
