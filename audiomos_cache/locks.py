"""The right of one process to write something: a lock file that names the process."""

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from io import FileIO
from pathlib import Path

from audiomos_cache.artifacts import writing
from audiomos_cache.errors import BusyError, OutputError

log = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_ADVICE = "write elsewhere"
_TRIES = 1000  # more often than anybody removes what is being locked


@contextmanager
def locked(path: Path, what: str, *, shared: bool = False, others: Iterable[Path] = ()) -> Iterator[bool]:
    """Hold a lock file. It is made for this, with its folder, and whoever holds it may remove it.

    Args:
        path: the lock file. Whoever holds it alone writes into it which process that is.
        what: what a process is doing while it holds it, for messages, such as "runs/x: is being trained".
        shared: hold it together with others that share it, each of which has a lock file of its own too.
        others: the lock files of those that share it, to name one of them in a message.
    Yields:
        Whether it is held: some network filesystems have no locks, and then a warning is logged.
    Raises:
        BusyError: another process holds it; names the process. OutputError: it cannot be made.
    """
    file, held = _open_and_take(path, shared=shared)
    with file:
        if held is None:
            holder = _holder_of(others) or _read_holder(file)
            raise BusyError(f"{what} by {holder}; wait for it to finish, or stop it")
        if not held:
            log.warning(
                "%s without a lock, as this filesystem has none; make sure that no other process does the same", what
            )
        if shared or not held:
            yield held
            return
        try:
            with writing(path, _ADVICE):
                _write_holder(file, f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%F %T}\n")
        except OutputError:
            path.unlink(missing_ok=True)
            raise
        try:
            yield True
        finally:
            with suppress(OSError):
                _write_holder(file, "")


def _open_and_take(path: Path, *, shared: bool) -> tuple[FileIO, bool | None]:
    """Open a lock file and take the lock, see `_take`; again where its last holder removed the file or its folder."""
    for tries_left in reversed(range(_TRIES)):
        with writing(path.parent, _ADVICE):
            path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path, _ADVICE):
            try:
                file = path.open("ab+", buffering=0)  # nothing is left to write when it is closed
            except FileNotFoundError:
                if tries_left:
                    continue
                raise  # it cannot be made: a link that leads nowhere, a folder of the system
        try:
            with writing(path, _ADVICE):
                held = _take(file, shared=shared)
            if held is None or _is_at(file.fileno(), path):
                return file, held
        except BaseException:
            file.close()
            raise
        file.close()
    raise OutputError(f"{path}: is removed whenever it is made; {_ADVICE}")


def _take(file: FileIO, *, shared: bool) -> bool | None:
    """Take a lock without waiting. False: the filesystem has no locks. None: another process holds it."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write_holder(file: FileIO, holder: str) -> None:
    file.truncate(0)
    file.write(holder.encode())


def _read_holder(file: FileIO) -> str:
    file.seek(0)
    return file.read().decode(errors="replace").strip() or "another process"


def _holder_of(paths: Iterable[Path]) -> str | None:
    """Name the first process that holds one of these lock files."""
    for path in paths:
        with suppress(FileNotFoundError), path.open("rb", buffering=0) as file:  # it may have been removed
            if _take(file, shared=True) is None:
                return _read_holder(file)
    return None
