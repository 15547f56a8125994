"""The Hugging Face hub's cache, as its own client lays it out, and no network."""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

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


@contextmanager
def served(name: str, folder: Path, stalled: str = "") -> Iterator[tuple[str, list[str]]]:
    """Serve one repository as the hub does, as far as its own client asks: where it is, and what was asked for.

    Args:
        name: of the repository.
        folder: what it holds.
        stalled: a file of which half is sent, and the rest when all is over.
    """
    over = Event()
    asked: list[str] = []
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    ids = {file: hashlib.sha1(content, usedforsecurity=False).hexdigest() for file, content in files.items()}

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def do_GET(self) -> None:
            self._answer(with_content=True)

        def _answer(self, *, with_content: bool) -> None:
            asked.append(f"{self.command} {self.path}")
            path = self.path.partition("?")[0]
            headers: dict[str, str] = {}
            status, content = 404, b"{}"
            if path.startswith(f"/api/models/{name}/tree/"):
                listed = [{"type": "file", "path": f, "size": len(c), "oid": ids[f]} for f, c in files.items()]
                status, content = 200, json.dumps(listed).encode()
            elif path.startswith(f"/api/models/{name}"):
                siblings = [{"rfilename": file} for file in files]
                status, content = 200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()
            elif (file := path.removeprefix(f"/{name}/resolve/{COMMIT}/")) in files:
                status, content = 200, files[file]
                headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{ids[file]}"'}
            self.send_response(status)
            headers |= {"Content-Length": str(len(content)), "Content-Type": "application/json"}
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if with_content and stalled and path.endswith(f"/{stalled}"):
                self.wfile.write(content[: len(content) // 2])
                over.wait(60)
            elif with_content:
                self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            over.set()
            server.shutdown()
