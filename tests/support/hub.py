"""The Hugging Face hub's cache, as its own client lays it out, and no network."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub's own client, with HF_HUB_OFFLINE=1 and an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def fill_cache(folder: Path, cache: Path, name: str = "someone/model", without: Collection[str] = ()) -> Path:
    """Fetch a repository with the files of a folder: names are links to files that are named by their hash.

    Args:
        folder: what the repository holds.
        cache: the hub's.
        name: of the repository.
        without: files that were not fetched; the client knows of them, and keeps the list in `trees`.
    Returns:
        The folder of the snapshot.
    """
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot, blobs = repository / "snapshots" / COMMIT, repository / "blobs"
    blobs.mkdir(parents=True)
    files = {}
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        own = path.relative_to(folder)
        files[own.as_posix()] = {"size": path.stat().st_size, "blob_id": f"{number:040x}"}
        if own.as_posix() in without:
            continue
        blob = blobs / f"{number:040x}"
        shutil.copy(path, blob)
        link = snapshot / own
        link.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * (len(link.relative_to(repository).parts) - 1)
        link.symlink_to(f"{up}blobs/{blob.name}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "trees").mkdir()
    (repository / "trees" / f"{COMMIT}.json").write_text(json.dumps({"format_version": 1, "files": files}))
    return snapshot
