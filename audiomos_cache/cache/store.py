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
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import xxhash

from audiomos_cache.cache.format import fsync
from audiomos_cache.errors import CacheError

_SPLIT_FILE = re.compile(r"(?P<split>.+?)(-\d{5})?\.h5")
_NUMBER = "-[0-9][0-9][0-9][0-9][0-9]"
TEMPORARY = ".part"
DAMAGED = ".damaged"


def split_files(cache: Path, split: str) -> list[Path]:
    """Return the finished files of a split, in order: one, or where there is none, the numbered ones."""
    single = cache / f"{split}.h5"
    return [single] if single.is_file() else sorted(cache.glob(f"{split}{_NUMBER}.h5"))


def every_file(cache: Path, split: str) -> list[Path]:
    """Return the finished files of a split, and those that a kill left beside them while they were replaced."""
    return [*cache.glob(f"{split}.h5"), *cache.glob(f"{split}{_NUMBER}.h5")]


def split_names(cache: Path) -> list[str]:
    """Return the splits that a cache folder has finished, sorted."""
    matches = (_SPLIT_FILE.fullmatch(path.name) for path in cache.glob("*.h5"))
    return sorted({match["split"] for match in matches if match})


def parts_folder(cache: Path, split: str) -> Path:
    """Return the folder of a split's parts."""
    return cache / f"{split}.parts"


def make_parts_folder(cache: Path, split: str) -> None:
    """Make the folder of a split's parts, durably."""
    folder = parts_folder(cache, split)
    if not folder.is_dir():
        folder.mkdir()
        fsync(cache)


def part_path(cache: Path, split: str, ids: Iterable[str]) -> Path:
    """Return where the part that holds just these clips lies: the same clips, the same name.

    Where the file exists, an interrupt came after it was published, and it need not be written again.
    """
    return parts_folder(cache, split) / f"{xxhash.xxh3_64_hexdigest(chr(10).join(ids).encode())}.h5"


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
    except OSError as error:
        if final.exists():
            raise CacheError(
                f"{final}: exists already and is never replaced; is another extraction running?"
            ) from error
        temporary.rename(final)  # no hard links on this filesystem; the lock keeps others away
    fsync(final.parent)
    temporary.unlink(missing_ok=True)


def replace(temporary: Path, final: Path) -> None:
    """Put a finished, synced file in the place of one whose clips it all holds, durably."""
    temporary.replace(final)
    fsync(final.parent)


def set_aside(path: Path) -> None:
    """Take a damaged file out of its split, durably; it keeps its content under another name until `remove_parts`."""
    path.rename(path.with_name(f"{path.name}{DAMAGED}"))
    fsync(path.parent)


def clear_temporaries(cache: Path, split: str) -> None:
    """Remove what a killed extraction left half-written. Call with the lock held."""
    names = (f"{split}.h5{TEMPORARY}", f"{split}{_NUMBER}.h5{TEMPORARY}")  # another split's name may start like it
    for path in (*cache.glob(names[0]), *cache.glob(names[1]), *parts_folder(cache, split).glob(f"*{TEMPORARY}")):
        path.unlink()


def remove_parts(cache: Path, split: str) -> None:
    """Remove the parts of a split and what a repair set aside, after all clips are in its finished files."""
    shutil.rmtree(parts_folder(cache, split), ignore_errors=True)
    for path in cache.glob(f"{split}*.h5{DAMAGED}"):
        match = _SPLIT_FILE.fullmatch(path.name.removesuffix(DAMAGED))
        if match and match["split"] == split:
            path.unlink()
    fsync(cache)


def remove_split(cache: Path, split: str) -> None:
    """Remove a split, finished or not. Only where the user said `--overwrite`."""
    for path in every_file(cache, split):
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
