"""Any parts of a head go together, in training as in prediction."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.model import Head
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.loop import predictions_of, run_head, train
from tests.support.training import batches_of

TEMPORALS, POOLINGS = ("transformer", "bilstm", "none"), ("attentive", "mean", "mean_std")
FUSIONS, DOWNSTREAMS = ("cross_attention", "decoupled", "concat", "none"), ("mlp", "lstm")
OUTPUTS = ("scalar", "distribution", "coral")


def parts(temporal: str, pooling: str, fusion: str, downstream: str, output: str) -> dict[str, object]:
    return {
        "temporal": {"kind": temporal},
        "pooling": pooling,
        "text_audio": {"kind": fusion},
        "downstream": downstream,
        "output": {"kind": output},
        "training": {"max_epochs": 1, "batch_size": 8},
    }


def first_clips(batches: FeatureBatches, count: int) -> FeatureBatches:
    """A set of the first clips alone: of one batch."""
    clips = batches.clips
    few = {name: getattr(clips, name)[:count] for name in ("entries", "ids", "systems", "mi", "ta")}
    batches.clips = ClipSet(clips.name, **few)
    return batches


def assert_trained(head: Head) -> None:
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("temporal", TEMPORALS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_any_parts_train_for_a_step_and_predict(cache: Path, temporal: str, fusion: str) -> None:
    train_set, dev = first_clips(batches_of(cache, "train"), 8), first_clips(batches_of(cache, "dev"), 4)
    for pooling, downstream, output in itertools.product(POOLINGS, DOWNSTREAMS, OUTPUTS):
        content = parts(temporal, pooling, fusion, downstream, output)
        if (temporal, fusion) == ("none", "decoupled"):
            with pytest.raises(ValidationError, match="'decoupled' looks past the temporal layer"):
                HeadConfig.model_validate(content)
            continue
        trained = train(HeadConfig.model_validate(content), 1, train_set, dev)
        [line] = trained.history
        assert np.isfinite([line["train_loss"], line["dev_loss"]]).all()
        assert_trained(trained.head)
        predictions = predictions_of(run_head(trained.head, dev), dev)  # which refuses what is not finite
        assert predictions.ids == tuple(sorted(dev.clips.ids))
        assert (predictions.mi_dist is not None) == (output == "distribution")


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(
    "more",
    [
        {"output": {"kind": "scalar", "loss": "mse"}},
        {"output": {"loss": "one_hot"}},
        {"ranking": {"kind": "listwise", "weight_ta": 0.1}},
        {"ranking": {"kind": "pairwise", "weight_ta": 0.1}},
        {"ranking": {"kind": "adaptive_margin", "weight_ta": 0.1}},
        {"training": {"feature_mixup": 0.4}},
        {"training": {"clip_norm": 1.0, "decay": "matrices"}},
        {"training": {"schedule": "cosine", "warmup_epochs": 1.0, "max_epochs": 2, "batch_size": 4}},
    ],
    ids=str,
)
def test_any_training_goes_with_any_fusion(cache: Path, fusion: str, more: dict[str, dict[str, object]]) -> None:
    train_set, dev = first_clips(batches_of(cache, "train"), 8), first_clips(batches_of(cache, "dev"), 4)
    content = parts("transformer", "attentive", fusion, "mlp", "distribution")
    for group, keys in more.items():
        content[group] = {**content.get(group, {}), **keys}  # type: ignore[dict-item]
    trained = train(HeadConfig.model_validate(content), 1, train_set, dev)
    assert np.isfinite(trained.history[0]["train_loss"])
    assert_trained(trained.head)
