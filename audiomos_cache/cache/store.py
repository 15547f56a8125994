"""Where the files of a cache lie, who may write them, and how one is published.

CACHE/train.h5           a finished split (or train-00000.h5 and on), never opened for writing again
CACHE/train.parts/*.h5   what an unfinished extraction has done so far
CACHE/*.part             being written; never read, removed at the next start
CACHE/train.lock         held while a process writes the split
"""

import contextlib
import fcntl
import os
import re
import shutil
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from audiomos_cache.cache.format import fsync
from audiomos_cache.errors import CacheError

_SPLIT_FILE = re.compile(r"(?P<split>.+?)(-\d{5})?\.h5")
TEMPORARY = ".part"


def split_files(cache: Path, split: str) -> list[Path]:
    """Return the finished files of a split, in order."""
    single = cache / f"{split}.h5"
    if single.is_file():
        return [single]
    return sorted(cache.glob(f"{split}-[0-9][0-9][0-9][0-9][0-9].h5"))


def split_names(cache: Path) -> list[str]:
    """Return the splits that a cache folder has finished, sorted."""
    matches = (_SPLIT_FILE.fullmatch(path.name) for path in cache.glob("*.h5"))
    return sorted({match["split"] for match in matches if match})


def parts_folder(cache: Path, split: str) -> Path:
    """Return the folder of a split's parts."""
    return cache / f"{split}.parts"


def part_files(cache: Path, split: str) -> list[Path]:
    """Return the parts of an unfinished split."""
    return sorted(parts_folder(cache, split).glob("*.h5"))


def publish(temporary: Path, final: Path) -> None:
    """Give a finished, synced file its final name, durably and without ever replacing another file.

    Raises:
        CacheError: the final name is taken.
    """
    try:
        os.link(temporary, final)
    except FileExistsError as error:
        raise CacheError(f"{final}: exists already and is never replaced; is another extraction running?") from error
    fsync(final.parent)
    temporary.unlink()


def replace(temporary: Path, final: Path) -> None:
    """Put a finished, synced file in the place of one whose clips it all holds, durably."""
    temporary.replace(final)
    fsync(final.parent)


def clear_temporaries(cache: Path, split: str) -> None:
    """Remove what a killed extraction left half-written. Call with the lock held."""
    for folder, pattern in ((cache, f"{split}*{TEMPORARY}"), (parts_folder(cache, split), f"*{TEMPORARY}")):
        for path in folder.glob(pattern):
            path.unlink()


def remove_parts(cache: Path, split: str) -> None:
    """Remove the parts of a split, after all their clips are in its finished files."""
    shutil.rmtree(parts_folder(cache, split), ignore_errors=True)
    fsync(cache)


def remove_split(cache: Path, split: str) -> None:
    """Remove a split, finished or not. Only where the user said `--overwrite`."""
    for path in split_files(cache, split):
        path.unlink()
    remove_parts(cache, split)


@contextlib.contextmanager
def locked(cache: Path, split: str) -> Iterator[None]:
    """Hold the right to write a split.

    Raises:
        CacheError: another process holds it; names the process.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{split}.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise CacheError(
                f"{cache}: split {split!r} is being written by {file.read().strip() or 'another process'}; "
                "wait for it to finish, or stop it"
            ) from error
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}\n")
        file.flush()
        yield
