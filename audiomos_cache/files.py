"""Files and folders that appear whole or not at all, and the right to write them."""

import errno
import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from audiomos_cache.errors import BusyError, OutputError, OutputExistsError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PROBE = bytes(4096)  # a block: less may fit where nothing else does


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say of what fails in the block what was to be written, and what to do.

    Raises:
        OutputError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        in_the_way = f"{error.filename} is not a folder" if isinstance(error, FileExistsError) else None
        advice = "make room there" if error.errno in _NO_ROOM else "mend that"
        raise OutputError(
            f"{path}: cannot be written: {in_the_way or error.strerror or error}; {advice}, or give another --out"
        ) from error


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path` completely or not at all: a file beside it is written, synced and renamed.

    Raises:
        OutputError: it cannot be written; `path` is as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Refuse a folder that nothing can be written in, before the work whose results go there. Leaves nothing behind.

    Args:
        folder: which may not exist yet; then the nearest one above it that does is tried.
    Raises:
        OutputError: naming the folder.
    """
    with writing(folder):
        existing = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(_PROBE)
            file.flush()


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk.

    Raises:
        OutputError: the disk refuses.
    """
    with writing(folder):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def whole_folder(out: Path, *, replace: bool) -> Iterator[Path]:
    """Give a hidden folder beside `out` to write in, which takes the place of `out` when the block is done.

    After an error or an interrupt `out` is as it was. Two processes never write in the same hidden folder.

    Args:
        out: the folder to make.
        replace: whether a folder of that name is removed for it, once the new one is whole.
    Raises:
        OutputExistsError: `out` exists when the block is done, and `replace` is False.
        OutputError: it cannot be made.
    """
    out = out.resolve()
    new, old = (out.with_name(f".{out.name}.{os.getpid()}.{age}") for age in ("new", "old"))
    with writing(out):
        new.mkdir(parents=True)
    try:
        yield new
        put_in_place(new, out, old, replace=replace)
    finally:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)


def put_in_place(new: Path, out: Path, old: Path, *, replace: bool) -> None:
    """Give a finished folder its final name, durably.

    Args:
        new: the folder, whose files are synced.
        out: its final name.
        old: what a folder that it replaces is named from then on; after an error it is back in its place, and after a
            kill `bring_back` puts it there.
        replace: whether it may replace one.
    Raises:
        OutputExistsError: `out` exists, and `replace` is False.
        OutputError: it cannot be named so.
    """
    for folder in (new, *(path for path in new.rglob("*") if path.is_dir())):
        sync_folder(folder)
    with writing(out):
        try:
            if out.exists():
                if not replace:
                    raise OutputExistsError(f"{out}: was made by another process meanwhile; give another --out")
                out.rename(old)
            new.rename(out)
            sync_folder(out.parent)
        finally:
            bring_back(old, out)


def bring_back(old: Path, out: Path) -> None:
    """Put a folder that was to be replaced back in its place, where nothing is there."""
    if old.exists() and not out.exists():
        old.rename(out)


@contextmanager
def locked_folder(folder: Path, what: str) -> Iterator[None]:
    """Hold the right to write in a folder, which is made for it and may be removed under it; see `locked`."""
    with locked(folder / "lock", what):
        yield


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file, which is made for it, with its folder, and may be removed by whoever holds it.

    Args:
        path: the lock file.
        what: what another process is doing where it holds it, for the message.
    Raises:
        BusyError: another process holds it; names the process. OutputError: it cannot be made.
    """
    while True:
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = path.open("a+", encoding="utf-8")
            except FileNotFoundError:
                continue  # whoever held it removed the folder just now
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise BusyError(f"{what} by {holder}; wait for it to finish, or stop it") from error
            if not _is_at(file.fileno(), path):
                continue
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}\n")
            file.flush()
            yield
            return


def _is_at(descriptor: int, path: Path) -> bool:
    """Tell whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
