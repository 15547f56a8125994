"""The training loop of one head, and the predictions of a trained head."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from audiomos_cache.batch import chunks
from audiomos_cache.errors import DataError
from audiomos_cache.evaluation.metrics import Scores, compute_metrics
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.losses import objective_of
from audiomos_cache.heads.model import Head, HeadOutput, build_head
from audiomos_cache.profiling import OFF, Profile
from audiomos_cache.runs import BESTS
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.checkpoint import TrainingState, best_epochs, epochs_since_best, measures
from audiomos_cache.training.execution import UNCOMPILED_FP32, Execution
from audiomos_cache.training.trainer import LabelledBatches, Trainer, not_finite


@torch.inference_mode()
def run_head(head: nn.Module, batches: FeatureBatches, execution: Execution = UNCOMPILED_FP32) -> list[HeadOutput]:
    """Run a head over a clip set, in order, in evaluation mode, on the batches' device."""
    head.eval()
    with execution.autocast(batches.device):
        return [head(*batch) for batch in batches.stream(chunks(range(len(batches)), batches.eval_size))]


def predictions_of(outputs: list[HeadOutput], batches: FeatureBatches) -> Predictions:
    """Join a head's outputs for the batches of a clip set.

    Raises:
        DataError: a prediction is not finite; names the clips.
    """
    each_columns = [output.columns() for output in outputs]
    columns = {
        name: torch.cat([each[name] for each in each_columns]).double().cpu().numpy() for name in each_columns[0]
    }
    return Predictions.build(batches.clips.ids, **columns)


@dataclass(slots=True)
class Best:
    """The best checkpoint so far by one measure (higher is better; a loss counts negative)."""

    value: float = -math.inf
    epoch: int = 0
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    def offer(self, value: float, epoch: int, weights: Mapping[str, Tensor]) -> bool:
        """Take an epoch's weights if they are the first, or better. An undefined value (NaN) is the worst."""
        value = -math.inf if math.isnan(value) else value
        if self.weights and not value > self.value:
            return False
        self.value, self.epoch, self.weights = value, epoch, weights
        return True


@dataclass(slots=True)
class Trained:
    """The result of a training.

    Attributes:
        head: with the weights of the last epoch.
        bests: the three best checkpoints.
        history: an entry per epoch.
    """

    head: Head
    bests: dict[str, Best]
    history: list[Mapping[str, Any]]


def train(
    config: HeadConfig,
    seed: int,
    train_batches: FeatureBatches,
    dev_batches: FeatureBatches,
    *,
    begun: TrainingState | None = None,
    execution: Execution = UNCOMPILED_FP32,
    profile: Profile = OFF,
    on_epoch: Callable[[TrainingState, bool], None] = lambda _state, _last: None,
) -> Trained:
    """Train a head until none of the three bests has improved for `patience` epochs.

    Args:
        config: head and training.
        seed: of initial weights, dropout and data order.
        train_batches, dev_batches: of labelled clips of one cache, on one device: the head is trained there. They have
            ratings if the head is trained on those.
        begun: the state of an earlier, interrupted training of the same job, to continue.
        execution: how the head is executed.
        profile: collects the times of the stages.
        on_epoch: called with the state after each epoch, and whether it is the last.
    Raises:
        DivergedError: the loss or a prediction is not finite; names the clips. CacheError: features are not.
    Source: Ritter-Gutierrez et al. 2025 and the published code (AdamW, the three bests, patience).
    """
    torch.manual_seed(seed)
    reader = train_batches.clips.first_reader
    head = build_head(config, reader.audio_dim, reader.text_dim, layers=len(reader.layers)).to(train_batches.device)
    objective = objective_of(config)
    trainer = Trainer(config, seed, head, LabelledBatches(train_batches, objective), execution, profile)
    dev_set = LabelledBatches(dev_batches, objective)
    trained = Trained(head, _bests_of(begun), list(begun.history) if begun else [])
    if begun:
        begun.restore(head, trainer.optimizer)

    def is_over() -> bool:
        epochs = len(trained.history)
        return epochs >= config.training.max_epochs or epochs_since_best(trained.history) >= config.training.patience

    while not is_over():
        epoch = len(trained.history) + 1
        lr, train_loss = trainer.train_epoch(epoch)
        with profile.stage("validate"):
            dev_loss, scores = _validate(head, dev_set, execution)
        line: dict[str, Any] = {"epoch": epoch, "lr": lr, "train_loss": train_loss, "dev_loss": dev_loss}
        line["dev"] = scores.to_json()
        weights = {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}
        offers = measures(line).items()
        line["best"] = [name for name, value in offers if trained.bests[name].offer(value, epoch, weights)]
        trained.history.append(line)
        kept = {best.epoch: best.weights for best in trained.bests.values()} | {epoch: weights}
        with profile.stage("save"):
            on_epoch(TrainingState.of(trained.history, kept, head, trainer.optimizer), is_over())
    return trained


def _bests_of(begun: TrainingState | None) -> dict[str, Best]:
    """Return the bests of an earlier training; without one, three that any epoch improves."""
    bests = {name: Best() for name in BESTS}
    if begun:
        for name, epoch in best_epochs(begun.history).items():
            bests[name].offer(measures(begun.history[epoch - 1])[name], epoch, begun.weights[epoch])
    return bests


@torch.inference_mode()
def _validate(head: Head, batches: LabelledBatches, execution: Execution) -> tuple[float, Scores]:
    """Return the mean over the clips of (loss MI + loss TA) / 2, and the sixteen numbers."""
    outputs = run_head(head, batches.features, execution)
    sizes = [len(output.mi) for output in outputs]
    chosen = chunks(range(sum(sizes)), sizes[0])
    losses = torch.stack([batches.loss(output, indices) for output, indices in zip(outputs, chosen, strict=True)])
    total = sum(loss / 2 * size for loss, size in zip(losses.tolist(), sizes, strict=True))
    try:
        predictions = predictions_of(outputs, batches.features)
    except DataError as error:
        raise not_finite(f"after an epoch, {error}", batches, list(range(len(batches.clips)))) from error
    return total / sum(sizes), compute_metrics(predictions, batches.clips.labels)
