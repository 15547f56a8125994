"""Training steps that are captured on a GPU once, as a CUDA graph, and then replayed.

A step of a small head is some hundreds of kernels; launching them takes the host as long as computing them takes the
GPU. A CUDA graph launches them all at once. What differs from step to step, the clips and the learning rate, is on the
GPU before the epoch begins, with a counter of the steps: the host does nothing for a step but launch it.
Python runs while a step is captured and not when it is replayed: forward hooks of a head fire in the first steps alone,
and what a part draws by `random` or NumPy, or counts, would be the same in all steps. So heads with a user's part are
not captured, unless its class says `capturable = True`.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audiomos_cache.heads.config import HeadConfig, parts_of
from audiomos_cache.registry import BUILT_IN, lookup
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.execution import Execution, one_line

log = logging.getLogger(__name__)


WARM_UP = 3  # steps before one is captured: memory, kernels and compiled code exist from then on

# Takes a step on the clips (B,) at a learning rate (1,), and returns its loss, a scalar.
TakeStep = Callable[[Tensor, Tensor], Tensor]
# Takes a step for each batch of an epoch, at the learning rate of each, and returns the loss of each, (batches,).
TakeSteps = Callable[[Sequence[list[int]], Sequence[float]], Tensor]
Action = Callable[[], None]


def captured_if_possible(
    steps: TakeSteps, step: TakeStep, config: HeadConfig, batches: FeatureBatches, execution: Execution
) -> TakeSteps:
    """Return the function that takes the steps of an epoch: by a CUDA graph if possible, or else `steps` unchanged.

    It is possible for heads whose clips are on the GPU: not with a BiLSTM, which needs their lengths on the host, not
    with mixup, which draws random numbers on the host, and not with a user's part that does not say `capturable`.

    Args:
        steps: takes the steps one after the other, each launched by the host.
        step: takes one step without waiting for the GPU.
        config, batches, execution: of the training.
    """
    host_is_needed = batches.on_gpu is None or config.temporal.kind == "bilstm" or config.training.feature_mixup > 0
    if host_is_needed or not execution.cuda_graph:
        return steps
    if others := [f"{kind} {name}" for kind, name in parts_of(config) if not _is_capturable(kind, name)]:
        log.info("steps are not captured as a CUDA graph: %s does not say capturable = True", ", ".join(others))
        return steps
    return GraphSteps(step, config.training.batch_size, batches.device)


def _is_capturable(kind: str, name: str) -> bool:
    return name in BUILT_IN[kind] or getattr(lookup(kind, name), "capturable", False) is True


class GraphSteps:
    """Takes the steps of an epoch by CUDA graphs: one for full batches, and one for the short last batch.

    Args:
        take: the step that is captured; nothing in it may wait for the GPU.
        batch_size: clips of a full batch.
        device: the GPU.
        capture: takes an action and returns what replays it; see `capture_graph`.
    """

    def __init__(
        self, take: TakeStep, batch_size: int, device: torch.device, capture: Callable[[Action], Action] | None = None
    ) -> None:
        self.take, self.batch_size, self.device = take, batch_size, device
        self._capture = capture or capture_graph
        self._replay: Action | None = None
        self._taken = 0
        self._short: GraphSteps | None = None
        self._clips = torch.empty(0, batch_size, dtype=torch.int64, device=device)
        self._rates = self._losses = torch.empty(0, device=device)
        self._step = torch.zeros(1, dtype=torch.int64, device=device)

    def __call__(self, batches: Sequence[Sequence[int]], rates: Sequence[float]) -> Tensor:
        """Take a step for each batch.

        Args:
            batches: clips of each: `batch_size`, or fewer in the last.
            rates: the learning rate of each step.
        Returns:
            The loss of each, (batches,), on the GPU, which may not have finished them.
        """
        full = [batch for batch in batches if len(batch) == self.batch_size]
        self._prepare(full, rates[: len(full)])
        for _ in full:
            self._next()
        if len(full) == len(batches):
            return self._losses.clone()
        if self._short is None:
            self._short = GraphSteps(self.take, len(batches[-1]), self.device, self._capture)
        return torch.cat((self._losses, self._short(batches[len(full) :], rates[len(full) :])))

    def _prepare(self, batches: Sequence[Sequence[int]], rates: Sequence[float]) -> None:
        if len(self._rates) != len(batches):  # once: all epochs have as many
            self._clips = self._clips.new_empty(len(batches), self.batch_size)
            self._rates, self._losses = (self._rates.new_empty(len(batches)) for _ in range(2))
            self._replay = None
        if batches:
            self._clips.copy_(torch.tensor(batches))
            self._rates.copy_(torch.tensor(rates))
        self._step.zero_()

    def _next(self) -> None:
        if self._replay is None and self._taken >= WARM_UP:
            try:
                self._replay = self._capture(self._one)
            except Exception as error:
                log.warning(
                    "steps cannot be captured as a CUDA graph, so each kernel is launched by itself: %s",
                    one_line(error),
                )
                self._replay = self._one
        if self._replay is not None:
            self._replay()
        else:
            self._one()
            self._taken += 1

    def _one(self) -> None:
        """Take the next step, all on the GPU."""
        clips, rate = (each.index_select(0, self._step) for each in (self._clips, self._rates))
        loss = self.take(clips.squeeze(0), rate)
        self._losses.index_copy_(0, self._step, loss.reshape(1))
        self._step.add_(1)


def capture_graph(action: Action) -> Action:
    """Capture the work that an action launches on the GPU, without doing it, as a CUDA graph; return its replay.

    Random numbers are drawn again in each replay, from torch's generator, whose state advances as without a graph.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        action()
    return graph.replay
