"""One epoch of training: a step for each batch, and the losses that it minimises."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomos_cache.batch import chunks
from audiomos_cache.errors import AudiomosError, CacheError, DataError, first_five
from audiomos_cache.heads.config import HeadConfig, scaled_lr
from audiomos_cache.heads.losses import Objective
from audiomos_cache.heads.model import Head, HeadOutput
from audiomos_cache.heads.ranking import WeightedRanking, ranking_of
from audiomos_cache.profiling import OFF, Profile
from audiomos_cache.training.batches import FeatureBatches, epoch_order
from audiomos_cache.training.cuda_graph import RecordedSteps
from audiomos_cache.training.gpu_batches import Features
from audiomos_cache.training.limits import WorkCounter
from audiomos_cache.training.mixup import draw_mixup, mix_frames, mixed_loss
from audiomos_cache.training.optimizer import LearningRate, build_optimizer, set_rate, steps_per_epoch
from audiomos_cache.training.precision import PLAINLY, Computing, compile_head, one_line

log = logging.getLogger(__name__)


class TargetedBatches:
    """Batches of a labelled clip set, with the targets of both scores on their device."""

    def __init__(self, features: FeatureBatches, objective: Objective) -> None:
        self.clips = features.clips
        self.features = features
        self.objective = objective
        self._labels = tuple(map(self._tensor, (self.clips.mi, self.clips.ta)))
        given = self.clips.ratings if objective.wants_ratings else self.clips
        assert given is not None, "ratings are there where a head is trained on them"
        self._targets = tuple(self._tensor(objective.targets(each)) for each in (given.mi, given.ta))

    def loss(self, output: HeadOutput, indices: Sequence[int] | Tensor) -> Tensor:
        """Add the losses of MI and TA against the targets of the clips at `indices`."""
        mi, ta = (targets[indices] for targets in self._targets)
        return self.objective.loss(output.mi_output, mi) + self.objective.loss(output.ta_output, ta)

    def labels(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return MI and TA of the clips at `indices`, (B,) each."""
        mi, ta = (labels[indices] for labels in self._labels)
        return mi, ta

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32).to(self.features.device)


class DivergedError(DataError):
    """What is trained is not finite any more, and would not be again."""


def not_finite(what: str, batches: TargetedBatches, indices: list[int]) -> AudiomosError:
    """Return the error for a number that is not finite: what the head made of the clips, or what it was given."""
    if bad := batches.features.not_finite(indices):
        cache = batches.clips.first_reader.cache
        return CacheError(f"{cache}: NaN or Inf in the features of {first_five(bad)}; extract again with --overwrite")
    return DivergedError(f"{what}; a smaller training.lr may help")


class Trainer:
    """Trains a head, an epoch at a time. All chance of an epoch but dropout depends on seed and epoch alone.

    Nothing in an epoch waits for a GPU: the losses are looked at when it is over.
    """

    def __init__(
        self,
        config: HeadConfig,
        seed: int,
        head: Head,
        batches: TargetedBatches,
        computing: Computing = PLAINLY,
        profile: Profile = OFF,
    ) -> None:
        self.config, self.seed, self.head, self.batches = config.training, seed, head, batches
        self.computing, self.profile = computing, profile
        lr = scaled_lr(self.config.lr, batches.clips.first_reader.audio_dim)
        self.optimizer = build_optimizer(head, lr, self.config.weight_decay, self.config.decay)
        self._steps_per_epoch = steps_per_epoch(self.config, len(batches.clips))
        self._lr = LearningRate.of(self.config, lr, self._steps_per_epoch)
        self._ranking = ranking_of(config)
        self._work = WorkCounter(profile)
        self._compiled = computing.compiled
        if self._compiled:
            compile_head(head)
        device = batches.features.device
        can_be_recorded = batches.features.resident is not None and config.temporal.kind != "bilstm"
        self._recorded: RecordedSteps | None = None
        if computing.recorded and can_be_recorded and not self.config.feature_mixup:
            self._recorded = RecordedSteps(self._take_resident, self.config.batch_size, device)

    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """Take a step for each batch.

        Args:
            epoch: its number; the first is 1.
        Returns:
            The learning rate of the last step, and the mean over the clips of (loss MI + loss TA) / 2, as it was
            before each step, without any ranking.
        Raises:
            DivergedError: the loss is not finite; names the first such batch's clips. CacheError: it is because
            features are not; names the clips.
        """
        self.head.train()
        batches = chunks(epoch_order(len(self.batches.clips), self.seed, epoch), self.config.batch_size)
        first = (epoch - 1) * self._steps_per_epoch
        rates = [self._lr.at(first + place) for place in range(len(batches))]
        if self._recorded:
            with self.profile.stage("steps", self.batches.features.device):
                losses = self._recorded.run(batches, rates).tolist()
        else:
            losses = self._take_all(batches, rates, self._batch_loss(epoch))
        total = 0.0
        for indices, loss in zip(batches, losses, strict=True):
            if not math.isfinite(loss):
                ids = [self.batches.clips.ids[i] for i in indices]
                raise not_finite(f"the loss is {loss} on the batch of {first_five(ids)}", self.batches, indices)
            total += loss / 2 * len(indices)
        return rates[-1], total / len(self.batches.clips)

    def _batch_loss(self, epoch: int) -> "BatchLoss":
        if self.config.feature_mixup:
            return MixedLoss(self.config.feature_mixup, epoch_generator(self.seed, epoch))
        return PlainLoss(self._ranking)

    def _take_all(self, batches: list[list[int]], rates: list[float], batch_loss: "BatchLoss") -> list[float]:
        """Take each step as the host comes to it. Returns the loss of each."""
        device = self.batches.features.device
        losses = []
        gathered = self.batches.features.stream(batches)
        for indices, rate in zip(batches, rates, strict=True):
            with self.profile.stage("gather", device):
                features = next(gathered)
            self.profile.count("gathered bytes", features.frames.nbytes)
            losses.append(self._take(batch_loss, features, indices, rate))
        found: list[float] = torch.stack(losses).tolist()
        return found

    def _take_resident(self, clips: Tensor, rate: Tensor) -> Tensor:
        """Take a step on clips (B,) that are on the device, at a rate (1,); returns its loss."""
        assert self.batches.features.resident is not None
        features = self.batches.features.resident.gather(clips)
        return self._take(PlainLoss(self._ranking), features, clips, rate)

    def _take(
        self, batch_loss: "BatchLoss", features: Features, indices: list[int] | Tensor, rate: float | Tensor
    ) -> Tensor:
        compiled = self._compiled and len(features.frames) == self.config.batch_size
        try:
            objective = self._differentiate(batch_loss, features, indices, compiled=compiled)
        except Exception as error:  # of whatever kind; what is not the compiler's comes again below
            if not compiled:
                raise
            log.warning("the head cannot be compiled, so it is trained without: %s", one_line(error))
            self._compiled = False
            objective = self._differentiate(batch_loss, features, indices, compiled=False)
        with self.profile.stage("step", objective.device):
            if self.config.clip_norm:
                torch.nn.utils.clip_grad_norm_(self.head.parameters(), self.config.clip_norm)
            set_rate(self.optimizer, rate)
            self.optimizer.step()
        return objective

    def _differentiate(
        self, batch_loss: "BatchLoss", features: Features, indices: list[int] | Tensor, *, compiled: bool
    ) -> Tensor:
        """Compute a batch's gradients; returns its objective."""
        device = features.frames.device
        self.optimizer.zero_grad()
        with nullcontext() if compiled else self.computing.uncompiled():
            with self._stage("forward", features), self.computing.autocast(device):
                objective, loss = batch_loss.of(self.head, features, self.batches, indices)
            with self._stage("backward", features):
                loss.backward()  # type: ignore[no-untyped-call]
        return objective.detach()

    @contextmanager
    def _stage(self, name: str, features: Features) -> Iterator[None]:
        """Tell the profile of what is in a block: its time, and its arithmetic."""
        counter = self._work.counting(name)
        with self.profile.stage(name, features.frames.device), counter or nullcontext():
            yield
        self._work.done(name, len(features.frames), counter)


class BatchLoss(Protocol):
    """What a step minimises."""

    def of(
        self, head: Head, features: Features, targets: TargetedBatches, indices: list[int] | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the head on the features of the clips at `indices`. Returns its objective, and the whole loss."""


class PlainLoss:
    """The clips as they are; their scores are compared with the targets, and with each other."""

    def __init__(self, ranking: WeightedRanking) -> None:
        self.ranking = ranking

    def of(
        self, head: Head, features: Features, targets: TargetedBatches, indices: list[int] | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the objective, and the objective with the ranking term."""
        output = head.compute(features.frames, features.frame_mask, features.tokens, features.token_mask)
        objective = targets.loss(output, indices)
        return objective, objective + self.ranking.loss(output, *targets.labels(indices))


class MixedLoss:
    """Each clip mixed with another of its batch; such clips have two targets, and no place in an order."""

    def __init__(self, alpha: float, generator: torch.Generator) -> None:
        self.alpha, self.generator = alpha, generator

    def of(
        self, head: Head, features: Features, targets: TargetedBatches, indices: list[int] | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the objective, twice."""
        order, lam = draw_mixup(len(indices), self.alpha, self.generator)
        others = torch.as_tensor(indices)[order]
        mixed, mask = mix_frames(features.frames.float(), features.frame_mask, order.to(features.frames.device), lam)
        output = head.compute(mixed, mask, features.tokens, features.token_mask)
        loss = mixed_loss(targets.loss(output, indices), targets.loss(output, others), lam)
        return loss, loss


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return the generator that an epoch's clips are mixed by; it depends on seed and epoch alone."""
    # The 1 sets it apart from what orders the clips.
    return torch.Generator().manual_seed(int(np.random.default_rng([seed, epoch, 1]).integers(2**63)))
