"""What a program has set of PyTorch, around any call of ours, changes no bit of what the call makes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audiomos_cache import Bundle, Scorer, extract, load_bundle, make_bundle, predict, train_head
from audiomos_cache.audio import resample
from audiomos_cache.audio.decode import Audio
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.encoders.lookup import load_audio_encoder, load_text_encoder
from audiomos_cache.testing.music import make_dataset
from audiomos_cache.torch_settings import full_precision, standard_torch


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
        torch.backends.mkldnn.matmul.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "none"


@contextmanager
def precision(owner: Any, precision: str) -> Iterator[None]:
    """By PyTorch's newer interface; the last is what it says where nothing is set."""
    before = owner.fp32_precision
    owner.fp32_precision = precision
    try:
        yield
    finally:
        owner.fp32_precision = before


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
    "all in TF32": lambda: precision(torch.backends, "tf32"),
    "all in float32": lambda: precision(torch.backends, "ieee"),
    "oneDNN in bfloat16": lambda: torch.backends.mkldnn.flags(enabled=True, allow_tf32=None, fp32_precision="bf16"),
    "oneDNN's products in bfloat16": lambda: precision(torch.backends.mkldnn.matmul, "bf16"),
    "oneDNN's convolutions in bfloat16": lambda: precision(torch.backends.mkldnn.conv, "bf16"),
    "cuBLAS in TF32": lambda: precision(torch.backends.cuda.matmul, "tf32"),
    "cuDNN in float32": lambda: precision(torch.backends.cudnn.conv, "ieee"),
    "deterministic": lambda: deterministic(warn_only=False),
    "deterministic, warn only": lambda: deterministic(warn_only=True),
}


def found() -> tuple[object, ...]:
    return (
        *of_the_process(), torch.is_autocast_enabled("cpu"), torch.get_default_device(),
        torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )  # fmt: skip


def of_the_process() -> tuple[object, ...]:
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError as error:
        older = str(error)
    backends = torch.backends
    owners: list[Any] = [
        backends, backends.cudnn, backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn,
        backends.mkldnn, backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn,
    ]  # fmt: skip
    return torch.get_default_dtype(), older, *(owner.fp32_precision for owner in owners)


def computes() -> tuple[object, ...]:
    """What a product, a sum and a new tensor are, with what is set."""
    made = torch.ones(2, 2) @ torch.ones(2, 2)
    full = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv]
    is_full = [owner.fp32_precision in ("none", "ieee") for owner in full]
    return (
        made.dtype,
        made.device,
        made.is_inference(),
        torch.is_grad_enabled(),
        torch.get_float32_matmul_precision(),
        is_full,
    )


STANDARD = found()
COMPUTES = computes()


def make_all(folder: Path, data: Path) -> None:
    """A cache, a run with its predictions, and a bundle."""
    extract(data, folder / "cache", audio_encoder="muq-tiny", text_encoder="roberta-tiny", pad_to=2)
    options = {"training.max_epochs": 2, "training.batch_size": 8}
    train_head(folder / "cache", "transformer-dist", seed=1, out=folder / "runs", set=options, command="train")
    predict(folder / "runs/transformer-dist-seed1", folder / "cache", split="eval", out=folder / "p.jsonl")
    make_bundle(folder / "runs", folder / "model", check=False)


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
                assert computes() == COMPUTES
            assert computes() == COMPUTES
            raise ZeroDivisionError
        assert found() == before
    assert found() == STANDARD


@pytest.mark.parametrize("name", ["deterministic", "deterministic, warn only"])
def test_whether_algorithms_are_deterministic_is_the_callers_to_say(name: str) -> None:
    with SETTINGS[name](), standard_torch():
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() == (name != "deterministic")


def test_what_one_falls_back_on_is_as_before() -> None:
    with precision(torch.backends, "tf32"):
        with full_precision():
            assert torch.backends.mkldnn.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == "ieee"
        torch.backends.fp32_precision = "none"
        assert torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee"), "not TF32 of its own"
    assert found() == STANDARD


def test_both_interfaces_of_precision_are_as_before() -> None:
    with matmul_precision("medium"), precision(torch.backends.mkldnn.matmul, "ieee"):
        before = found()
        with standard_torch():
            assert computes() == COMPUTES
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


@pytest.mark.parametrize("name", ["autocast", "float64", "meta", "inference mode", "all in TF32", "deterministic"])
def test_around_the_verbs(name: str, made: Path, data: Path, tmp_path: Path) -> None:
    with SETTINGS[name]():
        make_all(tmp_path, data)
    ignored = {"history.jsonl", "metrics.json", "config.yaml"}  # with times and paths
    files = [path for path in made.rglob("*") if path.is_file() and path.name not in ignored]
    assert len(files) > 10
    for path in files:
        assert (tmp_path / path.relative_to(made)).read_bytes() == path.read_bytes(), path


def test_what_the_caller_sets_while_others_compute_stays() -> None:
    for setting in ("float64", "matrix products in bfloat16", "all in TF32", "cuDNN in float32"):
        with SETTINGS[setting](), ExitStack() as ours, ExitStack() as later:
            ours.enter_context(full_precision())
            ours.enter_context(standard_torch())
            later.enter_context(default_dtype(torch.float16))
            later.enter_context(matmul_precision("high"))
            set_by_caller = of_the_process()[:2]
            ours.close()
            assert of_the_process()[:2] == set_by_caller == (torch.float16, "high")
    assert found() == STANDARD


def test_a_clip_is_decoded_while_the_callers_code_runs_as_the_caller_has_set_it(
    made: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer(made / "model", device="cpu", batch_size=1)
    clips = sorted((data / "wav").glob("*.wav"))[:2]
    expected = scorer.score(clips, "a slow piano")
    decoding, go_on = threading.Event(), threading.Event()
    seen: list[tuple[object, ...]] = []
    on_device = scorer._listeners[0]._on_device
    prepare = on_device.prepare

    def prepare_slowly(clip: Audio) -> Audio:
        assert threading.current_thread() is not threading.main_thread()
        if next(started):
            decoding.set()
            assert go_on.wait(20)
        made_ready = prepare(clip)
        seen.append(of_the_process())
        return made_ready

    started = iter([False, True])
    monkeypatch.setattr(on_device, "prepare", prepare_slowly)
    monkeypatch.setattr(scorer, "_threads", 1)
    with default_dtype(torch.float16), matmul_precision("medium"):
        before = of_the_process()
        stream = scorer.score_iter((clip, "a slow piano") for clip in clips)
        assert next(stream) == expected[0]
        assert decoding.wait(20)
        assert of_the_process() == before
        with default_dtype(torch.float64):
            own = of_the_process()
            go_on.set()
            assert next(stream) == expected[1]
            assert of_the_process() == own != before
    assert seen == [before, own]


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
