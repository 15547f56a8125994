"""A scorer is pickled by its arguments, and `from audiomos_cache import Scorer` costs next to nothing."""

import multiprocessing
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from audiomos_cache.bundle.bundle import Bundle
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.errors import BundleError
from audiomos_cache.scoring.scorer import Scorer
from tests.support.scoring import make_bundle


@pytest.fixture
def bundle(audio: AudioEncoder, text: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """What is loaded from the folder `model`, in the folder that the user works in."""
    made = make_bundle(audio, text, pad_to_s=5.0)
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("audiomos_cache.bundle.load.load_bundle", lambda source: replace(made, name=str(source)))
    return made


def test_a_pickled_scorer_is_loaded_again_with_its_arguments(
    bundle: Bundle, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer("model", precision="fp32", batch_size=3, device="cpu", text_encoder="roberta-tiny")
    pickled = pickle.dumps(scorer)
    assert len(pickled) < 1000, "arguments, no weights"
    monkeypatch.chdir(tmp_path.parent)  # a worker may start in another folder
    again = pickle.loads(pickled)
    assert repr(again) == (
        f"Scorer('{tmp_path}/model': mean of 3 heads; muq-tiny in fp32 and roberta-tiny, on cpu, 3 windows at once)"
    )
    assert again.digests == scorer.digests == (bundle.digest,)
    assert again.score(clips[:2], "rain") == scorer.score(clips[:2], "rain")
    assert repr(pickle.loads(pickle.dumps(again))) == repr(again)


def test_another_bundle_than_the_pickled_one_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = pickle.dumps(Scorer("model"))
    other = replace(bundle, digest="f" * 32)
    monkeypatch.setattr("audiomos_cache.bundle.load.load_bundle", lambda _: other)
    with pytest.raises(BundleError, match=f"model: is the bundle {'f' * 32}, expected {'0' * 32} as when the scorer"):
        pickle.loads(pickled)


def _mi(scorer: Scorer, clip: Path) -> float | None:
    return scorer.score([clip], "rain")[0].mi


@pytest.mark.process
def test_a_process_that_is_spawned_takes_a_scorer(audio: AudioEncoder, text: TextEncoder, clips: list[Path]) -> None:
    loaded = make_bundle(audio, text, pad_to_s=5.0)
    scorer = Scorer(loaded, device="cpu")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(_mi, (scorer, clips[0]))
    assert found == pytest.approx(_mi(scorer, clips[0]), abs=1e-6)


@pytest.mark.process
def test_importing_the_scorer_loads_nothing_heavy() -> None:
    """It is to cost at most 0.15 s of CPU above `import torch`; what it loads decides that, and is no noise."""
    code = (
        "import sys; import torch; before = set(sys.modules); from audiomos_cache import Scorer; "
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout
    assert "audiomos_cache" in loaded
    heavy = (
        "scipy",
        "sklearn",
        "pandas",
        "transformers",
        "muq",
        "torchaudio",
        "h5py",
        "pydantic",
        "safetensors",
        "yaml",
    )
    assert [name for name in heavy if f"'{name}'" in loaded] == []


@pytest.mark.process
def test_importing_the_scorer_costs_little() -> None:
    code = (
        "import time; import torch; start = time.process_time(); from audiomos_cache import Scorer; "
        "print(time.process_time() - start)"
    )
    command = [sys.executable, "-c", code]
    taken = sorted(float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(3))
    assert taken[1] <= 0.15, taken
