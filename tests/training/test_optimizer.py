import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.config import TrainingConfig
from audiomos_cache.heads.model import build_head
from audiomos_cache.training.loop import train
from audiomos_cache.training.optimizer import LearningRate, build_optimizer
from tests.support.training import batches_of, job

STEPS = 2  # in an epoch of the cache's 48 clips, in batches of 32


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[float, float]]]:
    """Learning rate and length of the gradient of each step that is taken."""
    steps: list[tuple[float, float]] = []
    step = torch.optim.AdamW.step

    def note(self: torch.optim.AdamW) -> None:
        [lr] = {group["lr"] for group in self.param_groups}
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        steps.append((lr, math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))))
        step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", note)
    yield steps


def rates(steps: int, **settings: object) -> list[float]:
    """The rates of all steps, of which each epoch has 4."""
    lr = LearningRate.of(TrainingConfig(max_epochs=steps // 4, **settings), peak=8.0, steps_per_epoch=4)
    return [lr.at(step) for step in range(steps)]


def test_the_published_rate_is_constant() -> None:
    assert rates(8) == [8.0] * 8


def test_a_warm_up_grows_in_equal_steps_to_the_rate() -> None:
    assert rates(12, warmup_epochs=2) == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8]
    assert rates(8, warmup_epochs=0.5) == [4, 8, 8, 8, 8, 8, 8, 8]


def test_a_warm_up_takes_whole_steps() -> None:
    assert rates(8, warmup_epochs=0.6) == pytest.approx([8 / 3, 16 / 3, 8, 8, 8, 8, 8, 8]), "2.4 steps are 3"
    lr = LearningRate.of(TrainingConfig(warmup_epochs=0.1), peak=1.0, steps_per_epoch=30)
    assert lr.warmup_steps == 3, "though 0.1 * 30 is a bit more"


@pytest.mark.parametrize(("epochs", "steps", "enough"), [(0.008, 60, "0.033"), (0.5, 1, "2")])
def test_a_warm_up_of_less_than_a_step_is_refused(epochs: float, steps: int, enough: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LearningRate.of(TrainingConfig(warmup_epochs=epochs), peak=1.0, steps_per_epoch=steps)
    assert str(caught.value) == (
        f"training.warmup_epochs: {epochs} is less than one step of the {steps} in an epoch, so it has no effect; give "
        f"{enough} or more, or 0 for none"
    )


def test_a_cosine_sinks_to_zero_after_the_last_step() -> None:
    found = rates(12, schedule="cosine")
    assert found == pytest.approx([4 * (1 + math.cos(math.pi * step / 12)) for step in range(12)])
    assert found[0] == 8 and found[6] == pytest.approx(4) and 0 < found[-1] < 0.2


def test_a_cosine_after_a_warm_up() -> None:
    found = rates(12, schedule="cosine", warmup_epochs=1)
    assert found[:5] == [2, 4, 6, 8, 8]
    assert found[8] == pytest.approx(4), "half way through what is left"


def test_every_step_is_taken_at_its_rate_and_the_history_tells_each_epochs_last(
    cache: Path, taken: list[tuple[float, float]]
) -> None:
    settings = ("training.schedule=cosine", "training.warmup_epochs=1", "training.lr=1e-3")
    config = job("pooling-dist", 1, *settings).config
    trained = train(config, 1, batches_of(cache, "train"), batches_of(cache, "dev"))
    lr = LearningRate(1e-3 * 1024 / 64, "cosine", 2, 3 * STEPS)
    assert [rate for rate, _ in taken] == [lr.at(step) for step in range(3 * STEPS)]
    assert [line["lr"] for line in trained.history] == [lr.at(1), lr.at(3), lr.at(5)]


def test_the_published_training_clips_nothing_and_keeps_its_rate(cache: Path, taken: list[tuple[float, float]]) -> None:
    trained = train(job("transformer-dist").config, 1, batches_of(cache, "train"), batches_of(cache, "dev"))
    assert {rate for rate, _ in taken} == {line["lr"] for line in trained.history} == {5e-5 * 1024 / 64}
    assert min(length for _, length in taken) > 0.05


def test_longer_gradients_are_shortened_and_shorter_ones_are_not(cache: Path, taken: list[tuple[float, float]]) -> None:
    batches = batches_of(cache, "train"), batches_of(cache, "dev")
    train(job("transformer-dist").config, 1, *batches)
    free = [length for _, length in taken]
    taken.clear()
    train(job("transformer-dist", 1, "training.clip_norm=0.05").config, 1, *batches)
    assert [length for _, length in taken] == pytest.approx([0.05] * len(free), rel=1e-3)
    taken.clear()
    train(job("transformer-dist", 1, "training.clip_norm=1000").config, 1, *batches)
    assert [length for _, length in taken] == pytest.approx(free, rel=1e-6)


@pytest.mark.parametrize(("decay", "decayed"), [("all", {1, 2}), ("matrices", {2})])
def test_weight_decay_shrinks_all_parameters_or_the_matrices(decay: str, decayed: set[int]) -> None:
    torch.manual_seed(0)
    head = build_head(job("transformer-dist").config, 64, 2)
    before = {name: parameter.detach().clone() for name, parameter in head.named_parameters()}
    optimizer = build_optimizer(head, 0.1, 0.5, decay)
    for parameter in head.parameters():
        parameter.grad = torch.zeros_like(parameter)  # so that nothing but the decay moves them
    optimizer.step()

    def expected(old: Tensor) -> Tensor:
        return old * (1 - 0.1 * 0.5) if old.ndim in decayed else old

    after = dict(head.named_parameters())
    assert {old.ndim for old in before.values()} == {1, 2}
    assert before["text_audio.norm.weight"].ndim == before["mi.0.layers.0.bias"].ndim == 1
    for name, old in before.items():
        torch.testing.assert_close(after[name].detach(), expected(old), rtol=1e-6, atol=0)


def test_every_parameter_is_in_a_group_once() -> None:
    head = build_head("decoupled-lstm-dist", 64, 2)
    for decay in ("all", "matrices"):
        groups = build_optimizer(head, 0.1, 0.5, decay).param_groups
        assert sorted(id(p) for group in groups for p in group["params"]) == sorted(map(id, head.parameters()))
