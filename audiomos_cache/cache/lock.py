"""Who may write a split: one process all of it, or several a shard each."""

import contextlib
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TextIO

from audiomos_cache.errors import CacheError, LockedError

log = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several equal shares of a split's clips.

    Attributes:
        index: from 1.
        count: of all shards.
    """

    index: int
    count: int

    @property
    def label(self) -> str:
        """The shard in a file name."""
        return f"{self.index}-of-{self.count}"


@contextlib.contextmanager
def locked(cache: Path, split: str, shard: Shard | None = None) -> Iterator[bool]:
    """Hold the right to write a split, or a shard of it while others write theirs.

    Yields:
        Whether the right is sure: some network filesystems have no locks.
    Raises:
        LockedError: another process holds it; names the process.
    """
    if cache.exists() and not cache.is_dir():
        raise CacheError(f"{cache}: is a file, expected a folder for the cache; give another one")
    cache.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        whole = stack.enter_context((cache / f"{split}.lock").open("a+", encoding="utf-8"))
        try:
            mine = whole
            fcntl.flock(whole, (fcntl.LOCK_SH if shard else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if shard:
                mine = stack.enter_context((cache / f"{split}.{shard.label}.lock").open("a+", encoding="utf-8"))
                fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(
                f"{cache}: split {split!r} is being written by {_holder(cache, split, whole, mine)}; "
                "wait for it to finish, or stop it"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            log.warning(
                "%s: this filesystem has no locks; see to it that no other process writes split %r", cache, split
            )
            yield False
            return
        _write_holder(mine, f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}")
        try:
            yield True
        finally:
            _write_holder(mine, "")


def remove_shard_locks(cache: Path, split: str) -> None:
    """Remove the lock files of a split's shards. Call with the lock of the whole split held: nobody has them then."""
    for path in cache.glob(f"{split}.*-of-*.lock"):
        path.unlink()


def _write_holder(file: TextIO, holder: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(holder)
    file.flush()


def _holder(cache: Path, split: str, whole: TextIO, wanted: TextIO) -> str:
    """Name the process that holds the wanted lock, or one that does, where it is held by shards."""
    if wanted is whole:
        for path in sorted(cache.glob(f"{split}.*-of-*.lock")):
            with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8") as file:  # the last shard ends
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return _read_holder(file)
    return _read_holder(wanted)


def _read_holder(file: TextIO) -> str:
    file.seek(0)
    return file.read().strip() or "another process"
