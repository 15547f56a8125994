"""Recorded steps, static shapes, compiled heads and bfloat16 change the time and the last digits, nothing else.

What a GPU does is done by the CPU here: features that are held on a GPU are held by the same class, and recording a
step, which nothing but a GPU can, is replaced by its repetition.
"""

import json
import logging
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from audiomos_cache.batch import check_masks
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cli import main
from audiomos_cache.errors import CacheError, ConfigError, DataError, OutputExistsError
from audiomos_cache.heads.config import HeadConfig, TrainingConfig
from audiomos_cache.heads.losses import objective_of
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.pooling import MeanPooling
from audiomos_cache.registry import register
from audiomos_cache.training import cuda_graph
from audiomos_cache.training import execution as execution_module
from audiomos_cache.training.batches import GPU_EVAL_SIZE, FeatureBatches, GpuClips
from audiomos_cache.training.cuda_graph import GraphSteps
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.execution import (
    COMPILING_S,
    CompiledGradients,
    Execution,
    choose_precision,
    repeatable,
    saved_seconds,
    should_compile_heads,
)
from audiomos_cache.training.frame_sources import FramesInMemory
from audiomos_cache.training.loop import train
from audiomos_cache.training.train_heads import train_heads
from audiomos_cache.training.trainer import LabelledBatches, StandardLoss, Trainer
from tests.support.training import PretendLayers, batches_of, job

CPU = torch.device("cpu")


def held(cache: Path, split: str, layers: tuple[int, ...] | None = None) -> FeatureBatches:
    reader = CacheReader(cache, split)
    chosen = layers or reader.layers
    return FeatureBatches(ClipSet.of_reader(reader), chosen, FramesInMemory([reader], chosen, held_on=CPU, device=CPU))


@pytest.mark.parametrize("layers", [(9,), (6, 12)])
def test_a_batch_of_static_shape_is_the_plain_batch_and_masked_zeros(
    cache: Path, pretend_layers: PretendLayers, monkeypatch: pytest.MonkeyPatch, layers: tuple[int, ...]
) -> None:
    pretend_layers(6, 9, 12)
    plain = held(cache, "train", layers)
    with monkeypatch.context() as patch:
        patch.setattr(FramesInMemory, "on_gpu", True)
        static = held(cache, "train", layers)
        assert isinstance(static.on_gpu, GpuClips) and static.eval_size == GPU_EVAL_SIZE
    reader = CacheReader(cache, "train")
    longest = int(reader.valid_frames.max())
    most_tokens = max(len(reader.read_prompt(i).tokens) for i in range(len(reader)))
    for indices in ([3, 0, 7], [5], list(range(40, 48))):
        want, got = plain.gather(indices), static.gather(indices)
        assert got.frames.shape[-2] == got.frame_mask.shape[1] == longest
        assert got.tokens.shape[1] == got.token_mask.shape[1] == most_tokens
        for name, axis in (("frames", -2), ("frame_mask", 1), ("tokens", 1), ("token_mask", 1)):
            own, other = getattr(got, name), getattr(want, name)
            length = other.shape[axis]
            assert torch.equal(own.narrow(axis, 0, length).to(other.dtype), other)
            assert not own.narrow(axis, length, own.shape[axis] - length).any()


def losses_of(history: list[Any]) -> list[float]:
    return [line[key] for line in history for key in ("train_loss", "dev_loss")]


def still(preset: str, *more: str) -> HeadConfig:
    """Without dropout, which draws otherwise for other shapes; 48 clips are three full batches and a short one."""
    return job(preset, 1, "dropout=0", "training.batch_size=13", "training.lr=1e-3", *more).config


@pytest.mark.parametrize("preset", ["transformer-dist", "decoupled-lstm-dist", "transformer-coral", "pooling-dist"])
def test_a_training_of_captured_steps_has_the_losses_of_one_without(
    cache: Path, on_gpu: list[int], monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    config = still(preset, "training.schedule=cosine", "training.warmup_epochs=0.5", "ranking.kind=listwise")
    captured = train(config, 1, held(cache, "train"), held(cache, "dev"))
    assert len(on_gpu) == 1, "once, for all epochs"
    monkeypatch.setattr(FramesInMemory, "on_gpu", False)
    plain = train(config, 1, held(cache, "train"), held(cache, "dev"))
    assert losses_of(captured.history) == pytest.approx(losses_of(plain.history), rel=1e-4)
    assert [line["lr"] for line in captured.history] == [line["lr"] for line in plain.history]
    assert losses_of(plain.history)[0] != losses_of(plain.history)[-2]


@pytest.mark.parametrize(
    "settings",
    [("temporal.kind=bilstm",), ("training.feature_mixup=0.4",), ("compat=upstream",)],
)
def test_what_cannot_be_captured_is_trained_without(cache: Path, on_gpu: list[int], settings: tuple[str, ...]) -> None:
    config = job("transformer-dist", 1, "training.batch_size=13", *settings).config
    reader = CacheReader(cache, "train")
    frames = FramesInMemory([reader], reader.layers, held_on=CPU, device=CPU, padding=True)
    upstream = config.compat == "upstream"
    batches = FeatureBatches(ClipSet.of_reader(reader), reader.layers, frames, upstream=upstream)
    assert (batches.on_gpu is None) == upstream, "there a score depends on the padding"
    history = train(config, 1, batches, batches_of(cache, "dev")).history
    assert not on_gpu
    assert history[-1]["train_loss"] < history[0]["train_loss"]


class CountingPooling(MeanPooling):
    """A user's part, which draws on the host: in a replay it would draw nothing."""

    def __init__(self, input_size: int) -> None:
        super().__init__(input_size)
        self.drawn: list[float] = []

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        self.drawn.append(random.random())
        return super().forward(sequence, mask)


class CapturablePooling(MeanPooling):
    """A user's part, which computes with torch alone."""

    capturable = True


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize(("part", "captured"), [(CountingPooling, False), (CapturablePooling, True)])
def test_a_users_part_is_captured_only_if_it_says_so(
    cache: Path, on_gpu: list[int], caplog: pytest.LogCaptureFixture, part: type[MeanPooling], captured: bool
) -> None:
    register("pooling", "mine")(part)
    config = still("pooling-dist", "pooling=mine")
    with caplog.at_level("INFO"):
        train(config, 1, held(cache, "train"), held(cache, "dev"))
    assert bool(on_gpu) == captured
    said = "steps are not captured as a CUDA graph: pooling mine does not say capturable = True"
    assert (said in caplog.messages) == (not captured)


@pytest.mark.usefixtures("on_gpu")
def test_steps_continue_where_they_cannot_be_captured(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = still("pooling-dist")
    expected = train(config, 1, held(cache, "train"), held(cache, "dev"))

    def refuse(_action: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nand so on")

    monkeypatch.setattr(cuda_graph, "capture_graph", refuse)
    trained = train(config, 1, held(cache, "train"), held(cache, "dev"))
    assert losses_of(trained.history) == losses_of(expected.history)
    assert caplog.messages == [
        "steps cannot be captured as a CUDA graph, so each kernel is launched by itself: RuntimeError: operation not "
        "permitted when stream is capturing"
    ]


def test_each_captured_step_takes_its_own_batch_at_its_own_rate() -> None:
    taken: list[tuple[list[int], float]] = []
    calls: list[str] = []

    def take(clips: Tensor, rate: Tensor) -> Tensor:
        taken.append((clips.tolist(), round(rate.item(), 6)))
        return clips.sum() + rate.sum()

    def capture(action: Callable[[], None]) -> Callable[[], None]:
        calls.append("captured")
        return lambda: (calls.append("replayed"), action())[1]

    steps = GraphSteps(take, 2, CPU, capture)
    for epoch in range(3):
        batches = [[epoch, 1], [2, 3], [epoch, 5], [6]]
        rates = [0.1, 0.2, 0.3, 0.4 + epoch]
        taken.clear()
        losses = steps(batches, rates)
        assert taken == [(batch, pytest.approx(rate)) for batch, rate in zip(batches, rates, strict=True)]
        assert losses.tolist() == pytest.approx([sum(b) + r for b, r in zip(batches, rates, strict=True)])
    assert calls == ["captured", *["replayed"] * 6], "after three steps that warm up; there were three short batches"
    batches, rates = [[0, 1], [2, 3], [4, 5], [7]], [0.1, 0.1, 0.1, 0.5]
    assert steps(batches, rates).tolist() == pytest.approx([1.1, 5.1, 9.1, 7.5])
    assert calls[7:] == [*["replayed"] * 3, "captured", "replayed"], "the short one, too"
    assert steps(batches[:2], rates[:2]).tolist() == pytest.approx([1.1, 5.1])


class NothingWaits(TorchDispatchMode):
    """Refuses what would have the host wait for a GPU."""

    REFUSED = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__ not in self.REFUSED, func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "settings",
    [
        ("transformer-dist", "training.clip_norm=1", "training.decay=matrices"),
        ("decoupled-lstm-dist", "ranking.kind=adaptive_margin"),
        ("transformer-coral", "ranking.kind=pairwise"),
        ("transformer-scalar", "pooling=mean_std"),
    ],
)
@pytest.mark.usefixtures("on_gpu")
def test_no_step_waits_for_the_gpu(cache: Path, settings: tuple[str, ...]) -> None:
    preset, *more = settings
    config = job(preset, 1, *more).config
    batches = held(cache, "train")
    head = build_head(config, 64, 2).train()
    trainer = Trainer(config, 1, head, LabelledBatches(batches, objective_of(config)))
    for group in trainer.optimizer.param_groups:
        group["lr"] = torch.tensor(1e-3)  # as on a GPU
    before = head.state_dict()["mi.1.linear.weight"].clone()
    clips, rate = torch.arange(8), torch.tensor([1e-3])
    with NothingWaits():
        trainer._take_on_gpu(clips, rate)
    assert not torch.equal(head.state_dict()["mi.1.linear.weight"], before)
    batch = batches.gather(range(8))
    check_masks(batch)
    with pytest.raises(AssertionError), NothingWaits():
        check_masks(batch)  # so that this is not a head's to do


def test_a_captured_training_that_diverges_names_the_first_bad_batch(cache: Path, on_gpu: list[int]) -> None:
    config = job("transformer-scalar", 1, "training.lr=1e30", "training.batch_size=13").config
    with pytest.raises(DataError, match=r"the loss is (nan|inf) on the batch of S00\d_train\d+.*a smaller training.lr"):
        train(config, 1, held(cache, "train"), held(cache, "dev"))
    assert len(on_gpu) <= 1


@contextmanager
def compiled_by(backend: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a backend compile the heads that are trained in a block; it takes a graph and its inputs."""
    torch.compiler.reset()
    with monkeypatch.context() as patch:
        patch.setattr(CompiledGradients.__init__, "__defaults__", (backend,))
        yield
    torch.compiler.reset()


def test_a_compiled_head_computes_the_same_and_is_compiled_once_for_all_seeds(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compilations, calls = [], []

    def backend(graph: Any, _inputs: Any) -> Any:
        compilations.append(1)
        return lambda *inputs: (calls.append(1), graph.forward(*inputs))[1]

    monkeypatch.setattr(FramesInMemory, "on_gpu", True)  # so that all batches have one shape
    train_set, dev_set = held(cache, "train"), held(cache, "dev")
    with compiled_by(backend, monkeypatch):
        # The last differs only in what is not compiled, the layers of each target.
        for seed, preset in enumerate(("transformer-dist", "transformer-dist", "transformer-onehot")):
            config = still(preset, "training.max_epochs=2")
            plain, compiled = (
                train(config, seed, train_set, dev_set, execution=Execution(compiled=compiled, cuda_graph=False))
                for compiled in (False, True)
            )
            assert losses_of(compiled.history) == pytest.approx(losses_of(plain.history), rel=1e-4)
            full_batches = 3 * 2
            assert len(calls) == full_batches * (seed + 1), "neither short batches nor those that are validated"
    assert len(compilations) == 1


@pytest.mark.parametrize("in_backward", [False, True])
def test_a_head_that_cannot_be_compiled_is_trained_without(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, in_backward: bool
) -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(_context: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(_context: Any, *_gradients: Tensor) -> Tensor:
            raise RuntimeError("no compiler\nis there")

    tries = []

    def compile_badly(represent: Callable[..., Any], **_options: object) -> Callable[..., Any]:
        def broken(*batch: Tensor) -> tuple[Tensor, Tensor]:
            tries.append(1)
            if not in_backward:
                raise RuntimeError("no compiler\nis there")
            mi, ta = represent(*batch)
            return Broken.apply(mi), ta  # type: ignore[no-untyped-call]

        return broken

    config = still("transformer-dist")
    expected = train(config, 1, batches_of(cache, "train"), batches_of(cache, "dev"))
    monkeypatch.setattr(torch, "compile", compile_badly)
    trained = train(config, 1, batches_of(cache, "train"), batches_of(cache, "dev"), execution=Execution(compiled=True))
    assert losses_of(trained.history) == losses_of(expected.history)
    assert caplog.messages == ["the head cannot be compiled, so it is trained without: RuntimeError: no compiler"]
    assert len(tries) == 1 and "represent" not in vars(trained.head), "it is as it was"


def test_an_error_that_is_not_the_compilers_is_raised(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(StandardLoss, "of", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(still("pooling-dist"), 1, batches_of(cache, "train"), batches_of(cache, "dev"),
              execution=Execution(compiled=True))  # fmt: skip


def test_compiling_pays_where_it_saves_more_than_it_takes() -> None:
    """An ensemble of eight, of MusicEval's size, and not a single short training."""

    def pays(trainings: list[TrainingConfig], audio_dim: int = 1024) -> bool:
        return saved_seconds(trainings, clips=1923, longest=750, audio_dim=audio_dim) > COMPILING_S

    patient = TrainingConfig(max_epochs=100, patience=15)
    assert pays([patient] * 8)
    assert not pays([TrainingConfig(max_epochs=3)])
    assert not pays([patient] * 8, audio_dim=64)
    assert not pays([])


def test_heads_with_a_transformer_are_compiled_where_that_pays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips, gpu = ClipSet.of_split(cache, "train"), torch.device("cuda")
    monkeypatch.setattr(execution_module, "COMPILING_S", 1e-6)
    transformer, pooling = job("transformer-dist").config, job("pooling-dist").config
    assert should_compile_heads("auto", [pooling, transformer], clips, gpu)
    assert not should_compile_heads("auto", [pooling], clips, gpu)
    assert not should_compile_heads("auto", [transformer], clips, CPU)
    assert should_compile_heads("on", [pooling], clips, CPU)
    assert not should_compile_heads("off", [transformer], clips, gpu)


def test_the_precision_is_chosen_by_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    assert (choose_precision(None, CPU), choose_precision("bf16", CPU)) == ("fp32", "bf16")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "an old GPU")
    for available, chosen in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: available)  # noqa: ARG005, B023
        assert choose_precision(None, gpu) == chosen
        assert choose_precision("fp32", gpu) == "fp32"
    with pytest.raises(ConfigError, match="--precision bf16: an old GPU does not have it; use fp32"):
        choose_precision("bf16", gpu)


def test_a_run_remembers_its_precision_and_does_not_go_on_in_another(cache: Path, tmp_path: Path) -> None:
    def stop(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_heads([job()], cache, tmp_path, precision="bf16", on_epoch=stop)
    with pytest.raises(OutputExistsError, match="precision is 'bf16', requested 'fp32'; repeat that"):
        train_heads([job()], cache, tmp_path)
    [result] = train_heads([job()], cache, tmp_path, precision="bf16")
    assert yaml.safe_load((result.folder / "config.yaml").read_text())["precision"] == "bf16"
    assert result.seconds and result.seconds > 0
    [again] = train_heads([job()], cache, tmp_path)
    assert (again.dev, again.seconds) == (result.dev, None), "finished, whatever the precision"
    plain = train_heads([job()], cache, tmp_path / "plain")[0].folder
    histories = [[json.loads(line) for line in (each / "history.jsonl").read_text().splitlines()]
                 for each in (result.folder, plain)]  # fmt: skip
    assert losses_of(histories[0]) == pytest.approx(losses_of(histories[1]), rel=0.02)
    assert losses_of(histories[0]) != losses_of(histories[1])


def test_clips_and_prompts_that_are_empty_are_refused_where_batches_are_made(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = batches_of(cache, "dev")
    prompt = batches.clips.first_reader.read_prompt(0)
    empty = type(prompt)(prompt.text, prompt.tokens[:0], prompt.pad_vector)
    with monkeypatch.context() as patch:
        patch.setattr(CacheReader, "read_prompt", lambda _self, _index: empty)
        with pytest.raises(CacheError, match=r"the prompt 'piano.*' has no tokens, expected at least one"):
            batches.gather([0])
    frames = batches.clips.first_reader.valid_frames.copy()
    frames[3] = 0
    batches.clips.first_reader.__dict__["valid_frames"] = frames
    message = f"clip {batches.clips.first_reader.ids[3]}: no frames, expected at least one; extract it again"
    with pytest.raises(CacheError, match=message):
        FeatureBatches(batches.clips, batches.layers, batches._frames)


def test_profile_tells_where_the_time_went(cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    command = ["--profile", "train-head", "--cache", str(cache), "--head", "pooling-dist"]
    with caplog.at_level(logging.INFO):
        result = CliRunner().invoke(main, [*command, "--out", str(tmp_path), "--set", "training.max_epochs=2"])
    assert result.exit_code == 0, result.output
    stages = [line.split()[0] for line in result.stderr.splitlines() if line.count("%")]
    assert stages == ["load", "gather", "forward", "backward", "step", "validate", "save", "write"]


def test_the_reference_is_computed_by_repeatable_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    for device, precision, enabled in (("cuda", "fp32", True), ("cuda", "bf16", False), ("cpu", "fp32", False)):
        with repeatable(torch.device(device), precision):  # type: ignore[arg-type]
            assert torch.are_deterministic_algorithms_enabled() is enabled
        assert not torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with repeatable(torch.device("cuda"), "fp32"):
            assert not torch.is_deterministic_algorithms_warn_only_enabled(), "what the caller has asked for"
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_warm_up_of_less_than_a_step_is_found_before_the_features_are_read(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CacheReader, "read_frames", None)
    with pytest.raises(ConfigError, match=r"training\.warmup_epochs: 0\.1 is less than one step"):
        train_heads([job("pooling-dist", 1, "training.warmup_epochs=0.1")], cache, tmp_path, preload="ram")
