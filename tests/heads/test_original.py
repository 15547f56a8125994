"""The published heads: their size, and what the original model computes from made-up weights and features.

`golden/heads.json` holds the original's parameters (name and shape) and outputs. Its tensor NAME is
0.05 * standard normals from the generator seeded with crc32(NAME), plus 1 for the weights of norms.

The original masks the text pooling the wrong way round, and adds positions only to batches of one clip. So where it
pools padding it is compared with our pooling of padding, where it pools all tokens alike (a prompt without padding)
with our pooling without weights, and its batches with our head without positions.
"""

import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from audiomos_cache.heads import build_head

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "heads.json").read_text())
PRESETS = {
    "transformer_scalar": "transformer-scalar",
    "transformer_dist": "transformer-dist",
    "transformer_decoupled_dist": "decoupled-dist",
    "transformer_decoupled_lstm_dist": "decoupled-lstm-dist",
    "transformer_coral": "transformer-coral",
}
SIZES = {
    "transformer-scalar": 13_169_156,
    "transformer-dist": 13_177_706,
    "transformer-onehot": 13_177_706,
    "decoupled-dist": 13_177_706,
    "decoupled-lstm-dist": 17_083_690,
    "transformer-coral": 13_326_602,
}
# The start of the original's names, and of ours.
NAMES = {
    "audio_transformer_encoder.layers.0.self_attn.in_proj_": "temporal.layers.0.attention.in_proj.",
    "audio_transformer_encoder.layers.0.self_attn.out_proj.": "temporal.layers.0.attention.out_proj.",
    "audio_transformer_encoder.layers.0.": "temporal.layers.0.",
    "audio_attentive_pool.attention_weights.": "pooling.weight.",
    "audio_seq_proj.": "fusion.audio_projection.",
    "audio_embed_to_common_for_crossattn.": "fusion.audio_projection.",
    "text_seq_proj.": "fusion.text_projection.",
    "cross_attention.in_proj_": "fusion.attention.in_proj.",
    "cross_attention.out_proj.": "fusion.attention.out_proj.",
    "cross_attention_norm.": "fusion.norm.",
    "fused_attentive_pool.attention_weights.": "fusion.pooling.weight.",
    "overall_mlp.5.": "mi.1.linear.",
    "overall_mlp.": "mi.0.layers.",
    "overall_lstm.": "mi.0.lstm.",
    "overall_fc.": "mi.1.linear.",
    "overall_quality_head.shared_fc.": "mi.0.layers.",
    "overall_quality_head.raw_outputs_layer.": "mi.1.linear.",
    "coherence_mlp.5.": "ta.1.linear.",
    "coherence_mlp.": "ta.0.layers.",
    "coherence_lstm.": "ta.0.lstm.",
    "coherence_fc.": "ta.1.linear.",
    "coherence_head.shared_fc.": "ta.0.layers.",
    "coherence_head.raw_outputs_layer.": "ta.1.linear.",
}


def our_name(name):
    start = next(start for start in NAMES if name.startswith(start))
    return NAMES[start] + name.removeprefix(start)


@cache
def original_tensor(name, shape):
    values = 0.05 * np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(values + 1 if name.endswith(("norm.weight", "norm1.weight", "norm2.weight")) else values)


@cache
def original_head(arch):
    """Build our head with the original's weights; strict, so every name and shape must be there."""
    with torch.device("meta"):
        head = build_head(PRESETS[arch])
    weights = {our_name(name): original_tensor(name, tuple(shape)) for name, shape in GOLDEN["parameters"][arch]}
    assert len(weights) == len(GOLDEN["parameters"][arch])
    head.load_state_dict(weights, strict=True, assign=True)
    return head.eval()


def inputs(case):
    """Make the features a golden case was computed from: frames, tokens, and which tokens are real."""
    generator = np.random.default_rng(case["seed"])
    lengths = torch.tensor(case["text_lens"])
    frames = generator.standard_normal((case["B"], case["T"], 1024), dtype=np.float32)
    tokens = generator.standard_normal((case["B"], int(lengths.max()), 768), dtype=np.float32)
    return torch.from_numpy(frames), torch.from_numpy(tokens), torch.arange(int(lengths.max())) < lengths[:, None]


def golden_cases(batches):
    cases = [case for case in GOLDEN["cases"] if (case["B"] > 1) == batches]
    return pytest.mark.parametrize("case", cases, ids=[case["arch"] for case in cases])


def assert_agrees(output, case, target, rows):
    """Compare all that is known of one target (mi or ta), in the given rows."""
    compared = 0
    for field, figures in case["outputs"].items():
        if not field.startswith(target):
            continue
        got = getattr(output, target if field.endswith("score") else field)
        expected = torch.tensor(figures, dtype=torch.float64)
        expected = expected.squeeze(1) if field.endswith("score") else expected
        assert got.shape == expected.shape
        assert (got[rows].double() - expected[rows]).abs().max() < 1e-5, field
        compared += 1
    assert compared == (1 if case["arch"] == "transformer_scalar" else 2)


@pytest.fixture
def uniform_text_pooling(monkeypatch):
    """Take the weights out of a head's text pooling, for the length of a test."""

    def apply(head):
        weight = head.fusion.pooling.weight.weight
        monkeypatch.setattr(weight, "data", torch.zeros_like(weight))

    return apply


@torch.no_grad()
@golden_cases(batches=False)
def test_one_clip_as_the_original(case, uniform_text_pooling):
    head = original_head(case["arch"])
    frames, tokens, token_mask = inputs(case)
    assert token_mask.all()
    frame_mask = torch.ones(frames.shape[:2], dtype=torch.bool)
    assert_agrees(head(frames, frame_mask, tokens, token_mask), case, "mi", [0])
    uniform_text_pooling(head)
    assert_agrees(head(frames, frame_mask, tokens, token_mask), case, "ta", [0])


@torch.no_grad()
@golden_cases(batches=True)
def test_a_batch_as_the_original(case, uniform_text_pooling, monkeypatch):
    head = original_head(case["arch"])
    monkeypatch.setattr(
        "audiomos_cache.heads.temporal.sinusoidal_positions", lambda length, dim, like: like.new_zeros(length, dim)
    )
    frames, tokens, token_mask = inputs(case)
    frame_mask = torch.ones(frames.shape[:2], dtype=torch.bool)
    longest = token_mask.all(dim=1)
    assert longest.tolist() == [True, False, False, False]
    padding = torch.where(longest[:, None], token_mask, ~token_mask)
    output = head(frames, frame_mask, tokens, padding)
    assert_agrees(output, case, "mi", [0, 1, 2, 3])
    assert_agrees(output, case, "ta", [1, 2, 3])
    uniform_text_pooling(head)
    assert_agrees(head(frames, frame_mask, tokens, token_mask), case, "ta", [0])


def test_there_is_a_case_for_every_published_head():
    assert len(GOLDEN["cases"]) == 7
    assert {case["arch"] for case in GOLDEN["cases"]} == set(PRESETS)


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
    assert shapes["fusion.audio_projection.weight"] == (768, 1024)
    assert shapes["fusion.text_projection.weight"] == (768, 768)
    assert [shapes[f"mi.{layer}.weight"] for layer in ("0.layers.0", "0.layers.3", "1.linear")] == [
        (512, 1024), (256, 512), (20, 256)
    ]  # fmt: skip
    assert [shapes[f"ta.{layer}.weight"] for layer in ("0.layers.0", "0.layers.3", "1.linear")] == [
        (384, 768), (192, 384), (20, 192)
    ]  # fmt: skip
    assert head.temporal.layers[0].attention.heads == head.fusion.attention.heads == 4


def test_dropout_is_the_published_one():
    head = build_head("transformer-dist", audio_dim=32, text_dim=24)
    dropouts = [module.p for module in head.modules() if isinstance(module, torch.nn.Dropout)]
    assert dropouts == [0.3] * 4  # after the positions, in the transformer layer, after the first ReLU of MI and TA
    assert head.temporal.layers[0].attention.dropout == head.fusion.attention.dropout == 0.3
    coral = build_head("transformer-coral", audio_dim=32, text_dim=24)
    for target in (coral.mi, coral.ta):
        kinds = [type(layer).__name__ for layer in target[0].layers]
        assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout"]
    kinds = [type(layer).__name__ for layer in head.mi[0].layers]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU"]
