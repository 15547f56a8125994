"""One epoch of training: a step for each batch, the losses that it minimises, and mixup."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audiomos_cache.batch import Batch, chunks
from audiomos_cache.errors import AudiomosError, CacheError, DataError, first_five
from audiomos_cache.heads.config import HeadConfig, scaled_lr
from audiomos_cache.heads.losses import Objective
from audiomos_cache.heads.model import HeadOutput
from audiomos_cache.heads.ranking import ranking_of
from audiomos_cache.profiling import OFF, Profile
from audiomos_cache.training.batches import FeatureBatches, epoch_order
from audiomos_cache.training.cuda_graph import captured_if_possible
from audiomos_cache.training.execution import UNCOMPILED_FP32, Execution, compiled_if_requested
from audiomos_cache.training.optimizer import LearningRate, build_optimizer, set_rate, steps_per_epoch

Indices = list[int] | Tensor  # of the clips of a batch; a tensor where they are on the device


class LabelledBatches:
    """Batches of a labelled clip set, with the targets of both scores on their device."""

    def __init__(self, features: FeatureBatches, objective: Objective) -> None:
        self.clips = features.clips
        self.features = features
        self.objective = objective
        self._labels = tuple(map(self._tensor, (self.clips.mi, self.clips.ta)))
        given = self.clips.ratings if objective.wants_ratings else self.clips
        assert given is not None, "ratings are given if a head is trained on them"
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
    """The loss or a prediction is not finite, and would not become finite again."""


def not_finite(what: str, batches: LabelledBatches, indices: list[int]) -> AudiomosError:
    """Return the error for a number that is not finite: DivergedError, or CacheError if the features are not finite."""
    if bad := batches.features.not_finite(indices):
        cache = batches.clips.first_reader.cache
        return CacheError(f"{cache}: NaN or Inf in the features of {first_five(bad)}; extract again with --overwrite")
    return DivergedError(f"{what}; a smaller training.lr may help")


class Trainer:
    """Trains a head, an epoch at a time. All random numbers of an epoch but dropout depend on seed and epoch alone.

    Nothing in an epoch waits for a GPU: the losses are checked at its end.

    Args:
        config: head and training.
        seed: of the order of the clips, and of mixup.
        head: on the device of the batches; it is called, so that its hooks and wrappers work.
        batches: of the clips to train on.
        execution: how the head is executed.
        profile: collects the times of the stages.
    """

    def __init__(
        self,
        config: HeadConfig,
        seed: int,
        head: nn.Module,
        batches: LabelledBatches,
        execution: Execution = UNCOMPILED_FP32,
        profile: Profile = OFF,
    ) -> None:
        self.config, self.seed, self.head, self.batches = config.training, seed, head, batches
        self.profile, self.device = profile, batches.features.device
        lr = scaled_lr(self.config.lr, batches.clips.first_reader.audio_dim)
        self.optimizer = build_optimizer(head, lr, self.config.weight_decay, self.config.decay)
        self._clips = len(batches.features)
        self._steps_per_epoch = steps_per_epoch(self.config, self._clips)
        self._lr = LearningRate.of(self.config, lr, self._steps_per_epoch)
        self._batch_loss = batch_loss_of(config, seed)
        self._autocast = execution.autocast(self.device)
        self._gradients = compiled_if_requested(self._compute_gradients, head, self.config.batch_size, execution)
        self._steps = captured_if_possible(self._take_each, self._take_on_gpu, config, batches.features, execution)

    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """Take a step for each batch.

        Args:
            epoch: its number; the first is 1.
        Returns:
            The learning rate of the last step, and the mean over the clips of (loss MI + loss TA) / 2, as it was
            before each step, without the ranking term.
        Raises:
            DivergedError: the loss is not finite; names the first such batch's clips. CacheError: features are
            not finite; names the clips.
        """
        self.head.train()
        self._batch_loss.begin(epoch)
        batches = chunks(epoch_order(self._clips, self.seed, epoch), self.config.batch_size)
        first = (epoch - 1) * self._steps_per_epoch
        rates = [self._lr.at(first + step) for step in range(len(batches))]
        total = 0.0
        for indices, loss in zip(batches, self._steps(batches, rates).tolist(), strict=True):
            if not math.isfinite(loss):
                ids = [self.batches.clips.ids[i] for i in indices]
                raise not_finite(f"the loss is {loss} on the batch of {first_five(ids)}", self.batches, indices)
            total += loss / 2 * len(indices)
        return rates[-1], total / self._clips

    def _take_each(self, batches: Sequence[list[int]], rates: Sequence[float]) -> Tensor:
        """Take the steps one after the other, each launched by the host. Returns the loss of each."""
        losses = []
        gathered = self.batches.features.stream(batches)
        for indices, rate in zip(batches, rates, strict=True):
            with self.profile.stage("gather", self.device):
                batch = next(gathered)
            losses.append(self._take(batch, indices, rate))
        return torch.stack(losses)

    def _take_on_gpu(self, clips: Tensor, rate: Tensor) -> Tensor:
        """Take a step on clips (B,) that are on the GPU, at a rate (1,); returns its loss."""
        assert self.batches.features.on_gpu is not None
        return self._take(self.batches.features.on_gpu.gather(clips), clips, rate)

    def _take(self, batch: Batch, indices: Indices, rate: float | Tensor) -> Tensor:
        objective = self._gradients(batch, indices)
        with self.profile.stage("step", self.device):
            if self.config.clip_norm:
                torch.nn.utils.clip_grad_norm_(self.head.parameters(), self.config.clip_norm)
            set_rate(self.optimizer, rate)
            self.optimizer.step()
        return objective

    def _compute_gradients(self, batch: Batch, indices: Indices) -> Tensor:
        """Compute a batch's gradients; returns its objective."""
        self.optimizer.zero_grad()
        with self.profile.stage("forward", self.device), self._autocast:
            objective, loss = self._batch_loss.of(self.head, batch, self.batches, indices)
        with self.profile.stage("backward", self.device):
            loss.backward()  # type: ignore[no-untyped-call]
        return objective.detach()


class BatchLoss(Protocol):
    """The loss that a step minimises."""

    def begin(self, epoch: int) -> None:
        """Prepare the random numbers of an epoch."""

    def of(self, head: nn.Module, batch: Batch, targets: LabelledBatches, indices: Indices) -> tuple[Tensor, Tensor]:
        """Call the head with the batch of the clips at `indices`. Returns its objective, and the whole loss."""


class StandardLoss:
    """The loss of the clips as they are: against their targets, and of their ranking.

    Args:
        config: of the head.
    """

    def __init__(self, config: HeadConfig) -> None:
        self.ranking = ranking_of(config)

    def begin(self, epoch: int) -> None:
        """Nothing is drawn."""

    def of(self, head: nn.Module, batch: Batch, targets: LabelledBatches, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return the objective, and the objective with the ranking term."""
        output = head(*batch)
        objective = targets.loss(output, indices)
        return objective, objective + self.ranking.loss(output, *targets.labels(indices))


class MixedLoss:
    """The loss of mixtures: each clip is mixed with another of its batch, and has two targets and no rank.

    The published AudioMOS code mixes waveforms and encodes the mixture. Here the encoders are frozen and have run
    before, so their frames are mixed. That is another method: a frame of a mixture is not the mixture of two frames.
    The prompts are those of the first clip of each pair, as in the published code.

    Args:
        alpha: of `draw_mixup`.
        seed: decides, with the epoch, which clips are mixed.
    Source: Zhang et al. 2018 (mixup).
    """

    def __init__(self, alpha: float, seed: int) -> None:
        self.alpha, self.seed = alpha, seed
        self.begin(1)

    def begin(self, epoch: int) -> None:
        """Set up the generator that an epoch's clips are mixed by."""
        self.generator = epoch_generator(self.seed, epoch)

    def of(self, head: nn.Module, batch: Batch, targets: LabelledBatches, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return the objective, twice."""
        order, lam = draw_mixup(len(batch), self.alpha, self.generator)
        others = torch.as_tensor(indices)[order]
        frames, mask = mix_frames(batch.frames.float(), batch.frame_mask, order.to(batch.frames.device), lam)
        output = head(frames, mask, batch.tokens, batch.token_mask)
        loss = mixed_loss(targets.loss(output, indices), targets.loss(output, others), lam)
        return loss, loss


def batch_loss_of(config: HeadConfig, seed: int) -> BatchLoss:
    """Return the loss that the steps of a training minimise."""
    alpha = config.training.feature_mixup
    return MixedLoss(alpha, seed) if alpha else StandardLoss(config)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return the generator that an epoch's clips are mixed by; it depends on seed and epoch alone."""
    # The 1 makes it differ from the generator of the clips' order.
    return torch.Generator().manual_seed(int(np.random.default_rng([seed, epoch, 1]).integers(2**63)))


def draw_mixup(clips: int, alpha: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Draw which clip each clip of a batch is mixed with, and how much remains of the first.

    Args:
        clips: how many the batch holds.
        alpha: above 0; lam is drawn from Beta(alpha, alpha): near 0 or 1 for a small one, near 1/2 for a large one.
        generator: of the CPU; the only source of randomness.
    Returns:
        A permutation (clips,) int64, and lam from 0 to 1.
    """
    order = torch.randperm(clips, generator=generator)
    seed = int(torch.randint(2**63 - 1, (), generator=generator))  # torch's own Beta takes no generator
    return order, float(np.random.default_rng(seed).beta(alpha, alpha))


def mix_frames(frames: Tensor, frame_mask: Tensor, order: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """Mix each clip with another: lam * frames + (1 - lam) * frames[order].

    Frames beyond a clip's end count as zero: if the other clip is longer, its rest remains, scaled.

    Args:
        frames: (B, T, D), or (B, K, T, D) of K layers, padded with anything.
        frame_mask: (B, T) bool, True = valid.
        order: (B,) int64, the index of each clip's other clip.
        lam: the weight of the first clip, 0 to 1.
    Returns:
        Mixed frames, shape and dtype of `frames`, 0 where padded, and their mask (B, T): valid where either clip is.
    """
    valid = frame_mask[:, :, None] if frames.ndim == 3 else frame_mask[:, None, :, None]
    alone = frames.masked_fill(~valid, 0)
    return lam * alone + (1 - lam) * alone[order], frame_mask | frame_mask[order]


def mixed_loss(loss_a: Tensor, loss_b: Tensor, lam: float) -> Tensor:
    """Return lam * loss_a + (1 - lam) * loss_b: the losses against the labels of the first and of the second clips."""
    return lam * loss_a + (1 - lam) * loss_b
