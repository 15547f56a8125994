"""What a program has set of PyTorch, around any call of ours, changes no bit of what the call makes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from audiomos_cache import Bundle, Scorer, extract, load_bundle, make_bundle, predict, train_head
from audiomos_cache.audio import resample
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.encoders.lookup import load_audio_encoder, load_text_encoder
from audiomos_cache.testing.music import make_dataset
from audiomos_cache.torch_settings import standard_torch


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic(*, warn_only: bool) -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


SETTINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "meta": lambda: default_device("meta"),
    "cpu": lambda: default_device("cpu"),
    "a block on meta": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "matrix products in bfloat16": lambda: matmul_precision("medium"),
    "deterministic": lambda: deterministic(warn_only=False),
    "deterministic, warn only": lambda: deterministic(warn_only=True),
}


def found() -> tuple[object, ...]:
    return (
        torch.is_autocast_enabled("cpu"), torch.get_default_dtype(), torch.get_default_device(),
        torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(), torch.get_float32_matmul_precision(),
    )  # fmt: skip


STANDARD = found()


def make_all(folder: Path, data: Path) -> None:
    """A cache, a run with its predictions, and a bundle."""
    extract(data, folder / "cache", audio_encoder="muq-tiny", text_encoder="roberta-tiny", pad_to=2)
    options = {"training.max_epochs": 2, "training.batch_size": 8}
    train_head(folder / "cache", "transformer-dist", seed=1, out=folder / "runs", set=options, command="train")
    predict(folder / "runs/transformer-dist-seed1", folder / "cache", split="eval", out=folder / "p.jsonl")
    make_bundle(folder / "runs", folder / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_dataset(folder, prompts=4, seconds=(0.5, 2.5))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_all(folder, data)
    return folder


def make_scorer(made: Path) -> Scorer:
    resample._resampler.cache_clear()  # it is made where it is first needed, and kept
    return Scorer(made / "model", device="cpu", batch_size=3)


def score(scorer: Scorer, data: Path) -> list[dict[str, object]]:
    clips = sorted((data / "wav").glob("*.wav"))[:4]
    return [each.to_dict() for each in scorer.score([*clips, (44100, np.sin(np.arange(90000.0)))], "a slow piano")]


@pytest.fixture(scope="module")
def scores(made: Path, data: Path) -> list[dict[str, object]]:
    made_scores = score(make_scorer(made), data)
    assert len({each["mi"] for each in made_scores}) == len(made_scores), "scores that can show a difference"
    return made_scores


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_standard_in_a_block_and_restored_after_it(name: str) -> None:
    with SETTINGS[name]():
        before = found()
        with pytest.raises(ZeroDivisionError), standard_torch():
            with standard_torch():
                assert found() == STANDARD
            assert found() == STANDARD
            raise ZeroDivisionError
        assert found() == before
    assert found() == STANDARD


@pytest.mark.parametrize("name", SETTINGS)
def test_around_making_a_scorer(name: str, made: Path, data: Path, scores: list[dict[str, object]]) -> None:
    with SETTINGS[name]():
        scorer = make_scorer(made)
    assert score(scorer, data) == scores


@pytest.mark.parametrize("name", SETTINGS)
def test_around_loading_encoders_and_a_bundle(name: str, made: Path) -> None:
    def load() -> tuple[AudioEncoder, TextEncoder, Bundle]:
        return load_audio_encoder("muq-tiny"), load_text_encoder("roberta-tiny"), load_bundle(made / "model")

    def values(audio: AudioEncoder, text: TextEncoder, bundle: Bundle) -> list[torch.Tensor]:
        weights = [tensor for member in bundle.members for tensor in member.head.state_dict().values()]
        return [audio.encode(torch.ones(1, 48000)), text.encode(["rain"])[0].tokens, *weights]

    with SETTINGS[name]():
        loaded = load()
    for under, without in zip(values(*loaded), values(*load()), strict=True):
        torch.testing.assert_close(under, without, rtol=0, atol=0)


@pytest.mark.parametrize("name", SETTINGS)
def test_around_scoring(name: str, made: Path, data: Path, scores: list[dict[str, object]]) -> None:
    scorer = make_scorer(made)
    with SETTINGS[name]():
        before = found()
        clips = ((clip, "a slow piano") for clip in sorted((data / "wav").glob("*.wav"))[:4])
        stream = scorer.score_iter(clips)
        assert next(stream).to_dict() == scores[0]
        assert found() == before, "between two clips, the user's code runs as the user has set it"
        assert [each.to_dict() for each in stream] == scores[1:4]
        assert score(scorer, data) == scores
        assert found() == before


@pytest.mark.parametrize("name", ["autocast", "float64", "meta", "inference mode", "deterministic"])
def test_around_the_verbs(name: str, made: Path, data: Path, tmp_path: Path) -> None:
    with SETTINGS[name]():
        make_all(tmp_path, data)
    ignored = {"history.jsonl", "metrics.json", "config.yaml"}  # with times and paths
    files = [path for path in made.rglob("*") if path.is_file() and path.name not in ignored]
    assert len(files) > 10
    for path in files:
        assert (tmp_path / path.relative_to(made)).read_bytes() == path.read_bytes(), path


def test_the_last_thread_restores_what_is_the_processs() -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with standard_torch():
            inside.set()
            leave.wait(20)
            seen.append(torch.get_default_dtype())

    seen: list[torch.dtype] = []
    thread = threading.Thread(target=other)
    with default_dtype(torch.float64), ExitStack() as first:
        first.enter_context(standard_torch())
        thread.start()
        assert inside.wait(20)
        first.close()
        assert torch.get_default_dtype() == torch.float32, "the other thread is in its block still"
        leave.set()
        thread.join(20)
        assert torch.get_default_dtype() == torch.float64
    assert seen == [torch.float32]
