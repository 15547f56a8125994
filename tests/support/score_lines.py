"""Scores of six clips as lines of a file, and the file resumed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.results import Row, Score, to_line
from audiomos_cache.scoring.resumable import score_file

BUNDLE, OTHER = "ab" * 16, "cd" * 16
ITEMS = [Item(name, Path(f"m/{name}.wav"), f"prompt of {name}, é") for name in "abcdef"]


def score(item: Item, **values: Any) -> Score:
    return Score(item.id, str(item.path), item.prompt, **({"mi": 3.25, "ta": 2.5, "windows": 1} | values))


def line(item: Item, digest: str = BUNDLE, **values: Any) -> bytes:
    return to_line(score(item, **values), digest)


def read(path: Path) -> list[Any]:
    """What any reader of JSON Lines finds."""
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def resume(path: Path, items: Sequence[Item] = ITEMS, digest: str = BUNDLE) -> dict[str, Row]:
    """The lines that are done, by id."""
    rows: dict[str, Row] = {}
    with score_file(path, overwrite=False) as file:
        done = file.resume(items, digest, lambda row: rows.update({row["id"]: row}))
    assert done == rows.keys()
    return rows
