"""The published heads: their size, and what the original model computes from made-up weights and features.

`golden/heads.json` holds the original's parameters (name and shape), its outputs, and what five steps of training do,
computed in float64. Its tensor NAME is 0.05 * standard normals from the generator seeded with crc32(NAME), plus 1 for
the weights of norms.
"""

import json
import zlib
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch

from audiomos_cache.heads.losses import objective_of
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.presets import load_head_config
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.trainer import LabelledBatches, Trainer
from audiomos_cache.upstream.checkpoints import load_upstream_state
from tests.support.heads import Clips

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "heads.json").read_text())
PRESETS = {
    ("transformer_scalar", "gaussian"): "transformer-scalar",
    ("transformer_dist", "gaussian"): "transformer-dist",
    ("transformer_dist", "one_hot"): "transformer-onehot",
    ("transformer_decoupled_dist", "gaussian"): "decoupled-dist",
    ("transformer_decoupled_lstm_dist", "gaussian"): "decoupled-lstm-dist",
    ("transformer_coral", "gaussian"): "transformer-coral",
}
SIZES = {
    "transformer-scalar": 13_169_156,
    "transformer-dist": 13_177_706,
    "transformer-onehot": 13_177_706,
    "decoupled-dist": 13_177_706,
    "decoupled-lstm-dist": 17_083_690,
    "transformer-coral": 13_326_602,
}


def preset_of(case):
    return PRESETS[case["arch"], case["target_style"]]


@cache
def original_tensor(name, shape):
    values = 0.05 * np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(values + 1 if name.endswith(("norm.weight", "norm1.weight", "norm2.weight")) else values)


def original_head(case, *overrides, dtype=torch.float32):
    """Build our head with the original's weights."""
    with patch.object(torch.Tensor, "uniform_", lambda tensor, *_, **__: tensor):  # every weight is loaded below
        head = build_head(load_head_config(preset_of(case), overrides)[1]).to(dtype)
    state = {name: original_tensor(name, tuple(shape)) for name, shape in GOLDEN["parameters"][case["arch"]]}
    load_upstream_state(head, state)
    return head.eval()


def inputs(case, dtype=torch.float32):
    """Make the features and labels that a golden case was computed from."""
    generator, lengths = np.random.default_rng(case["seed"]), torch.tensor(case["text_lens"])
    shapes = ((case["B"], case["T"], 1024), (case["B"], int(lengths.max()), 768))
    frames, tokens = (torch.from_numpy(generator.standard_normal(shape, dtype=np.float32)) for shape in shapes)
    mi, ta = (1 + 4 * generator.random(case["B"], dtype=np.float32) for _ in range(2))
    clips = Clips(
        frames.to(dtype),
        torch.ones(frames.shape[:2], dtype=torch.bool),
        tokens.to(dtype),
        torch.arange(tokens.shape[1]) < lengths[:, None],
    )
    return clips, mi, ta


def error(output, figures):
    """Return the largest difference between a head's output and the original's figures, over all of them."""
    differences = []
    for field, values in figures.items():
        got = getattr(output, field.removesuffix("_score"))
        expected = torch.tensor(values, dtype=torch.float64)
        expected = expected.squeeze(1) if field.endswith("_score") else expected
        assert got.shape == expected.shape
        differences.append((got.double() - expected).abs().max().item())
    return max(differences)


def golden_cases(condition=bool):
    """Run a test on the golden cases that meet a condition."""
    cases = [pytest.param(case, id=f"{preset_of(case)}-{case['B']}") for case in GOLDEN["cases"] if condition(case)]
    return pytest.mark.parametrize("case", cases)


def test_there_is_a_case_for_every_published_head():
    assert len(GOLDEN["cases"]) == 8
    assert {preset_of(case) for case in GOLDEN["cases"] if "train" in case} == set(PRESETS.values())
    assert [case["B"] for case in GOLDEN["cases"]] == [4] * 6 + [1] * 2
    scores, dists, logits = ({f"{t}_{what}" for t in ("mi", "ta")} for what in ("score", "dist", "logits"))
    for case in GOLDEN["cases"]:
        more = {"transformer_scalar": set(), "transformer_coral": logits}.get(case["arch"], dists)
        assert set(case["outputs"]) == scores | more


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@golden_cases()
def test_scores_as_the_original(case, dtype, tolerance):
    clips, _, _ = inputs(case, dtype)
    assert error(original_head(case, "compat=upstream", dtype=dtype)(*clips), case["outputs"]) < tolerance


class GoldenBatches:
    """Features of a golden case, for the training loop."""

    device = torch.device("cpu")
    on_gpu = None

    def __init__(self, case):
        self.features, mi, ta = inputs(case, torch.float64)
        reader = SimpleNamespace(audio_dim=1024)
        ids = tuple(map(str, range(case["B"])))
        self.clips = ClipSet("golden", [(reader, i) for i in range(len(ids))], ids, ids, mi, ta)

    def __len__(self):
        return len(self.clips)

    def stream(self, batches):
        return (self.features.permuted(indices) for indices in batches)


@pytest.mark.slow
@golden_cases(lambda case: "train" in case)
def test_training_as_the_original(case):
    """The loss before each of five steps without dropout, and the scores after the last, through the training loop.

    In float64, as the figures were made: AdamW's first steps are as long for a tiny gradient as for any other, so
    rounding to float32 moves a score by 1e-4.
    """
    config = load_head_config(preset_of(case), ("compat=upstream", "dropout=0"))[1]
    head = original_head(case, "compat=upstream", "dropout=0", dtype=torch.float64)
    batches, train = GoldenBatches(case), case["train"]
    trainer = Trainer(config, 0, head, LabelledBatches(batches, objective_of(config)))
    assert len(train["losses_mi_ta"]) == train["steps"] == 5
    for epoch, losses in enumerate(train["losses_mi_ta"], start=1):
        lr, loss = trainer.train_epoch(epoch)
        assert lr == train["lr"]
        assert loss == pytest.approx(sum(losses) / 2, abs=1e-6, rel=0)
    with torch.no_grad():
        assert error(head.eval()(*batches.features), train["final_scores"]) < 1e-6


@golden_cases(lambda case: "train" in case)
def test_each_loss_as_the_original(case):
    """That of MI and that of TA, before the first step."""
    head = original_head(case, "compat=upstream", "dropout=0", dtype=torch.float64).train()
    config = load_head_config(preset_of(case))[1]
    objective = objective_of(config)
    clips, *labels = inputs(case, torch.float64)
    output = head(*clips)
    mi, ta = (torch.from_numpy(objective.targets(scores)) for scores in labels)
    losses = (objective.loss(output.mi_output, mi), objective.loss(output.ta_output, ta))
    assert [loss.item() for loss in losses] == pytest.approx(case["train"]["losses_mi_ta"][0], abs=1e-6, rel=0)


@torch.no_grad()
@golden_cases(lambda case: case["B"] == 1)
def test_without_compat_one_clip_has_the_originals_mi_but_not_its_ta(case):
    clips, _, _ = inputs(case)
    output = original_head(case)(*clips)
    for target, agrees in (("mi", True), ("ta", False)):
        figures = {field: values for field, values in case["outputs"].items() if field.startswith(target)}
        assert (error(output, figures) < 1e-5) == agrees


@torch.no_grad()
@golden_cases(lambda case: case["B"] > 1)
def test_without_compat_a_batch_has_other_scores(case):
    clips, _, _ = inputs(case)
    output = original_head(case)(*clips)
    for field in ("mi_score", "ta_score"):
        assert error(output, {field: case["outputs"][field]}) > 1e-3


@pytest.mark.parametrize("preset", SIZES)
def test_number_of_parameters(preset):
    with torch.device("meta"):
        head = build_head(preset, audio_dim=1024, text_dim=768)
    assert sum(parameter.numel() for parameter in head.parameters()) == SIZES[preset]


def test_the_published_widths():
    with torch.device("meta"):
        head = build_head("transformer-dist", audio_dim=1024, text_dim=768)
    shapes = {name: tuple(parameter.shape) for name, parameter in head.named_parameters()}
    assert shapes["temporal.layers.0.linear1.weight"] == (2048, 1024)
    assert shapes["text_audio.audio_projection.weight"] == (768, 1024)
    assert shapes["text_audio.text_projection.weight"] == (768, 768)
    assert [shapes[f"mi.{layer}.weight"] for layer in ("0.layers.0", "0.layers.3", "1.linear")] == [
        (512, 1024), (256, 512), (20, 256)
    ]  # fmt: skip
    assert [shapes[f"ta.{layer}.weight"] for layer in ("0.layers.0", "0.layers.3", "1.linear")] == [
        (384, 768), (192, 384), (20, 192)
    ]  # fmt: skip
    assert head.temporal.layers[0].attention.heads == head.text_audio.attention.heads == 4


def test_dropout_is_the_published_one():
    head = build_head("transformer-dist", audio_dim=32, text_dim=24)
    dropouts = [module.p for module in head.modules() if isinstance(module, torch.nn.Dropout)]
    assert dropouts == [0.3] * 4  # after the positions, in the transformer layer, after the first ReLU of MI and TA
    assert head.temporal.layers[0].attention.dropout == head.text_audio.attention.dropout == 0.3
    coral = build_head("transformer-coral", audio_dim=32, text_dim=24)
    for target in (coral.mi, coral.ta):
        kinds = [type(layer).__name__ for layer in target[0].layers]
        assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout"]
    kinds = [type(layer).__name__ for layer in head.mi[0].layers]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU"]
