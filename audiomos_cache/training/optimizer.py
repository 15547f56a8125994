"""The optimizer, and the learning rate of each step."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.config import TrainingConfig


def build_optimizer(head: nn.Module, lr: float, weight_decay: float, decay: str) -> torch.optim.AdamW:
    """Return the optimizer of a head's parameters; on a GPU its rate is a tensor, and a CUDA graph can capture it.

    Args:
        head: the head to train, on its device.
        lr, weight_decay: of AdamW.
        decay: the parameters that weight decay applies to: "all" parameters, or the "matrices" among them.
    """
    parameters = list(head.parameters())
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if decay == "matrices":
        groups = [
            {"params": [each for each in parameters if each.ndim > 1]},
            {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
        ]
    on_gpu = parameters[0].device.type == "cuda"
    rate = torch.tensor(lr, device=parameters[0].device) if on_gpu else lr
    return torch.optim.AdamW(groups, lr=rate, weight_decay=weight_decay, fused=True, capturable=on_gpu)


def set_rate(optimizer: torch.optim.Optimizer, rate: float | Tensor) -> None:
    """Set the learning rate of the next step; a tensor (1,) stays on its device."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].copy_(rate.squeeze()) if isinstance(rate, Tensor) else group["lr"].fill_(rate)
        else:
            group["lr"] = float(rate)


def steps_per_epoch(config: TrainingConfig, clips: int) -> int:
    """Return how many batches the clips make, the last one short."""
    return math.ceil(clips / config.batch_size)


@dataclass(frozen=True, slots=True)
class LearningRate:
    """The learning rate of each step, a function of the step alone.

    Attributes:
        peak: the rate at the end of the warm-up.
        schedule: one of `SCHEDULES`: the course after the warm-up.
        warmup_steps: of these the k-th has k / warmup_steps of the peak.
        steps: in all epochs together.
    """

    peak: float
    schedule: str
    warmup_steps: int
    steps: int

    @classmethod
    def of(cls, config: TrainingConfig, peak: float, steps_per_epoch: int) -> "LearningRate":
        """Return the learning rate of a training; its warm-up takes whole steps, the last begun one too.

        Raises:
            ConfigError: a warm-up of less than a step.
        """
        # Products of decimal fractions miss whole numbers by an ulp: 0.1 epochs of 30 steps are 3, not 4.
        warmup = round(config.warmup_epochs * steps_per_epoch, 9)
        if 0 < warmup < 1:
            raise ConfigError(
                f"training.warmup_epochs: {config.warmup_epochs} is less than one step of the {steps_per_epoch} in an "
                f"epoch, so it has no effect; give {2 / steps_per_epoch:.2g} or more, or 0 for none"
            )
        return cls(peak, config.schedule, math.ceil(warmup), config.max_epochs * steps_per_epoch)

    def at(self, step: int) -> float:
        """Return the rate of a step; the first is 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        return self.peak * SCHEDULES[self.schedule]((step - self.warmup_steps) / (self.steps - self.warmup_steps))


def _constant(_done: float) -> float:
    return 1.0


def _cosine(done: float) -> float:
    """Half a period, from 1 to 0. Source: Loshchilov and Hutter 2017 (SGDR), without restarts."""
    return (1 + math.cos(math.pi * done)) / 2


# The share of the peak, as a function of the share of the steps after the warm-up that are done.
SCHEDULES: dict[str, Callable[[float], float]] = {"constant": _constant, "cosine": _cosine}
