import pytest
import torch

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.layers import OneLayer, WeightedLayers, layers_to_read
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.presets import load_head_config
from tests.support.heads import AUDIO_DIM, TEXT_DIM, Clips

PRESETS = ("transformer-dist", "decoupled-dist", "pooling-dist", "transformer-coral")
LAYERS = 3


@pytest.fixture
def layered_clips(make_clips):
    """Clips with frames of three layers, (B, 3, T, AUDIO_DIM), and garbage in the padding of each."""

    def make(frame_lengths, token_lengths):
        layers = [make_clips(frame_lengths, token_lengths, seed=seed) for seed in range(LAYERS)]
        frames = torch.stack([clips.frames for clips in layers], dim=1)
        return Clips(frames, *list(layers[0])[1:])

    return make


def weighted(preset, randomise=lambda head: head):
    torch.manual_seed(0)
    config = load_head_config(preset, ("layers=weighted",))[1]
    return randomise(build_head(config, AUDIO_DIM, TEXT_DIM, layers=LAYERS)).eval()


def alone(clips, i):
    """Clip i without its padding."""
    rest = Clips(clips.frames[:, 0], clips.frame_mask, clips.tokens, clips.token_mask).row(i)
    return Clips(clips.frames[i : i + 1, :, clips.frame_mask[i]], rest.frame_mask, rest.tokens, rest.token_mask)


def test_a_mixture_worked_by_hand():
    mix = WeightedLayers(2)
    frames = torch.tensor([[[[1.0, 2.0]], [[5.0, -2.0]]]])  # one clip, two layers, one frame
    assert mix(frames).tolist() == [[[3.0, 0.0]]]  # equal weights at first
    with torch.no_grad():
        mix.weight.copy_(torch.tensor([3.0, 1.0]).log())  # a softmax of 3/4 and 1/4
    assert mix.shares().tolist() == pytest.approx([0.75, 0.25])
    assert mix(frames).flatten().tolist() == pytest.approx([2.0, 1.0])


def test_one_layer_hands_its_frames_on():
    frames = torch.randn(2, 5, 4)
    assert OneLayer()(frames) is frames


@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 3, 5, 4), (2, 1, 5, 4)])
def test_frames_of_another_number_of_layers_are_refused(shape):
    with pytest.raises(ValueError) as caught:
        WeightedLayers(2)(torch.zeros(shape))
    assert str(caught.value) == f"frames are {shape}, expected (B, 2, T, D): one per layer"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_clip_has_the_same_scores_alone_and_in_a_padded_batch(preset, layered_clips, randomise):
    head, clips = weighted(preset, randomise), layered_clips([40, 9, 1, 23], [3, 12, 7, 1])
    with torch.no_grad():
        together = head(*clips)
        for i in range(4):
            one = head(*alone(clips, i))
            assert one.mi.item() == pytest.approx(together.mi[i].item(), abs=1e-5)
            assert one.ta.item() == pytest.approx(together.ta[i].item(), abs=1e-5)
    assert together.mi.std() > 1e-3 and together.ta.std() > 1e-3  # the clips differ


@pytest.mark.parametrize("preset", PRESETS)
def test_permuting_the_batch_permutes_the_output(preset, layered_clips, randomise):
    head, clips, order = weighted(preset, randomise), layered_clips([40, 9, 1, 23], [3, 12, 7, 1]), [2, 0, 3, 1]
    with torch.no_grad():
        output, permuted = head(*clips), head(*clips.permuted(order))
    torch.testing.assert_close(permuted.mi, output.mi[order], atol=1e-5, rtol=0)
    torch.testing.assert_close(permuted.ta, output.ta[order], atol=1e-5, rtol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_both_scores_teach_the_layer_weights(preset, layered_clips, randomise):
    for target in ("mi", "ta"):
        head = weighted(preset, randomise)
        getattr(head(*layered_clips([7, 3, 1], [4, 6, 2])), target).sum().backward()
        assert head.layers.weight.grad.abs().min() > 1e-6


@pytest.mark.parametrize("preset", PRESETS)
def test_a_weight_on_one_layer_alone_is_a_head_of_that_layer(preset, layered_clips):
    """Besides the layer weights, both heads start from the same weights: the mixture draws nothing at random."""
    torch.manual_seed(0)
    single = build_head(preset, AUDIO_DIM, TEXT_DIM).eval()
    mixing, clips = weighted(preset), layered_clips([7, 3], [4, 6])
    with torch.no_grad():
        mixing.layers.weight[1] = 200.0
        expected = single(clips.frames[:, 1], *list(clips)[1:])
        assert torch.equal(mixing(*clips).mi, expected.mi) and torch.equal(mixing(*clips).ta, expected.ta)
    assert set(mixing.state_dict()) - set(single.state_dict()) == {"layers.weight"}


def test_the_layers_that_a_head_reads():
    assert layers_to_read("only", (12,)) == (12,)
    assert layers_to_read(9, (6, 9, 12)) == (9,)
    assert layers_to_read(0, (0,)) == (0,)
    assert layers_to_read("weighted", (6, 9, 12)) == (6, 9, 12)


@pytest.mark.parametrize(
    ("setting", "stored", "message"),
    [
        ("only", (6, 9, 12), "the cache holds layers 6, 9, 12; name one of them (--set layers=9), or weighted"),
        ("only", (6, 12), "the cache holds layers 6, 12; name one of them (--set layers=12), or weighted"),
        (7, (6, 9, 12), "there is no 7; the cache holds layers 6, 9, 12"),
        (6, (12,), "there is no 6; the cache holds layer 12"),
    ],
)
def test_layers_that_the_cache_does_not_hold_are_refused(setting, stored, message):
    with pytest.raises(ConfigError) as caught:
        layers_to_read(setting, stored)
    assert str(caught.value) == f"layers: {message}"


def test_a_single_layer_is_not_mixed():
    with pytest.raises(ConfigError) as caught:
        build_head(HeadConfig(layers="weighted"), AUDIO_DIM, TEXT_DIM, layers=1)
    assert str(caught.value) == "layers: 'weighted' mixes several layers, and the cache holds only one; use only"
