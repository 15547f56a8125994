import pytest
import torch
from scipy import stats

from audiomos_cache.heads.model import build_head
from audiomos_cache.training.trainer import draw_mixup, mix_frames, mixed_loss

NAN = float("nan")
MASK = torch.tensor([[True, True, True], [True, False, False]])
SWAPPED = torch.tensor([1, 0])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_mixed_frames_by_hand():
    # A clip of three frames, and one of a single frame; what stands behind it counts as zero.
    frames = torch.tensor([[[4.0, 0.0], [8.0, 4.0], [12.0, 4.0]], [[0.0, 8.0], [NAN, 99.0], [99.0, NAN]]])
    mixed, mask = mix_frames(frames, MASK, SWAPPED, 0.75)
    assert mixed.tolist() == [[[3.0, 2.0], [6.0, 3.0], [9.0, 3.0]], [[1.0, 6.0], [2.0, 1.0], [3.0, 1.0]]]
    assert mask.tolist() == [[True] * 3] * 2


def test_a_frame_is_valid_where_either_clips_is():
    mask = torch.tensor([[True, False, False], [True, True, False]])
    mixed, found = mix_frames(torch.ones(2, 3, 1), mask, SWAPPED, 0.75)
    assert found.tolist() == [[True, True, False]] * 2
    assert mixed.squeeze(2).tolist() == [[1.0, 0.25, 0.0], [1.0, 0.75, 0.0]]


def test_each_layer_is_mixed_as_if_alone():
    layers = torch.randn(2, 5, 3, 4, generator=generator())
    mixed, mask = mix_frames(layers, MASK, SWAPPED, 0.3)
    assert mixed.shape == layers.shape
    for k in range(5):
        alone, alone_mask = mix_frames(layers[:, k], MASK, SWAPPED, 0.3)
        assert torch.equal(mixed[:, k], alone) and torch.equal(mask, alone_mask)


@pytest.mark.parametrize(("order", "lam"), [([1, 0], 1.0), ([0, 1], 0.4)])
def test_all_of_one_clip_is_that_clip(order, lam):
    frames = torch.randn(2, 3, 4, generator=generator())
    mixed, _ = mix_frames(frames, MASK, torch.tensor(order), lam)
    assert torch.allclose(mixed, frames * MASK[:, :, None])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_what_goes_in_is_not_changed(dtype):
    frames, mask = torch.randn(2, 3, 4, generator=generator()).to(dtype), MASK.clone()
    before = frames.clone()
    mixed, _ = mix_frames(frames, mask, SWAPPED, 0.5)
    assert mixed.dtype == dtype
    assert torch.equal(frames, before) and torch.equal(mask, MASK)


def test_a_head_takes_mixed_clips():
    """The valid frames still come first, and the prompts stay."""
    torch.manual_seed(0)
    head = build_head("pooling-dist", audio_dim=8, text_dim=4).eval()
    tokens, token_mask = torch.randn(2, 2, 4), torch.ones(2, 2, dtype=torch.bool)
    mixed, mask = mix_frames(torch.randn(2, 3, 8), MASK, SWAPPED, 0.5)
    output = head(mixed, mask, tokens, token_mask)
    assert torch.allclose(output.mi[0], output.mi[1])  # half of each, either way
    assert not torch.allclose(output.ta[0], output.ta[1])


def test_a_mixed_loss_by_hand():
    assert mixed_loss(torch.tensor(2.0), torch.tensor(6.0), 0.75).item() == 3.0


def test_the_perfect_prediction_of_a_mixture_is_the_mixed_label():
    """Of squared errors; lam (s - a)^2 + (1 - lam) (s - b)^2 is smallest at lam a + (1 - lam) b."""
    score = torch.tensor(0.75 * 2 + 0.25 * 4, requires_grad=True)
    mixed_loss((score - 2) ** 2, (score - 4) ** 2, 0.75).backward()
    assert score.grad.item() == 0


def test_a_draw_depends_on_its_generator_alone():
    torch.manual_seed(0)
    (order, lam), (same_order, same_lam) = draw_mixup(9, 0.2, generator()), draw_mixup(9, 0.2, generator())
    assert sorted(order.tolist()) == list(range(9))
    assert torch.equal(order, same_order) and lam == same_lam
    shared = generator()
    assert len({draw_mixup(9, 1.0, shared)[1] for _ in range(20)}) == 20
    assert draw_mixup(9, 0.2, generator(1))[1] != lam


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_weights_follow_the_beta_distribution(alpha):
    shared = generator()
    weights = [draw_mixup(2, alpha, shared)[1] for _ in range(1000)]
    assert stats.kstest(weights, stats.beta(alpha, alpha).cdf).pvalue > 0.01


@pytest.mark.parametrize("alpha", [1e-9, 1e-3, 1e6])
def test_extreme_weights_are_finite(alpha):
    shared = generator()
    assert all(0 <= draw_mixup(2, alpha, shared)[1] <= 1 for _ in range(100))
