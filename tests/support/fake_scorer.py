"""A scorer that is made up, and music to give it: nothing is decoded or encoded."""

import sys
from collections.abc import Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from audiomos_cache.bundle.bundle import Bundle
from audiomos_cache.errors import DataError
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.lines import BundleEntry
from audiomos_cache.scoring.results import Score
from audiomos_cache.targets import TRAINED_TARGETS

DIGEST = "ab" * 16


def scores_of(mi: float, ta: float | None) -> dict[str, float | None]:
    """All that the scorer says of a clip, by name."""
    return {"mi": mi, "mi_spread": None, "ta": ta, "ta_spread": None}


class FakeScorer:
    """MI is 1 and a tenth of the length of the id's, TA 2; of a file that is not there, an error.

    Of several bundles, each says the same but the one called `deaf`, which cannot score the clip `a`.
    """

    made_by = DIGEST  # a scorer has digests; what has one is a bundle
    targets = TRAINED_TARGETS
    is_calibrated = True
    untrained = ()
    asked: ClassVar[dict[str, Any] | None] = None  # what the last one was made with
    scored: ClassVar[tuple[str, ...]] = ()  # ids
    loaded: ClassVar[tuple[str, ...]] = ()  # bundles that were loaded before it was made

    def __init__(self, bundle: Sequence[Any], **options: object) -> None:
        assert isinstance(bundle, list)
        asked = [fspath(each) if isinstance(each, str | PathLike) else each.label for each in bundle]
        FakeScorer.asked = {"bundle": asked, **options}
        names = [Path(each).name for each in asked]
        self.entries = {
            name: BundleEntry(name=name, digest=self.made_by, windows="mean of 30 s", licence="mit") for name in names
        }
        self.names = {name: [*scores_of(0.0, 0.0)] for name in names}

    def about(self) -> list[str]:
        return ["MI is made up."]

    def score_items(self, items: Sequence[Item]) -> Iterator[Score]:
        for item in items:
            FakeScorer.scored = (*FakeScorer.scored, item.id)
            if len(self.entries) == 1:
                yield self._score(item)
            else:
                yield self._score_by_several(item)

    def _score(self, item: Item) -> Score:
        assert isinstance(item.path, Path)
        if not item.path.exists():
            return item.failed(DataError(f"{item.path}: no such file, expected audio"))
        warnings = ("prompt empty",) if item.prompt == "" else ()
        mi, ta = 1 + len(item.id) / 10, 2.0 if item.prompt else None
        return Score(
            item.id,
            str(item.path),
            item.prompt,
            mi,
            ta,
            scores=scores_of(mi, ta),
            windows=1,
            heard=(0.0, 20.0),
            warnings=warnings,
            columns=item.columns,
        )

    def _score_by_several(self, item: Item) -> Score:
        made = self._score(item)
        of_deaf = item.failed(DataError("it hears nothing")) if item.id == "a" else made
        both = {name: of_deaf if name == "deaf" else made for name in self.entries}
        failed = made.error or ("deaf: it hears nothing" if of_deaf.error and "deaf" in both else None)
        return Score(item.id, made.path, item.prompt, error=failed, columns=item.columns, bundles=both)


def install_fake_scorer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every bundle be a `FakeScorer`, and the user be in a folder with three clips."""
    monkeypatch.chdir(folder)
    for name in ("m/a.wav", "m/bb.mp3", "m/sub/ccc.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    FakeScorer.asked, FakeScorer.scored, FakeScorer.loaded = None, (), ()
    monkeypatch.setitem(sys.modules, "audiomos_cache.scoring.scorer", SimpleNamespace(Scorer=FakeScorer))
    monkeypatch.setattr("audiomos_cache.bundle.load.load_bundle", load_fake_bundle)


class FakeBundle(Bundle):
    """A bundle in memory, as far as files of scores look at it."""

    def __init__(self, name: str) -> None:
        known = {"name": name, "digest": FakeScorer.made_by, "licence": "mit", "targets": TRAINED_TARGETS}
        for field, value in known.items():
            object.__setattr__(self, field, value)

    @property
    def label(self) -> str:
        return Path(self.name).name

    @property
    def input(self) -> Any:
        return SimpleNamespace(window="first", max_seconds=30.0, padding="masked")


def load_fake_bundle(name: str) -> FakeBundle:
    FakeScorer.loaded = (*FakeScorer.loaded, str(name))
    return FakeBundle(str(name))
