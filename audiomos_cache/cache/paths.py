"""Where the files of a cache are, who may write them, and how one is published.

CACHE/train.h5           a finished split (or train-00000.h5 and on), never opened for writing again
CACHE/train.parts/*.h5   what an interrupted or running extraction has done so far
CACHE/*.part             being written; never read, removed at the next start
CACHE/train.lock         held by a process that writes the split: alone, or with others that write a shard each
CACHE/train.1-of-3.lock  held by the one that writes this shard
"""

import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from audiomos_cache.artifacts import sync_folder
from audiomos_cache.cache.format import hash_list
from audiomos_cache.errors import CacheError, quoted
from audiomos_cache.locks import locked

_SPLIT_FILE = re.compile(r"(?P<split>.+?)(-\d{5})?\.h5")
_NUMBER = "-[0-9][0-9][0-9][0-9][0-9]"
PARTS = ".parts"
TEMPORARY = ".part"
DAMAGED = ".damaged"


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


@contextmanager
def locked_split(cache: Path, split: str, shard: Shard | None = None) -> Iterator[bool]:
    """Hold the right to write a split, or a shard of it while others write theirs.

    Yields:
        Whether the right is sure: some network filesystems have no locks.
    Raises:
        BusyError: another process holds it; names the process. OutputError: the folder cannot be made.
    """
    if cache.exists() and not cache.is_dir():
        raise CacheError(f"{cache}: is a file, expected a folder for the cache; give another one")
    what = f"{cache}: split {quoted(split)} is being written"
    with locked(cache / f"{split}.lock", what, shared=shard is not None, others=_shard_locks(cache, split)) as sure:
        if shard and sure:
            with locked(cache / f"{split}.{shard.label}.lock", what):
                yield True
        else:
            yield sure


def remove_shard_locks(cache: Path, split: str) -> None:
    """Remove the lock files of a split's shards. Call with the lock of the whole split held: nobody has them then."""
    for path in _shard_locks(cache, split):
        path.unlink()


def _shard_locks(cache: Path, split: str) -> Iterator[Path]:
    """Yield the lock files of a split's shards that exist when iteration starts."""
    yield from sorted(cache.glob(f"{split}.*-of-*.lock"))


def split_files(cache: Path, split: str) -> list[Path]:
    """Return the finished files of a split, in order: one, or where there is none, the numbered ones."""
    single = cache / f"{split}.h5"
    return [single] if single.is_file() else sorted(cache.glob(f"{split}{_NUMBER}.h5"))


def file_names(split: str, count: int) -> list[str]:
    """Return the names of the finished files of a split that has so many."""
    return [f"{split}.h5"] if count == 1 else [f"{split}-{index:05d}.h5" for index in range(count)]


def every_file(cache: Path, split: str) -> list[Path]:
    """Return the finished files of a split, and those that a kill left next to them while they were replaced."""
    return [*cache.glob(f"{split}.h5"), *sorted(cache.glob(f"{split}{_NUMBER}.h5"))]


def split_names(cache: Path) -> list[str]:
    """Return the splits that a cache folder has finished, sorted."""
    matches = (_SPLIT_FILE.fullmatch(path.name) for path in cache.glob("*.h5"))
    return sorted({match["split"] for match in matches if match})


def interrupted_names(cache: Path) -> list[str]:
    """Return the splits that a cache folder has parts of, sorted."""
    return sorted(folder.name.removesuffix(PARTS) for folder in cache.glob(f"*{PARTS}") if any(folder.glob("*.h5")))


def all_names(cache: Path) -> list[str]:
    """Return all splits that a cache folder has, finished or not, sorted."""
    return sorted({*split_names(cache), *interrupted_names(cache)})


def require_names(cache: Path, splits: Sequence[str] = ()) -> list[str]:
    """Return the requested splits, or all that exist.

    Raises:
        CacheError: the folder does not exist, it contains no split, or not the requested ones.
    """
    names = all_names(cache)
    if not names:
        found = "no split in it" if cache.is_dir() else "is a file" if cache.exists() else "folder not found"
        raise CacheError(f"{cache}: {found}, expected a folder that extract wrote")
    for split in splits:
        if split not in names:
            raise CacheError(f"{cache}: split {quoted(split)} not found; splits: {', '.join(names)}; extract it first")
    return list(splits) or names


def parts_folder(cache: Path, split: str) -> Path:
    """Return the folder of a split's parts."""
    return cache / f"{split}{PARTS}"


def make_parts_folder(cache: Path, split: str) -> None:
    """Make the folder of a split's parts, durably."""
    folder = parts_folder(cache, split)
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)  # another shard may make it too
        sync_folder(cache)


def part_path(cache: Path, split: str, ids: Iterable[str]) -> Path:
    """Return the path of the part that holds just these clips: the same clips, the same name.

    Where the file exists, an interrupt came after it was published, and it need not be written again.
    """
    return parts_folder(cache, split) / f"{hash_list(ids)}.h5"


def part_files(cache: Path, split: str) -> list[Path]:
    """Return the parts of a split that is not finished."""
    return sorted(parts_folder(cache, split).glob("*.h5"))


def temporary_path(final: Path, shard: Shard | None = None) -> Path:
    """Return where a file is written before it gets its final name; no two processes write the same."""
    owner = shard.label if shard else "whole"
    return final.with_name(f"{final.name}.{owner}.{socket.gethostname()}-{os.getpid()}{TEMPORARY}")


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
    sync_folder(final.parent)
    temporary.unlink(missing_ok=True)


def make_part(published: Path, split: str, ids: Iterable[str]) -> None:
    """Turn a finished file back into a part, durably: one with more clips is about to replace it."""
    cache = published.parent
    make_parts_folder(cache, split)
    published.rename(part_path(cache, split, ids))
    sync_folder(parts_folder(cache, split))
    sync_folder(cache)


def set_aside(path: Path) -> None:
    """Take a damaged file out of its split, durably; it keeps its content under another name until `remove_parts`."""
    path.rename(path.with_name(f"{path.name}{DAMAGED}"))
    sync_folder(path.parent)


def clear_temporaries(cache: Path, split: str, shard: Shard | None = None) -> None:
    """Remove what a killed process left half-written. Call with the lock of the split, or of the shard, held."""
    parts = parts_folder(cache, split)
    if shard:
        stale = list(parts.glob(f"*.{shard.label}.*{TEMPORARY}"))
    else:  # another split's name may start like this one's
        stale = [*cache.glob(f"{split}.h5.*{TEMPORARY}"), *cache.glob(f"{split}{_NUMBER}.h5.*{TEMPORARY}")]
        stale += parts.glob(f"*{TEMPORARY}")
    for path in stale:
        path.unlink()


def remove_parts(cache: Path, split: str) -> None:
    """Remove the parts of a split and what a repair set aside, after all clips are in its finished files."""
    shutil.rmtree(parts_folder(cache, split), ignore_errors=True)
    for path in cache.glob(f"{split}*.h5{DAMAGED}"):
        match = _SPLIT_FILE.fullmatch(path.name.removesuffix(DAMAGED))
        if match and match["split"] == split:
            path.unlink()
    sync_folder(cache)


def remove_split(cache: Path, split: str) -> None:
    """Remove a split, finished or not. Only where the user gave `--overwrite`."""
    for path in every_file(cache, split):
        path.unlink()
    remove_parts(cache, split)
