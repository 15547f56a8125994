"""The hashes of a folder's files, in a file `hashes.json` next to them: what was damaged since is not used."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from audiomos_cache.artifacts import atomic_write, hash_bytes
from audiomos_cache.errors import DataError
from audiomos_cache.files import parse_json, read_file

HASHES = "hashes.json"


def read_hashes(folder: Path) -> dict[str, str]:
    """Read the recorded hash of each file, by its path in the folder; none where the folder has no record.

    Raises:
        DataError: the record cannot be read.
    """
    path = folder / HASHES
    if not path.exists():
        return {}
    try:
        content = parse_json(read_file(path, "the hashes of a run"))
        if not isinstance(content, dict) or not all(isinstance(each, str) for each in content.values()):
            raise ValueError("not a hash for each file")
    except ValueError as error:
        raise DataError(f"{path}: not the hashes of a run ({error}); copy the run again, or train it again") from error
    return content


def write_hashes(folder: Path, hashes: Mapping[str, str]) -> None:
    """Write the record."""
    atomic_write(folder / HASHES, f"{json.dumps(dict(sorted(hashes.items())), indent=1)}\n".encode())


def write_recorded(folder: Path, name: str, content: bytes) -> None:
    """Write a file and add its hash to the record, which other processes may do at the same time.

    After a kill the file is what it was, or missing, or refused until it is written again.
    """
    with _alone(folder):
        write_hashes(folder, read_hashes(folder) | {name: hash_bytes(content)})
        atomic_write(folder / name, content)


def require_hash(folder: Path, name: str, content: bytes, advice: str) -> None:
    """Refuse the content of a file that is not what was recorded.

    Args:
        folder: which has the record.
        name: of the file, its path in the folder.
        content: what was read of it.
        advice: what the user can do.
    Raises:
        DataError: names the file.
    """
    expected = read_hashes(folder).get(name)
    if expected is None and not (folder / HASHES).exists():
        raise DataError(f"{folder}: {HASHES} is missing, so {name} may be damaged; {advice}")
    if expected is None:
        raise DataError(f"{folder / name}: has no hash in {folder / HASHES}, so it may be damaged; {advice}")
    if (found := hash_bytes(content)) != expected:
        raise DataError(
            f"{folder / name}: hash {found}, expected {expected}, so it was changed or is damaged; {advice}"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for other processes that change the record: they take milliseconds."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network filesystems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
