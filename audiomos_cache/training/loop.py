"""Training one head from cached features: one readable loop."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from audiomos_cache.config import HeadConfig
from audiomos_cache.errors import DataError
from audiomos_cache.heads import Head, build_head
from audiomos_cache.metrics import Scores, evaluate
from audiomos_cache.runs import BESTS
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.epoch import Trainer
from audiomos_cache.training.inference import predictions_of, run_head
from audiomos_cache.training.targeted import TargetedBatches, objective_of


@dataclass(slots=True)
class Best:
    """The best checkpoint so far by one measure (higher is better; a loss counts negative)."""

    value: float = -math.inf
    epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, value: float, epoch: int, head: Head) -> bool:
        """Take this epoch's weights if they are the first, or better. An undefined value (NaN) is the worst."""
        if self.weights and not value > self.value:
            return False
        self.value = -math.inf if math.isnan(value) else value
        self.epoch = epoch
        self.weights = copy.deepcopy(head.state_dict())
        return True


@dataclass(slots=True)
class Trained:
    """What training gives.

    Attributes:
        head: with its last weights.
        bests: the three best checkpoints.
        history: a line per epoch.
        scores: the sixteen numbers on the dev clips, per epoch.
    """

    head: Head
    bests: dict[str, Best]
    history: list[dict[str, Any]] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)


def train(
    config: HeadConfig,
    seed: int,
    train_batches: FeatureBatches,
    dev_batches: FeatureBatches,
    on_epoch: Callable[[dict[str, Any], bool], None] = lambda _line, _last: None,
) -> Trained:
    """Train a head until none of the three bests has improved for `patience` epochs.

    Args:
        config: head and training.
        seed: of initial weights, dropout and data order.
        train_batches, dev_batches: of labelled clips of one cache, on one device: the head is trained there. They have
            ratings where the head is trained on those.
        on_epoch: told each epoch's line of the history, and whether it is the last.
    Raises:
        DataError: the loss is not finite; names the batch's clips.
    Source: Ritter-Gutierrez et al. 2025 and the published code (AdamW, the three bests, patience).
    """
    torch.manual_seed(seed)
    reader = train_batches.clips.first_reader
    head = build_head(config, reader.audio_dim, reader.text_dim, len(reader.layers)).to(train_batches.device)
    objective = objective_of(config)
    trainer = Trainer(config, seed, head, TargetedBatches(train_batches, objective))
    dev_set = TargetedBatches(dev_batches, objective)
    trained = Trained(head, {name: Best() for name in BESTS})
    since_best = 0
    for epoch in range(1, config.training.max_epochs + 1):
        lr, train_loss = trainer.train_epoch(epoch)
        dev_loss, scores = _validate(head, dev_set)
        values = _values(dev_loss, scores)
        improved = [name for name, value in values.items() if trained.bests[name].offer(value, epoch, head)]
        line: dict[str, Any] = {"epoch": epoch, "lr": lr, "train_loss": train_loss, "dev_loss": dev_loss}
        line |= {"dev": scores.to_json(), "best": improved}
        since_best = 0 if improved else since_best + 1
        last = since_best >= config.training.patience or epoch == config.training.max_epochs
        trained.history.append(line)
        trained.scores.append(scores)
        on_epoch(line, last)
        if last:
            break
    return trained


@torch.inference_mode()
def _validate(head: Head, batches: TargetedBatches) -> tuple[float, Scores]:
    """Return the mean over the clips of (loss MI + loss TA) / 2, and the sixteen numbers."""
    outputs = run_head(head, batches.features)
    total, start = 0.0, 0
    for output in outputs:
        indices = list(range(start, start + len(output.mi)))
        total += batches.loss(output, indices).item() / 2 * len(indices)
        start += len(indices)
    try:
        predictions = predictions_of(outputs, batches.features)
    except DataError as error:
        raise DataError(f"after an epoch, {error}; a smaller training.lr may help") from error
    return total / start, evaluate(predictions, batches.clips.labels)


def _values(dev_loss: float, scores: Scores) -> dict[str, float]:
    """Return the three measures that checkpoints are kept by, higher is better."""
    return {
        "loss": -dev_loss,
        "srcc": scores.sys_mi.srcc,
        "combined": (scores.utt_mi.srcc + scores.sys_ta.srcc) / 2,
    }
