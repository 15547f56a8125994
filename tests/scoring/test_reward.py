"""`Scorer.reward`: what `score` says, as a tensor where the caller's tensors are; nothing that trains on nothing."""

import logging
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from audiomos_cache.bundle.published import make_published_bundle
from audiomos_cache.errors import ArgumentError, DataError
from audiomos_cache.scoring.scorer import Scorer
from audiomos_cache.testing import make_muq_eval
from tests.support.scoring import PROMPTS, MakeScorer, music

RATE = 16000
SECONDS = 3.2


@pytest.fixture(scope="module")
def scorer(make_scorer: MakeScorer) -> Scorer:
    return make_scorer(pad_to_s=5.0)


@pytest.fixture(scope="module")
def batch() -> Tensor:
    """(3, samples)."""
    return torch.stack([torch.from_numpy(music(SECONDS, RATE, seed)[:, 0]) for seed in range(3)])


def expected(scorer: Scorer, clips: list[Any], prompts: Any, target: str) -> Tensor:
    scores = scorer.score(clips, prompts, sample_rate=RATE)
    return torch.tensor([getattr(score, target) for score in scores])


def check(found: Tensor, clips: int) -> None:
    assert found.shape == (clips,) and found.dtype == torch.float32 and not found.requires_grad


@pytest.mark.parametrize("target", ["mi", "ta"])
def test_it_is_what_score_says(scorer: Scorer, batch: Tensor, target: str) -> None:
    prompts = list(PROMPTS[:3])
    found = scorer.reward(batch, prompts, RATE, target)
    check(found, 3)
    torch.testing.assert_close(found, expected(scorer, [clip.numpy() for clip in batch], prompts, target))
    assert len(set(found.tolist())) == 3
    one = scorer.reward(batch, PROMPTS[0], RATE, target=target)
    torch.testing.assert_close(one, expected(scorer, list(batch), PROMPTS[0], target))


def test_mi_is_the_target_and_needs_no_prompt(scorer: Scorer, batch: Tensor) -> None:
    torch.testing.assert_close(scorer.reward(batch, None, RATE), scorer.reward(batch, PROMPTS[0], RATE, "mi"))


def test_clips_are_told_from_channels(scorer: Scorer, batch: Tensor) -> None:
    """Two clips are not the two channels of one, nor are a clip's channels clips."""
    check(scorer.reward(batch[:2], None, RATE), 2)
    stereo = torch.stack((batch[:2], batch[1:]), dim=1)  # (2 clips, 2 channels, samples)
    found = scorer.reward(stereo, None, RATE)
    check(found, 2)
    torch.testing.assert_close(found, expected(scorer, list((batch[:2] + batch[1:]) / 2), None, "mi"))
    torch.testing.assert_close(scorer.reward(batch[:, None], None, RATE), scorer.reward(batch, None, RATE))
    torch.testing.assert_close(scorer.reward(batch.numpy(), None, RATE), scorer.reward(batch, None, RATE))


def test_a_sequence_of_anything(scorer: Scorer, batch: Tensor, clips: list[Path]) -> None:
    mixed = [clips[0], (RATE, batch[0].numpy()), {"array": batch[1], "sampling_rate": RATE}]
    found = scorer.reward(mixed)
    check(found, 3)
    torch.testing.assert_close(found, expected(scorer, mixed, None, "mi"))
    check(scorer.reward([batch[0], batch[1][:-100]], None, RATE), 2)


def test_a_tensor_of_a_model_in_training(scorer: Scorer, batch: Tensor) -> None:
    """In bfloat16, with a gradient, of every other clip of a larger one."""
    trained = batch.repeat_interleave(2, dim=0).bfloat16().requires_grad_()[::2]
    with torch.autocast("cpu"):
        found = scorer.reward(trained, None, RATE)
    check(found, 3)
    torch.testing.assert_close(found, scorer.reward(batch.bfloat16().float(), None, RATE))
    assert trained.requires_grad and torch.is_grad_enabled()


def test_no_clips_have_no_rewards(scorer: Scorer) -> None:
    for none in (torch.empty(0, 24000), torch.empty(0, 2, 24000, dtype=torch.bfloat16), []):
        check(scorer.reward(none, [], RATE), 0)
        check(scorer.reward(none, "rain", RATE, "ta"), 0)


def test_nan_for_what_cannot_be_scored(scorer: Scorer, batch: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    broken = batch.clone()
    broken[1] = 0
    found = scorer.reward(broken, None, RATE)
    check(found, 3)
    assert found.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(found[::2], scorer.reward(batch[::2], None, RATE))
    prompts = ["rain", None, math.nan]
    found = scorer.reward(batch, prompts, RATE, "ta")  # type: ignore[arg-type]
    assert found.isnan().tolist() == [False, True, True]
    assert scorer.reward([batch[0].numpy(), "nowhere.wav", None], None, RATE).isnan().tolist() == [False, True, True]
    assert caplog.messages == []


def test_one_warning_where_no_clip_can_be_scored(scorer: Scorer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = scorer.reward(torch.zeros(4, 48000), None, RATE)
    assert found.isnan().all()
    [message] = caplog.messages
    reason = "clip 0: silent, peak 0, expected music; check the clip"
    assert message == f"reward: none of 4 clips has a score of mi; the first: {reason}"


@pytest.mark.parametrize("prompts", [None, "", "  ", [None, "", " "], [math.nan] * 3, np.array([None] * 3)])
def test_a_target_that_hears_the_prompt_needs_one(scorer: Scorer, batch: Tensor, prompts: Any) -> None:
    message = "target 'ta' depends on the prompt, and no clip has one; give prompts: one string, or one for each"
    with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
        scorer.reward(batch, prompts, RATE, "ta")


def test_an_unknown_target_lists_those_that_there_are(scorer: Scorer, batch: Tensor) -> None:
    with pytest.raises(ArgumentError, match=r"^target 'tta' is not one of ta, mi$"):
        scorer.reward(batch, "rain", RATE, "tta")
    with pytest.raises(ArgumentError, match=r"^target \['mi'\] is not one of mi, ta$"):
        scorer.reward(batch, "rain", RATE, ["mi"])  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(48000,), (1, 1, 1, 48000), ()])
@pytest.mark.parametrize("make", [torch.zeros, np.zeros])
def test_other_shapes_are_refused(scorer: Scorer, shape: tuple[int, ...], make: Any) -> None:
    found = rf"^audio: found an array of shape {re.escape(str(shape))}, expected \(clips, samples\) or \(clips, "
    with pytest.raises(ArgumentError, match=found + r"channels, samples\); give one clip as audio\[None\]$"):
        scorer.reward(make(shape), None, RATE)


@pytest.mark.parametrize(
    ("rate", "found"),
    [
        (None, "audio: an array at a sample rate of None; give sample_rate, a whole number of Hz"),
        ("24000", "audio: an array at a sample rate of '24000'; give sample_rate, a whole number of Hz"),
        (24000.5, "audio: a sample rate of 24000.5 Hz, expected a whole number"),
    ],
)
def test_tensors_need_a_sample_rate(scorer: Scorer, batch: Tensor, rate: Any, found: str) -> None:
    """Or each clip would have the same error, and a training would go on without any reward."""
    for audio in (batch, list(batch), batch[:0], batch.numpy(), list(batch.numpy()), batch.numpy()[:0]):
        with pytest.raises(DataError, match=f"^{re.escape(found)}$"):
            scorer.reward(audio, None, rate)


def test_what_is_wrong_with_the_call_is_raised(scorer: Scorer, batch: Tensor) -> None:
    with pytest.raises(DataError, match=r"^2 prompts for 3 clips, expected one for each$"):
        scorer.reward(batch, ["rain", "drums"], RATE)
    with pytest.raises(DataError, match=r"a single clip, expected a sequence of clips; put it in a list$"):
        scorer.reward("song.wav")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"^audio: found a generator, which has no length"):
        scorer.reward((clip for clip in batch), None, RATE)  # type: ignore[arg-type]


def test_without_tensors_it_is_on_the_cpu_whatever_the_default(scorer: Scorer, batch: Tensor) -> None:
    with torch.device("meta"):
        assert scorer.reward(batch.numpy(), None, RATE).device.type == "cpu"
        assert scorer.reward(list(batch.numpy()), None, RATE).device.type == "cpu"


@pytest.fixture(scope="module")
def several(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A published bundle, and the other one."""
    folder = tmp_path_factory.mktemp("published")
    make_published_bundle("muq-eval-a1", make_muq_eval(folder / "weights"), folder / "published")
    return Scorer([str(folder / "published"), *scorer._bundles.values()], device="cpu")


def test_of_several_bundles_each_target_has_its_bundles_name(several: Scorer, batch: Tensor) -> None:
    names = [target.name for target in several.targets]
    published, own = several.entries
    assert names == [f"{published}.mi", f"{published}.ta_without_prompt", f"{own}.mi", f"{own}.ta"]
    clips = [clip.numpy() for clip in batch]
    scores = several.score(clips, PROMPTS[0], sample_rate=RATE)
    for name in names:
        bundle, _, target = name.rpartition(".")
        expected = torch.tensor([score.bundles[bundle].scores[target] for score in scores])
        torch.testing.assert_close(several.reward(batch, PROMPTS[0], RATE, name), expected)
    assert several.reward(batch, None, RATE, names[1]).isfinite().all()
    with pytest.raises(ArgumentError, match=rf"^target '{re.escape(names[3])}' depends on the prompt"):
        several.reward(batch, None, RATE, names[3])
    with pytest.raises(ArgumentError, match=rf"^target 'mi' is not one of {re.escape(', '.join(names))}$"):
        several.reward(batch, None, RATE)


def test_one_clip_that_one_of_several_bundles_cannot_score(several: Scorer, batch: Tensor) -> None:
    mi, ta = (target.name for target in several.targets[2:])
    found = several.reward(batch, ["rain", None, "drums"], RATE, ta)
    assert found.isnan().tolist() == [False, True, False]
    broken = batch.clone()
    broken[0] = 0
    assert several.reward(broken, None, RATE, mi).isnan().tolist() == [True, False, False]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_the_callers_gpu(scorer: Scorer, batch: Tensor) -> None:
    for audio in (batch.cuda(), list(batch.cuda())):
        found = scorer.reward(audio, None, RATE)
        assert found.device == batch.cuda().device
        torch.testing.assert_close(found.cpu(), scorer.reward(batch, None, RATE))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.empty(2, 100, device="meta"), "audio is a meta tensor, expected a plain one with values"),
        (torch.zeros(2, 100).to_sparse(), "audio is a sparse or quantized tensor, expected a plain one with values"),
        (
            torch.nested.nested_tensor([torch.zeros(100), torch.zeros(90)], layout=torch.jagged),
            r"audio is a nested tensor, expected its clips in a list, audio.unbind\(\)",
        ),
    ],
)
def test_a_tensor_without_plain_values_is_refused(scorer: Scorer, given: Tensor, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{message}$"):
        scorer.reward(given, None, RATE)


def test_a_rate_beyond_all_numbers_is_refused(scorer: Scorer, batch: Tensor) -> None:
    with pytest.raises(DataError, match=r"^audio: a sample rate of inf Hz, expected 1000 to 1000000$"):
        scorer.reward(batch, None, 10**400)
