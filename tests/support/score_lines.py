"""Scores of six clips as lines of a file, and the file resumed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.lines import BundleEntry, Entries, Row, to_line
from audiomos_cache.scoring.results import Score
from audiomos_cache.scoring.resumable import score_file

BUNDLE, OTHER = "ab" * 16, "cd" * 16
ITEMS = [Item(name, Path(f"m/{name}.wav"), f"prompt of {name}, é") for name in "abcdef"]


def score(item: Item, **values: Any) -> Score:
    given: dict[str, Any] = {"mi": 3.25, "ta": 2.5, "windows": 1} | values
    named: dict[str, Any] = {name: given[name] for name in ("mi", "ta")} | {"mi_spread": None, "ta_spread": None}
    values = {"scores": named} | given
    return Score(item.id, str(item.path), item.prompt, **values)


def entries(digest: str = BUNDLE, windows: str = "mean of 30 s", name: str = "model") -> dict[str, BundleEntry]:
    return {name: BundleEntry(name=name, digest=digest, windows=windows, licence="mit")}


SEVERAL: Entries = entries() | entries(OTHER, "centre 10 s", "muq-eval-a1")


def names(made_by: Entries) -> dict[str, list[str]]:
    """Those of `score`; of `muq-eval-a1` those of `score_of_several`."""
    own = ["mi", "ta", "mi_spread", "ta_spread"]
    return {name: ["mi", "ta_without_prompt"] if name == "muq-eval-a1" else own for name in made_by}


def line(item: Item, digest: str = BUNDLE, **values: Any) -> bytes:
    return to_line(score(item, **values), entries(digest))


def score_of_several(item: Item, other: Score | None = None, **values: Any) -> Score:
    """What two bundles say of a clip: `model` MI and TA, the other a score above the scale, or `other`.

    Values are of the clip.
    """
    beyond = score(item, mi=5.25, ta=None, scores={"mi": 5.25, "ta_without_prompt": -0.5}, heard=(91.0, 101.0))
    both = {"model": score(item, heard=(0.0, 192.5), windows=7), "muq-eval-a1": other or beyond}
    return Score(item.id, str(item.path), item.prompt, bundles=both, **({"duration_s": 192.5} | values))


def line_of_several(item: Item, other: Score | None = None, made_by: Entries = SEVERAL, **values: Any) -> bytes:
    return to_line(score_of_several(item, other, **values), made_by)


def read(path: Path) -> list[Any]:
    """What any reader of JSON Lines finds."""
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def resume(path: Path, items: Sequence[Item] = ITEMS, made_by: Entries | None = None) -> dict[str, Row]:
    """The lines that are done, by id."""
    rows: dict[str, Row] = {}
    with score_file(path, overwrite=False) as file:
        done = file.resume(
            items, made_by or entries(), names(made_by or entries()), lambda row: rows.update({row["id"]: row})
        )
    assert done == rows.keys()
    return rows
