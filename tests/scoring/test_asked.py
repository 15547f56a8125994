"""What a scorer is asked to score with: refused in our words, and before anything is loaded."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.errors import ArgumentError
from audiomos_cache.scoring.asked import listed_bundles, warn_of_unused_text
from audiomos_cache.scoring.scorer import Scorer
from tests.support.scoring import make_bundle

EXPECTED = "expected a folder, a hub id, the name of a published bundle, a loaded bundle, or several of these in a list"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, "is None"),
        (5, "is 5"),
        (True, "is True"),
        ("", "is ''"),
        (b"model", "is b'model'"),
        ({"a": 1}, "is {'a': 1}"),
        (iter(["model"]), "is a list_iterator"),
        (np.zeros(3), "is a ndarray"),
        ([None], "holds None"),
        ([[]], "holds []"),
        (["model", ""], "holds ''"),
        (["model", 5], "holds 5"),
        (object, "is a type"),
    ],
)
def test_what_is_no_bundle_is_refused(given: Any, found: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Scorer(given)
    assert str(caught.value) == f"bundle {found}, {EXPECTED}"


def test_one_is_a_list_of_one_and_none_is_refused(audio: AudioEncoder, text: TextEncoder) -> None:
    bundle = make_bundle(audio, text)
    assert listed_bundles("model") == listed_bundles(("model",)) == ["model"]
    assert listed_bundles([bundle, Path("model")]) == [bundle, Path("model")]
    with pytest.raises(ArgumentError, match=r"^bundle is an empty list, expected a bundle or several$"):
        Scorer([])


def test_a_bundle_twice_is_refused_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    with pytest.raises(ArgumentError, match=r"^bundle 'owner/a': given twice; give each bundle once$"):
        Scorer(["owner/a", "owner/a"])
    with pytest.raises(ArgumentError, match=r"^bundle './model': given twice, as 'model'; give each bundle once$"):
        Scorer(["model", "./model"])
    with pytest.raises(ArgumentError, match="given twice, as 'muq-eval-a1'"):
        Scorer(["muq-eval-a1", "zhudi2825/MuQ-Eval-A1"])
    assert len(listed_bundles(["owner/a", "owner/a@v1", "model"])) == 3


@pytest.mark.parametrize("given", [0, -1, 65537, 10**20, "4", 1.5, True, [4]])
def test_what_is_no_batch_size_is_refused(given: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^batch_size is .*, expected a whole number from 1 to 65536$"):
        Scorer("nowhere", batch_size=given)


@pytest.mark.parametrize("name", ["audio_encoder", "text_encoder"])
@pytest.mark.parametrize(("given", "found"), [(5, "5"), ("", "''"), (b"x", "b'x'"), ([], "[]"), (object(), "a object")])
def test_what_is_no_encoder_is_refused(name: str, given: Any, found: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Scorer("nowhere", **{name: given})
    assert str(caught.value) == f"{name} is {found}, expected a folder, a hub id, or a loaded encoder"


def test_a_text_encoder_that_no_bundle_takes_is_told(
    audio: AudioEncoder, text: TextEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    class Deaf:
        name, text_encoder = "muq\neval", None

    hears: Any = make_bundle(audio, text)
    deaf: Any = Deaf()
    with caplog.at_level(logging.WARNING):
        warn_of_unused_text("roberta", [hears, deaf])
        warn_of_unused_text(None, [deaf])
        assert caplog.messages == []
        warn_of_unused_text("roberta", [deaf])
        warn_of_unused_text("roberta", [deaf, deaf])
    assert caplog.messages == [
        r"the text encoder is not used: 'muq\neval' hears no prompts",
        r"the text encoder is not used: 'muq\neval', 'muq\neval' hear no prompts",
    ]


@pytest.mark.process
def test_names_are_checked_without_torch() -> None:
    script = """
import sys
from audiomos_cache import Scorer
from audiomos_cache.errors import ArgumentError
from audiomos_cache.scoring.asked import listed_bundles
for given in (None, ["a", "a"], b"x", "./a"):
    try:
        listed_bundles(given)
    except ArgumentError:
        pass
print("torch" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
