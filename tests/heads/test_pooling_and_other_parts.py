"""Each part of a head on its own, against values worked out by hand or torch's own modules."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from audiomos_cache.heads.outputs import CoralOutput, DistributionOutput, LstmDownstream, MlpDownstream, ScalarOutput
from audiomos_cache.heads.pooling import AttentivePooling, MeanPooling, MeanStdPooling, at_least_float32
from audiomos_cache.heads.temporal import (
    BiLstmTemporal,
    MultiheadAttention,
    NoTemporal,
    TransformerTemporal,
    sinusoidal_positions,
)
from audiomos_cache.heads.text_audio import AudioAlone, Concat, CrossAttention
from audiomos_cache.registry import known, lookup

# Two valid positions and one of padding; a second clip of one position.
SEQUENCE = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [99.0, -99.0]], [[5.0, 7.0], [99.0, 99.0], [-99.0, 99.0]]])
MASK = torch.tensor([[True, True, False], [True, False, False]])


def set_(tensor, values):
    with torch.no_grad():
        tensor.copy_(torch.as_tensor(values, dtype=tensor.dtype))


# Pooling


def test_mean_pooling_by_hand():
    assert MeanPooling(2)(SEQUENCE, MASK).tolist() == [[2.0, 4.0], [5.0, 7.0]]


def test_mean_std_pooling_by_hand():
    pooled = MeanStdPooling(2)(SEQUENCE, MASK)
    # Deviations 1 and 2 around the means, over the number of positions, not one less; 1e-5 inside the root.
    expected = [[2.0, 4.0, math.sqrt(1 + 1e-5), math.sqrt(4 + 1e-5)], [5.0, 7.0, math.sqrt(1e-5), math.sqrt(1e-5)]]
    assert torch.allclose(pooled, torch.tensor(expected), atol=1e-6)


def test_attentive_pooling_by_hand():
    pooling = AttentivePooling(2)
    set_(pooling.weight.weight, [[math.log(3) / 2, 0.0]])
    set_(pooling.weight.bias, [123.0])
    # Logits differ by ln 3: shares 1/4 and 3/4.
    assert torch.allclose(pooling(SEQUENCE, MASK), torch.tensor([[2.5, 5.0], [5.0, 7.0]]), atol=1e-5)


@pytest.mark.parametrize(("kind", "width"), [("mean", 2), ("mean_std", 4), ("attentive", 2)])
def test_a_pooling_says_how_wide_its_output_is(kind, width):
    pooling = lookup("pooling", kind)(2)
    assert pooling.output_size == width
    assert pooling(SEQUENCE, MASK).shape == (2, width)


@pytest.mark.parametrize("kind", known("pooling"))
def test_padding_gets_no_gradient_and_one_position_a_finite_one(kind):
    sequence = SEQUENCE.clone().requires_grad_()
    lookup("pooling", kind)(2)(sequence, MASK).sum().backward()
    assert sequence.grad.isfinite().all()
    assert (sequence.grad[~MASK] == 0).all()
    assert (sequence.grad[MASK] != 0).any()


@pytest.mark.parametrize(
    ("dtype", "result"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float32, torch.float32),
     (torch.float64, torch.float64)],
)  # fmt: skip
def test_at_least_float32(dtype, result):
    assert at_least_float32(torch.ones(1, dtype=dtype)).dtype == result


# Positions and attention


def test_positions_by_hand():
    positions = sinusoidal_positions(3, 4, torch.zeros(1))
    sin, cos = math.sin, math.cos
    expected = [[0, 1, 0, 1], [sin(1), cos(1), sin(0.01), cos(0.01)], [sin(2), cos(2), sin(0.02), cos(0.02)]]
    assert positions.dtype == torch.float32
    assert torch.allclose(positions, torch.tensor(expected, dtype=torch.float32), atol=1e-7)


def test_positions_of_a_long_clip_are_exact():
    last = sinusoidal_positions(10_000, 6, torch.zeros(1))[-1]
    expected = [f(9999 / 10_000 ** (2 * i / 6)) for i in range(3) for f in (math.sin, math.cos)]
    assert last.tolist() == pytest.approx(expected, abs=1e-6)


def test_positions_take_the_dtype_of_the_frames():
    assert sinusoidal_positions(3, 4, torch.zeros(1, dtype=torch.float16)).dtype == torch.float16


def of_torch(ours, dim, heads):
    theirs = nn.MultiheadAttention(dim, heads, batch_first=True)
    set_(theirs.in_proj_weight, ours.in_proj.weight)
    set_(theirs.in_proj_bias, ours.in_proj.bias)
    theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    return theirs.eval()


def randomise(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module.eval()


@torch.no_grad()
def test_attention_is_torchs_own():
    ours = randomise(MultiheadAttention(12, 3, dropout=0.3))
    query, keys = torch.randn(2, 4, 12), torch.randn(2, 6, 12)
    mask = torch.tensor([[True] * 6, [True, False, True, True, False, False]])
    expected, _ = of_torch(ours, 12, 3)(query, keys, keys, key_padding_mask=~mask)
    assert torch.allclose(ours(query, keys, mask), expected, atol=1e-5)


def test_attention_starts_as_torchs_own():
    torch.manual_seed(0)
    ours, theirs = MultiheadAttention(64, 4, 0.0), nn.MultiheadAttention(64, 4)
    assert ours.in_proj.bias.abs().max() == ours.out_proj.bias.abs().max() == 0
    for mine, yours in ((ours.in_proj.weight, theirs.in_proj_weight), (ours.out_proj.weight, theirs.out_proj.weight)):
        assert mine.shape == yours.shape
        assert mine.abs().max().item() == pytest.approx(yours.abs().max().item(), rel=0.01)
        assert mine.std().item() == pytest.approx(yours.std().item(), rel=0.05)


@torch.no_grad()
def test_attention_sees_nothing_of_masked_keys():
    attention = randomise(MultiheadAttention(8, 2, dropout=0.0))
    query, keys = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    mask = torch.tensor([[True, True, True, False, False]])
    expected = attention(query, keys[:, :3], mask[:, :3])
    keys[:, 3:] = 6e4
    assert torch.allclose(attention(query, keys, mask), expected, atol=1e-6)


def test_attention_drops_out_in_training():
    attention = randomise(MultiheadAttention(8, 2, dropout=0.5)).train()
    query = torch.randn(1, 9, 8)
    mask = torch.ones(1, 9, dtype=torch.bool)
    assert not torch.allclose(attention(query, query, mask), attention(query, query, mask))


def test_attention_over_a_width_that_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match=r"^attention over 10 dimensions cannot be split into 4 heads$"):
        MultiheadAttention(10, 4, 0.0)


# Temporal layers


@torch.no_grad()
def test_the_transformer_is_torchs_own_over_frames_with_positions():
    ours = randomise(TransformerTemporal(12, layers=2, heads=3, feedforward=20, dropout=0.3))
    theirs = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(12, 3, 20, dropout=0.3, activation="relu", batch_first=True, norm_first=False),
        num_layers=2,
        enable_nested_tensor=False,
    ).eval()
    for layer, other in zip(ours.layers, theirs.layers, strict=True):
        other.self_attn = of_torch(layer.attention, 12, 3)
        for part in ("norm1", "norm2", "linear1", "linear2"):
            getattr(other, part).load_state_dict(getattr(layer, part).state_dict())
    frames = torch.randn(2, 7, 12)
    mask = torch.arange(7) < torch.tensor([7, 4])[:, None]
    expected = theirs(frames + sinusoidal_positions(7, 12, frames), src_key_padding_mask=~mask)
    got = ours(frames, mask)
    assert got.shape == (2, 7, 12)
    assert torch.allclose(got[mask], expected[mask], atol=1e-5)


@torch.no_grad()
def test_the_bilstm_of_a_padded_batch_is_torchs_own_over_each_clip():
    ours = BiLstmTemporal(6, layers=2, dropout=0.3).eval()
    assert ours.output_size == 6
    frames = torch.randn(3, 8, 6)
    mask = torch.arange(8) < torch.tensor([3, 8, 1])[:, None]
    frames[~mask] = 6e4
    got = ours(frames, mask)
    assert got.shape == (3, 8, 6)
    for i, length in enumerate((3, 8, 1)):
        expected, _ = ours.lstm(frames[i : i + 1, :length])
        assert torch.allclose(got[i, :length], expected[0], atol=1e-6)
        assert (got[i, length:] == 0).all()


def test_no_temporal_layer_hands_the_frames_on():
    assert NoTemporal(2)(SEQUENCE, MASK) is SEQUENCE


# Text and audio


@torch.no_grad()
def test_cross_attention_lets_the_tokens_look_at_the_audio():
    part = randomise(CrossAttention(5, 3, 8, MeanPooling, heads=2, dropout=0.3))
    audio, tokens = torch.randn(2, 6, 5), torch.randn(2, 4, 3)
    frame_mask = torch.arange(6) < torch.tensor([6, 2])[:, None]
    token_mask = torch.arange(4) < torch.tensor([1, 4])[:, None]
    keys, queries = part.audio_projection(audio), part.text_projection(tokens)
    found, _ = of_torch(part.attention, 8, 2)(queries, keys, keys, key_padding_mask=~frame_mask)
    found = part.norm(found)  # no residual
    expected = torch.stack((found[0, 0], found[1].mean(dim=0)))
    assert part.output_size == 8
    assert torch.allclose(part(audio, frame_mask, tokens, token_mask), expected, atol=1e-5)


@torch.no_grad()
def test_concat_puts_the_two_means_side_by_side():
    part = Concat(2, 1, 3, MeanPooling)
    set_(part.projection.weight, torch.eye(3))
    set_(part.projection.bias, [0.0, 0.0, 0.5])
    tokens = torch.tensor([[[10.0], [20.0]], [[30.0], [99.0]]])
    token_mask = torch.tensor([[True, True], [True, False]])
    assert part(SEQUENCE, MASK, tokens, token_mask).tolist() == [[2.0, 4.0, 15.5], [5.0, 7.0, 30.5]]


@torch.no_grad()
def test_audio_alone_does_not_look_at_the_prompt():
    part = AudioAlone(2, 1, 2, MeanPooling)
    set_(part.projection.weight, torch.eye(2))
    set_(part.projection.bias, [0.0, 0.0])
    nothing = torch.full((2, 1, 4), math.nan)
    assert part(SEQUENCE, MASK, nothing, torch.ones(2, 1, dtype=torch.bool)).tolist() == [[2.0, 4.0], [5.0, 7.0]]


# Downstream layers


@torch.no_grad()
def test_the_mlp_by_hand():
    mlp = MlpDownstream(2, (2, 1), dropout=0.5, dropout_after=(0,)).eval()
    assert mlp.output_size == 1
    set_(mlp.layers[0].weight, [[1.0, 1.0], [1.0, -1.0]])
    set_(mlp.layers[0].bias, [0.0, 1.0])
    set_(mlp.layers[3].weight, [[2.0, 3.0]])
    set_(mlp.layers[3].bias, [-1.0])
    # (1, 4): relu(5, -2) = (5, 0), 2 * 5 - 1 = 9. (-2, 1): relu(-1, -2) = (0, 0), relu(-1) = 0.
    assert mlp(torch.tensor([[1.0, 4.0], [-2.0, 1.0]])).tolist() == [[9.0], [0.0]]


@torch.no_grad()
def test_the_lstm_is_one_step_from_a_zero_state():
    downstream = randomise(LstmDownstream(3, 2))
    assert downstream.output_size == 2
    vector = torch.randn(4, 3)
    lstm = downstream.lstm
    gates = vector @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + lstm.bias_hh_l0
    enter, _, cell, leave = gates.chunk(4, dim=1)
    expected = leave.sigmoid() * torch.tanh(enter.sigmoid() * cell.tanh())
    assert torch.allclose(downstream(vector), expected, atol=1e-6)


# Output layers


def with_bias(output, values):
    """An output layer that gives these raw values, whatever goes in."""
    nn.init.zeros_(output.linear.weight)
    set_(output.linear.bias, values)
    return output


@torch.no_grad()
def test_the_scalar_output_by_hand():
    output = with_bias(ScalarOutput(2), [3.25])
    set_(output.linear.weight, [[1.0, -2.0]])
    got = output(torch.tensor([[1.0, 1.0], [0.0, 9.0]]))
    assert got.score.tolist() == [2.25, -14.75]
    assert got.dist is None and got.logits is None


@torch.no_grad()
def test_the_score_of_a_distribution_is_its_mean():
    shares = [0.1, 0.2, 0.3, 0.3, 0.1]
    got = with_bias(DistributionOutput(2, 5), [math.log(share) + 7 for share in shares])(torch.randn(1, 2))
    assert got.dist[0].tolist() == pytest.approx(shares)
    assert got.score.tolist() == pytest.approx([0.1 * 1 + 0.2 * 2 + 0.3 * 3 + 0.3 * 4 + 0.1 * 5])
    assert got.logits is None


@torch.no_grad()
def test_twenty_bins_are_evenly_spaced_from_1_to_5():
    for k in (0, 1, 19):
        raw = [0.0] * 20
        raw[k] = 200.0  # all mass in one bin
        score = with_bias(DistributionOutput(2, 20), raw)(torch.randn(1, 2)).score
        assert score.tolist() == pytest.approx([1 + 4 * k / 19])


@torch.no_grad()
def test_coral_logits_by_hand():
    got = with_bias(CoralOutput(2, 5), [0.5, 0.0, 1.0, -1.0])(torch.randn(1, 2))
    first = 0.5
    second = first - math.log(2)  # softplus(0) = ln 2
    third = second - math.log(1 + math.e)
    fourth = third - math.log(1 + 1 / math.e)
    assert got.logits[0].tolist() == pytest.approx([first, second, third, fourth], abs=1e-6)
    exceeding = [1 / (1 + math.exp(-logit)) for logit in (first, second, third, fourth)]
    assert got.score.tolist() == pytest.approx([1 + sum(exceeding)], abs=1e-6)
    assert got.dist is None


NUMBERS = st.floats(-1e4, 1e4, width=32)


@torch.no_grad()
@given(
    weights=st.lists(NUMBERS, min_size=12, max_size=12),
    biases=st.lists(NUMBERS, min_size=4, max_size=4),
    features=st.lists(NUMBERS, min_size=3, max_size=3),
)
def test_coral_probabilities_are_ordered_for_any_weights(weights, biases, features):
    output = CoralOutput(3, 5)
    set_(output.linear.weight, torch.tensor(weights).reshape(4, 3))
    set_(output.linear.bias, biases)
    got = output(torch.tensor([features]))
    exceeding = got.logits[0].sigmoid()
    assert (exceeding.diff() <= 0).all()
    assert got.score.item() == pytest.approx(1 + exceeding.sum().item(), abs=1e-6)
    assert 1 <= got.score.item() <= 5


@torch.no_grad()
@pytest.mark.parametrize("seed", range(5))
def test_coral_logits_never_increase_and_the_score_stays_within_1_and_5(seed):
    output = randomise(CoralOutput(6, 5), seed)
    features = torch.randn(200, 6, generator=torch.Generator().manual_seed(seed)) * 20
    got = output(features)
    assert (got.logits.diff(dim=1) <= 0).all()
    assert (got.score >= 1).all() and (got.score <= 5).all()
    assert got.score.min() < 1.5 and got.score.max() > 4.5  # the whole scale is in reach


@torch.no_grad()
@pytest.mark.parametrize(("kind", "sizes"), [(ScalarOutput, ()), (DistributionOutput, (20,)), (CoralOutput, (5,))])
def test_scores_are_computed_in_float32_under_autocast(kind, sizes):
    layer, features = kind(6, *sizes), torch.randn(50, 6)
    exact = layer(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(features)
    assert output.score.dtype == torch.float32
    assert torch.allclose(output.score, exact.score, atol=0.03)  # the linear layer itself is in half precision
    if output.dist is not None:
        mean = output.dist.double() @ torch.linspace(1, 5, 20, dtype=torch.float64)
        assert torch.allclose(output.score.double(), mean, atol=1e-5)
