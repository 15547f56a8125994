"""One epoch of training: a step for each batch."""

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from audiomos_cache.config import HeadConfig, scaled_lr
from audiomos_cache.errors import DataError, first_five
from audiomos_cache.heads import Head
from audiomos_cache.losses import WeightedRanking, build_ranking
from audiomos_cache.mixup import draw_mixup, mix_frames, mixed_loss
from audiomos_cache.sequences import chunks
from audiomos_cache.training.batches import epoch_order
from audiomos_cache.training.optimizer import LearningRate, build_optimizer
from audiomos_cache.training.targeted import TargetedBatches


class DivergedError(DataError):
    """What is trained is not finite any more, and would not be again."""


class Trainer:
    """Trains a head, an epoch at a time. All chance of an epoch but dropout depends on seed and epoch alone."""

    def __init__(self, config: HeadConfig, seed: int, head: Head, batches: TargetedBatches) -> None:
        self.config, self.seed, self.head, self.batches = config.training, seed, head, batches
        lr = scaled_lr(self.config.lr, batches.clips.first_reader.audio_dim)
        self.optimizer = build_optimizer(head, lr, self.config.weight_decay, self.config.decay)
        self._steps_per_epoch = math.ceil(len(batches.clips) / self.config.batch_size)
        self._lr = LearningRate.of(self.config, lr, self._steps_per_epoch)
        self._ranking = build_ranking(**config.ranking.model_dump())

    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """Take a step for each batch.

        Args:
            epoch: its number; the first is 1.
        Returns:
            The learning rate of the last step, and the mean over the clips of (loss MI + loss TA) / 2, as it was
            before each step, without any ranking.
        Raises:
            DivergedError: the loss is not finite; names the batch's clips.
        """
        self.head.train()
        batch_loss = self._batch_loss(epoch)
        batches = chunks(epoch_order(len(self.batches.clips), self.seed, epoch), self.config.batch_size)
        total = lr = 0.0
        for step, indices in enumerate(batches, start=(epoch - 1) * self._steps_per_epoch):
            lr = self._lr.at(step)
            total += self._step(batch_loss, indices, lr) / 2 * len(indices)
        return lr, total / len(self.batches.clips)

    def _batch_loss(self, epoch: int) -> "BatchLoss":
        if self.config.feature_mixup:
            return MixedLoss(self.config.feature_mixup, epoch_generator(self.seed, epoch))
        return PlainLoss(self._ranking)

    def _step(self, batch_loss: "BatchLoss", indices: list[int], lr: float) -> float:
        objective, loss = batch_loss.of(self.head, self.batches, indices)
        value = objective.item()
        if not math.isfinite(value):
            ids = [self.batches.clips.ids[i] for i in indices]
            raise DivergedError(
                f"the loss is {value} on the batch of {first_five(ids)}; a smaller training.lr may help"
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.head.parameters(), self.config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        return value


class BatchLoss(Protocol):
    """What a step minimises."""

    def of(self, head: Head, batches: TargetedBatches, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Run the head on the clips at `indices`. Returns its objective, and the whole loss."""


class PlainLoss:
    """The clips as they are; their scores are compared with the targets, and with each other."""

    def __init__(self, ranking: WeightedRanking) -> None:
        self.ranking = ranking

    def of(self, head: Head, batches: TargetedBatches, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Return the objective, and the objective with the ranking term."""
        features = batches.features.gather(indices, reuse=True)
        output = head(features.frames, features.frame_mask, features.tokens, features.token_mask)
        objective = batches.loss(output, indices)
        return objective, objective + self.ranking.loss(output, *batches.labels(indices))


class MixedLoss:
    """Each clip mixed with another of its batch; such clips have two targets, and no place in an order."""

    def __init__(self, alpha: float, generator: torch.Generator) -> None:
        self.alpha, self.generator = alpha, generator

    def of(self, head: Head, batches: TargetedBatches, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Return the objective, twice."""
        features = batches.features.gather(indices, reuse=True)
        order, lam = draw_mixup(len(indices), self.alpha, self.generator)
        others = [indices[i] for i in order.tolist()]
        mixed, mask = mix_frames(features.frames, features.frame_mask, order.to(batches.features.device), lam)
        output = head(mixed, mask, features.tokens, features.token_mask)
        loss = mixed_loss(batches.loss(output, indices), batches.loss(output, others), lam)
        return loss, loss


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return the generator that an epoch's clips are mixed by; it depends on seed and epoch alone."""
    # The 1 sets it apart from what orders the clips.
    return torch.Generator().manual_seed(int(np.random.default_rng([seed, epoch, 1]).integers(2**63)))
