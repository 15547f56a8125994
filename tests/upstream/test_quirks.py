"""What each of the published code's three quirks does to a score, with `compat: upstream` and without."""

import math

import pytest
import torch

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.presets import load_head_config
from audiomos_cache.heads.temporal import sinusoidal_positions
from audiomos_cache.upstream.quirks import PaddingPooling, UnmaskedPooling, float32_bin_centres, float32_positions
from tests.support.heads import AUDIO_DIM, TEXT_DIM, Clips

PRESETS = (
    "transformer-scalar", "transformer-dist", "transformer-onehot", "transformer-coral", "decoupled-dist",
    "decoupled-lstm-dist",
)  # fmt: skip
VISIBLE = 2e-4  # of a difference between scores, next to 1e-5 of rounding
SAME = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(params=PRESETS)
def preset(request):
    return request.param


@pytest.fixture
def heads(preset, randomise):
    """Heads of the same weights: as published, and ours."""
    return tuple(randomise(tiny(preset, compat)).eval() for compat in ("upstream", "none"))


@pytest.fixture
def make_clips(make_clips):
    """Make clips whose padding holds ordinary features: here they count."""

    def make(*lengths):
        clips = make_clips(*lengths)
        generator = torch.Generator().manual_seed(1)
        for features, mask in ((clips.frames, clips.frame_mask), (clips.tokens, clips.token_mask)):
            features[~mask] = torch.randn(features[~mask].shape, generator=generator)
        return clips

    return make


def tiny(preset, compat=None):
    torch.manual_seed(0)
    return build_head(preset, AUDIO_DIM, TEXT_DIM, compat=compat)


def differ(a, b):
    return (a - b).abs().max() > VISIBLE


def same(a, b):
    return torch.allclose(a, b, **SAME)


# The same head otherwise


def test_the_weights_are_the_same_and_start_the_same(preset):
    upstream, ours = tiny(preset, "upstream").state_dict(), tiny(preset).state_dict()
    assert list(upstream) == list(ours)
    assert all(torch.equal(upstream[name], ours[name]) for name in ours)


def test_compat_is_an_argument_or_a_key_of_the_config(preset, make_clips):
    clips = make_clips([7, 3], [4, 6])

    def mi(config, **compat):
        torch.manual_seed(0)
        return build_head(config, AUDIO_DIM, TEXT_DIM, **compat).eval()(*clips).mi

    by_key = load_head_config(preset, ("compat=upstream",))[1]
    assert torch.equal(mi(by_key), mi(preset, compat="upstream"))
    assert torch.equal(mi(by_key, compat="none"), mi(preset))
    assert torch.equal(mi(preset, compat=None), mi(preset))
    assert not torch.equal(mi(by_key), mi(preset))


def test_a_head_that_the_published_code_does_not_have_is_refused_with_all_reasons():
    config = load_head_config("pooling-dist", ("pooling=mean",))[1]
    with pytest.raises(ConfigError) as caught:
        build_head(config, AUDIO_DIM, TEXT_DIM, compat="upstream")
    reasons = str(caught.value).split("; use ")
    assert [reason.split("; ")[-1].split(":")[0] for reason in reasons[:-1]] == [
        "temporal.kind", "pooling", "text_audio.kind+downstream+output.kind"
    ]  # fmt: skip


def test_every_parameter_gets_a_gradient(heads, make_clips):
    output = heads[0](*make_clips([7, 3, 5], [4, 6, 2]))
    (output.mi + output.ta).sum().backward()
    zero = [name for name, parameter in heads[0].named_parameters() if parameter.grad.abs().max() < 1e-6]
    # Zero by construction, as in test_head.py.
    assert [name for name in zero if not name.endswith(("pooling.weight.bias", "lstm.weight_hh_l0"))] == []


# 1. Positions are added to a batch of one clip alone


@torch.no_grad()
def test_a_clip_alone_has_other_scores_than_in_a_batch(heads, make_clips):
    """Neither frames nor tokens are padded, so nothing but the positions differs."""
    upstream, ours = heads
    clips = make_clips([20, 20], [5, 5])
    together, alone = upstream(*clips), upstream(*clips.row(0))
    assert differ(together.mi[0], alone.mi[0])
    assert same(ours(*clips).mi[0], ours(*clips.row(0)).mi[0])
    assert same(alone.mi, ours(*clips.row(0)).mi)


@torch.no_grad()
def test_ta_feels_the_positions_unless_it_looks_past_them(preset, heads, make_clips):
    clips = make_clips([20, 20], [5, 5])
    together, alone = heads[0](*clips).ta[0], heads[0](*clips.row(0)).ta[0]
    assert same(together, alone) == preset.startswith("decoupled")


@torch.no_grad()
def test_the_order_of_the_frames_counts_for_a_clip_alone_only(heads, make_clips):
    clips = make_clips([20, 20], [5, 5])
    backward = Clips(clips.frames.flip(1), *list(clips)[1:])
    upstream, ours = heads
    assert same(upstream(*clips).mi, upstream(*backward).mi)
    assert differ(upstream(*clips.row(0)).mi, upstream(*backward.row(0)).mi)
    assert differ(ours(*clips).mi, ours(*backward).mi)


def test_positions_are_those_of_float32():
    positions = float32_positions(750, 64)
    assert positions.shape == (750, 64) and positions.dtype == torch.float32
    exact = sinusoidal_positions(750, 64, torch.zeros(1, dtype=torch.float64))
    assert 1e-9 < (positions.double() - exact).abs().max() < 1e-3  # angles up to 749, rounded to float32
    rate = math.exp(2 * (-math.log(10000.0) / 64))
    assert positions[1, :4].tolist() == pytest.approx([math.sin(1), math.cos(1), math.sin(rate), math.cos(rate)])


def test_bin_centres_are_those_of_float32():
    centres = float32_bin_centres(20)
    assert centres.dtype == torch.float32 and centres.tolist() == pytest.approx([1 + 4 * k / 19 for k in range(20)])
    assert build_head("transformer-dist", 8, 6, compat="upstream").mi[1].centres.dtype == torch.float32


# 2. What the padding of a prompt finds is pooled, not what its tokens find


def with_tokens_moved(clips, row, where):
    tokens = clips.tokens.clone()
    tokens[row, where] += 3 * torch.randn(TEXT_DIM, generator=torch.Generator().manual_seed(2))
    return Clips(clips.frames, clips.frame_mask, tokens, clips.token_mask)


@torch.no_grad()
def test_ta_sees_the_padding_of_a_prompt_and_not_its_tokens(heads, make_clips):
    clips = make_clips([20, 20, 20], [4, 6, 2])
    moved_token, moved_padding = (with_tokens_moved(clips, 0, where) for where in (2, 4))
    upstream, ours = heads
    assert torch.equal(upstream(*moved_token).ta, upstream(*clips).ta)
    assert differ(upstream(*moved_padding).ta[0], upstream(*clips).ta[0])
    assert differ(ours(*moved_token).ta[0], ours(*clips).ta[0])
    assert torch.equal(ours(*moved_padding).ta, ours(*clips).ta)


@torch.no_grad()
def test_the_longest_prompt_of_a_batch_is_averaged(heads, make_clips):
    """It has no padding, so all its logits are masked alike, and the weights of the pooling do not count."""
    upstream, ours = heads
    clips = make_clips([20, 20], [6, 4])
    before = [head(*clips).ta for head in heads]
    assert differ(upstream(*with_tokens_moved(clips, 0, 2)).ta[0], before[0][0])
    for head in heads:
        head.text_audio.pooling.weight.weight.mul_(-1)
    assert torch.equal(upstream(*clips).ta[0], before[0][0])
    assert differ(ours(*clips).ta[0], before[1][0])


@torch.no_grad()
def test_a_prompt_has_another_ta_beside_a_longer_one(heads, make_clips):
    clips = make_clips([20, 20], [4, 6])
    both, pair = list(clips), [x[:1].repeat(2, *[1] * (x.dim() - 1)) for x in clips]
    pair[2], pair[3] = pair[2][:, :4], pair[3][:, :4]  # twice the first clip, without padding
    upstream, ours = heads
    assert differ(upstream(*both).ta[0], upstream(*pair).ta[0])
    assert same(ours(*both).ta[0], ours(*pair).ta[0])


@torch.no_grad()
def test_pooling_the_padding_by_hand():
    pooling = PaddingPooling(1)
    pooling.weight.weight.fill_(math.log(3))
    pooling.weight.bias.fill_(123.0)
    sequence = torch.tensor([[[50.0], [2.0], [1.0]], [[50.0], [60.0], [4.0]], [[50.0], [2.0], [8.0]]])
    mask = torch.tensor([[True, False, False], [True, True, False], [True, True, True]])
    # Shares 3/4 and 1/4 of two paddings; the only padding; no padding, so the mean of all.
    assert pooling(sequence, mask).flatten().tolist() == pytest.approx([1.75, 4.0, 20.0])


# 3. Frames of padding are treated like all others


@torch.no_grad()
def test_padding_frames_change_the_scores(heads, make_clips):
    clips = make_clips([20, 9], [5, 5])
    other = Clips(clips.frames.clone(), *list(clips)[1:])
    other.frames[1, 15] += 1
    upstream, ours = heads
    for target in ("mi", "ta"):
        before, after = (getattr(upstream(*x), target) for x in (clips, other))
        assert same(before[0], after[0]) and differ(before[1], after[1])
        assert torch.equal(getattr(ours(*clips), target), getattr(ours(*other), target))


@torch.no_grad()
def test_the_frame_mask_is_not_looked_at(heads, make_clips):
    clips = make_clips([20, 20], [5, 5])
    less = Clips(clips.frames, clips.frame_mask.clone(), *list(clips)[2:])
    less.frame_mask[0, 10:] = False
    upstream, ours = heads
    for target in ("mi", "ta"):
        assert torch.equal(getattr(upstream(*clips), target), getattr(upstream(*less), target))
        assert differ(getattr(ours(*clips), target)[0], getattr(ours(*less), target)[0])


@torch.no_grad()
def test_pooling_without_a_mask_by_hand():
    pooling = UnmaskedPooling(1)
    pooling.weight.weight.zero_()
    assert pooling(torch.tensor([[[1.0], [2.0], [9.0]]]), torch.tensor([[True, True, False]])).item() == 4.0
