"""check_head: our own heads pass it, and each promise has a head that breaks it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from audiomos_cache.batch import Batch
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.presets import preset_names
from audiomos_cache.heads.temporal import NoTemporal
from audiomos_cache.registry import register
from audiomos_cache.testing import check_head

AUDIO_DIM, TEXT_DIM = 32, 24


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_passes(preset):
    head = build_head(preset, AUDIO_DIM, TEXT_DIM)
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    check_head(head, AUDIO_DIM, TEXT_DIM)
    assert all(torch.equal(tensor, before[name]) for name, tensor in head.state_dict().items()) and head.training


def test_a_head_that_mixes_layers_passes():
    config = {"layers": "weighted", "temporal": "none"}
    check_head(build_head(config, AUDIO_DIM, TEXT_DIM, layers=3), AUDIO_DIM, TEXT_DIM, layers=3)


class Pooling(nn.Module):
    def __init__(self, input_size):
        super().__init__()
        self.output_size = input_size


class Unmasked(Pooling):
    def forward(self, sequence, mask):  # noqa: ARG002
        return sequence.clamp(-5, 5).mean(dim=1)


class OfTheBatch(Pooling):
    def forward(self, sequence, mask):
        means = (sequence * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return means + torch.arange(len(means))[:, None] * mask.all(dim=1).any()


class Chancy(Pooling):
    def forward(self, sequence, mask):
        return sequence[:, 0] + torch.rand(()) + 0 * mask.sum()


class Deviation(Pooling):
    def forward(self, sequence, mask):
        weights = mask[..., None].float()
        mean = (torch.where(mask[..., None], sequence, 0)).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
        return torch.where(mask[..., None], (sequence - mean).square(), 0).sum(1).sqrt()


class Unused(Pooling):
    def __init__(self, input_size):
        super().__init__(input_size)
        self.spare = nn.Linear(2, 2)

    def forward(self, sequence, mask):  # noqa: ARG002
        return sequence[:, 0]


class Infinite(Pooling):
    def forward(self, sequence, mask):
        return (sequence * mask[..., None].float() * 1e38).sum(dim=1) * 1e38


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (Unmasked, "a clip has the same scores alone and in a padded batch"),
        (OfTheBatch, "a clip has the same scores alone|permuting the batch permutes the scores"),
        (Chancy, "the same batch twice gives the same scores in eval mode"),
        (Deviation, r"every parameter gets a finite gradient: .* has NaN or infinity"),
        (Unused, r"every parameter gets a finite gradient: pooling\.spare\.weight has none"),
        (Infinite, "is finite, whatever the padding holds"),
    ],
)
def test_a_broken_promise_is_named(broken, promise):
    register("pooling", "broken")(broken)
    head = build_head({"pooling": "broken", "text_audio": "concat"}, AUDIO_DIM, TEXT_DIM)
    with pytest.raises(AssertionError, match=promise):
        check_head(head, AUDIO_DIM, TEXT_DIM)


class Changed(nn.Module):
    """A head whose MI output, or its scores, `change` replaces, given them and the batch."""

    def __init__(self, change):
        super().__init__()
        self.head = build_head({"pooling": "mean", "text_audio": "concat"}, AUDIO_DIM, TEXT_DIM)
        self.change = change

    def forward(self, *batch):
        output = self.head(*batch)
        changed = self.change(output.mi_output, Batch(*batch))
        return replace(output, mi_output=changed)


def with_scores(change):
    return Changed(lambda output, batch: replace(output, score=change(output.score, batch)))


@pytest.mark.parametrize(
    ("head", "promise"),
    [
        (with_scores(lambda scores, _: scores[:2]), r"mi has a row per clip: found \(2,\), 4 clips"),
        (with_scores(lambda scores, _: scores.double()), "mi is float32: found torch.float64"),
        (with_scores(lambda scores, _: scores[:, None]), r"mi is one score per clip: found \(4, 1\)"),
        (Changed(lambda output, _: replace(output, dist=2 * output.dist)), "mi_dist sums to 1"),
        (
            with_scores(lambda scores, batch: scores + (len(batch) > 1 and not batch.frame_mask[0].all())),
            "permuting the batch permutes the scores: mi differs by 1, allowed 1e-05",
        ),
        (
            with_scores(lambda scores, batch: scores.half() if batch.frames.dtype == torch.float16 else scores),
            "mi is float32: found torch.float16",
        ),
        (
            with_scores(lambda scores, batch: scores / (0 if batch.frames.shape[1] == batch.tokens.shape[1] else 1)),
            "a clip of one frame and one token has finite scores and gradients",
        ),
    ],
)
def test_a_promise_that_an_output_breaks_is_named(head, promise):
    with pytest.raises(AssertionError, match=promise):
        check_head(head, AUDIO_DIM, TEXT_DIM)


@pytest.mark.usefixtures("fresh_registry")
def test_a_temporal_part_of_a_user_passes():
    @register("temporal", "mine")
    class Mine(NoTemporal):
        """Frames as they are."""

    check_head(build_head({"temporal": "mine"}, AUDIO_DIM, TEXT_DIM), AUDIO_DIM, TEXT_DIM)
