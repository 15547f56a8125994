"""A head is called wherever it is run, so that its hooks, wrappers and `compile` work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from audiomos_cache.heads.losses import objective_of
from audiomos_cache.heads.model import Head, HeadOutput, build_head
from audiomos_cache.training.loop import run_head
from audiomos_cache.training.predict import predict
from audiomos_cache.training.train_heads import train_heads
from audiomos_cache.training.trainer import LabelledBatches, Trainer
from tests.support.training import batches_of, job


@contextmanager
def calls_of_heads() -> Iterator[list[bool]]:
    """Note of each call of a head in a block, whichever it is, whether the head was being trained."""
    calls: list[bool] = []

    def note(module: nn.Module, _inputs: object, _output: object) -> None:
        if isinstance(module, Head):
            calls.append(module.training)

    hook = register_module_forward_hook(note)
    yield calls
    hook.remove()


@pytest.mark.parametrize("settings", [(), ("training.feature_mixup=0.4",)])
def test_forward_hooks_fire_in_each_step_and_each_prediction(
    cache: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    one = job("pooling-dist", 1, "training.batch_size=16", "training.max_epochs=2", *settings)
    with calls_of_heads() as calls:
        [result] = train_heads([one], cache, tmp_path)
    assert calls.count(True) == 2 * 48 / 16
    assert calls.count(False) >= 2 * 1 + 4, "one batch of dev after each epoch, then four of three splits"
    with calls_of_heads() as calls:
        predict(result.folder, cache, "eval", "loss", tmp_path / "eval.jsonl", device="cpu")
    assert calls == [False]


class Doubled(nn.Module):
    """Wraps a head: its scores are twice the head's."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, *batch: Tensor) -> HeadOutput:
        """Double what the head says."""
        output = self.head(*batch)
        mi, ta = (type(each)(2 * each.score, each.dist) for each in (output.mi_output, output.ta_output))
        return HeadOutput(mi, ta)


def trained_one_epoch(cache: Path, wrap: Callable[[Head], nn.Module]) -> tuple[float, nn.Module]:
    config = job("pooling-dist", 1, "dropout=0").config
    torch.manual_seed(0)
    head = wrap(build_head(config, 64, 2))
    batches = LabelledBatches(batches_of(cache, "train"), objective_of(config))
    return Trainer(config, 1, head, batches).train_epoch(1)[1], head


def test_a_module_that_wraps_a_head_is_trained_and_run(cache: Path) -> None:
    loss, head = trained_one_epoch(cache, lambda head: head)
    wrapped_loss, wrapped = trained_one_epoch(cache, Doubled)
    assert wrapped_loss == loss, "the distributions are trained, which are the same"
    for own, doubled in zip(*(run_head(each, batches_of(cache, "dev")) for each in (head, wrapped)), strict=True):
        assert torch.equal(doubled.mi, 2 * own.mi) and torch.equal(doubled.ta, 2 * own.ta)


@pytest.mark.slow
def test_a_head_that_was_compiled_is_run_by_compiled_code(cache: Path) -> None:
    graphs: list[Any] = []
    runs: list[int] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        graphs.append(graph)
        return lambda *inputs: (runs.append(1), graph.forward(*inputs))[1]

    def compiled(how: Any) -> Callable[[Head], Head]:
        def compile_it(head: Head) -> Head:
            head.compile(backend=how)
            return head

        return compile_it

    torch.compiler.reset()
    loss, head = trained_one_epoch(cache, lambda head: head)
    by_eager, _ = trained_one_epoch(cache, compiled("eager"))
    by_backend, run = trained_one_epoch(cache, compiled(backend))
    assert by_eager == pytest.approx(loss, rel=1e-6) and by_backend == pytest.approx(loss, rel=1e-6)
    assert graphs and len(runs) >= 2
    before = len(runs)
    for own, other in zip(*(run_head(each, batches_of(cache, "dev")) for each in (head, run)), strict=True):
        torch.testing.assert_close(own.mi, other.mi)
    assert len(runs) > before
    torch.compiler.reset()
