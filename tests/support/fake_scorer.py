"""A scorer that is made up, and music to give it: nothing is decoded or encoded."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from audiomos_cache.errors import DataError
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.results import Score

DIGEST = "ab" * 16


class FakeScorer:
    """MI is 1 and a tenth of the length of the id's, TA 2; of a file that is not there, an error."""

    digest = DIGEST
    untrained = ()
    asked: ClassVar[dict[str, Any] | None] = None  # what the last one was made with
    scored: ClassVar[tuple[str, ...]] = ()  # ids

    def __init__(self, bundle: object, **options: object) -> None:
        FakeScorer.asked = {"bundle": bundle, **options}

    def about(self) -> list[str]:
        return ["MI is made up."]

    def score_items(self, items: Sequence[Item]) -> Iterator[Score]:
        for item in items:
            assert isinstance(item.path, Path)
            FakeScorer.scored = (*FakeScorer.scored, item.id)
            if not item.path.exists():
                error = DataError(f"{item.path}: no such file, expected audio")
                yield item.failed(error)
                continue
            warnings = ("prompt empty",) if item.prompt == "" else ()
            ta = 2.0 if item.prompt else None
            mi, path = 1 + len(item.id) / 10, str(item.path)
            yield Score(item.id, path, item.prompt, mi, ta, windows=1, warnings=warnings, columns=item.columns)


def install_fake_scorer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every bundle be a `FakeScorer`, and the user be in a folder with three clips."""
    monkeypatch.chdir(folder)
    for name in ("m/a.wav", "m/bb.mp3", "m/sub/ccc.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    FakeScorer.asked, FakeScorer.scored = None, ()
    monkeypatch.setitem(sys.modules, "audiomos_cache.scoring.scorer", SimpleNamespace(Scorer=FakeScorer))
    monkeypatch.setattr("audiomos_cache.bundle.load.load_bundle", lambda *_: SimpleNamespace(digest=FakeScorer.digest))
