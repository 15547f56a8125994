"""Heads on caches of several layers, from training to prediction."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from audiomos_cache.errors import ConfigError
from audiomos_cache.runs import BESTS, Run, checkpoint_path
from audiomos_cache.training.predict import predict
from audiomos_cache.training.train_heads import train_heads
from tests.support.training import PretendLayers, job, results_of


@pytest.mark.parametrize("layer", [6, 9, 12])
def test_one_of_three_layers_is_as_good_as_a_cache_of_that_layer(
    cache: Path, tmp_path: Path, pretend_layers: PretendLayers, layer: int
) -> None:
    pretend_layers(layer)
    [alone] = train_heads([job("cross-attention-dist")], cache, tmp_path / "alone")
    pretend_layers(6, 9, 12)
    [named] = train_heads([job("cross-attention-dist", 1, f"layers={layer}")], cache, tmp_path / "named")
    assert results_of(alone.folder) == results_of(named.folder)
    runs = [Run(result.folder) for result in (alone, named)]
    assert [run.audio_layers for run in runs] == [(layer,), (6, 9, 12)]
    assert [run.layers_read for run in runs] == [(layer,), (layer,)]


def test_a_run_reads_the_layer_it_was_trained_on_again(
    cache: Path, tmp_path: Path, pretend_layers: PretendLayers
) -> None:
    pretend_layers(6, 9, 12)
    jobs = [job("pooling-dist", 1, "layers=12"), job("pooling-dist", 2, "layers=6")]
    for result in train_heads(jobs, cache, tmp_path):
        own = (result.folder / "predictions" / "eval.loss.jsonl").read_bytes()
        again = predict(result.folder, cache, "eval", "loss", tmp_path / "p.jsonl", overwrite=True, device="cpu")
        assert again.path.read_bytes() == own


def test_a_weighted_head_learns_remembers_and_shows_its_weights(
    cache: Path, tmp_path: Path, pretend_layers: PretendLayers
) -> None:
    pretend_layers(6, 9, 12)
    [result] = train_heads([job("transformer-dist", 1, "layers=weighted", "training.lr=1e-3")], cache, tmp_path)
    config = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert config["head"]["layers"] == "weighted"
    assert config["audio_layers"] == config["layers_read"] == [6, 9, 12]
    metrics = json.loads((result.folder / "metrics.json").read_text())
    for best in BESTS:
        learned = load_file(checkpoint_path(result.folder, best))["layers.weight"]
        shown = metrics[best]["layer_weights"]
        assert list(shown) == ["6", "9", "12"]
        assert list(shown.values()) == pytest.approx(learned.softmax(dim=0).tolist())
        assert all(abs(share - 1 / 3) > 1e-4 for share in shown.values())
        assert torch.equal(Run(result.folder).load_head(best).state_dict()["layers.weight"], learned)
        again = predict(result.folder, cache, "eval", best, tmp_path / "p.jsonl", overwrite=True, device="cpu")
        assert again.path.read_bytes() == (result.folder / "predictions" / f"eval.{best}.jsonl").read_bytes()


def test_the_same_seed_gives_a_weighted_head_the_same_bytes(
    cache: Path, tmp_path: Path, pretend_layers: PretendLayers
) -> None:
    pretend_layers(6, 9, 12)
    a, b = (train_heads([job("pooling-dist", 1, "layers=weighted")], cache, tmp_path / out)[0] for out in "ab")
    assert results_of(a.folder) == results_of(b.folder)


@pytest.mark.parametrize(
    ("setting", "stored", "message"),
    [
        ("only", (6, 9, 12), "the cache holds layers 6, 9, 12; name one of them (--set layers=9), or weighted"),
        ("3", (6, 9, 12), "there is no 3; the cache holds layers 6, 9, 12"),
        ("weighted", (9,), "'weighted' mixes several layers, and the cache holds only one; use only"),
    ],
)
def test_layers_that_the_cache_does_not_hold_are_found_before_anything_is_trained(
    cache: Path,
    tmp_path: Path,
    pretend_layers: PretendLayers,
    setting: str,
    stored: tuple[int, ...],
    message: str,
) -> None:
    pretend_layers(*stored)
    with pytest.raises(ConfigError) as caught:
        train_heads([job("pooling-dist", 1, "layers=9"), job("pooling-dist", 2, f"layers={setting}")], cache, tmp_path)
    assert str(caught.value) == f"layers: {message}"
    assert list(tmp_path.iterdir()) == []


def test_heads_of_one_layer_show_no_weights(cache: Path, tmp_path: Path) -> None:
    [result] = train_heads([job()], cache, tmp_path)
    metrics = json.loads((result.folder / "metrics.json").read_text())
    assert all(set(metrics[best]) == {"epoch", "train", "dev"} for best in BESTS)
