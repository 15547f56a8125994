"""Files of `torch.save`, read without running or unpacking anything that they should not hold."""

import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiomos_cache.errors import DataError

_OLD_FORMAT = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)  # how files of torch before 1.6 begin


def load_torch_file(path: Path, allowed: Sequence[Any] = (), *, mmap: bool = False) -> object:
    """Load a file with torch's safe loader, after checking what that loader does not check.

    The file is read once for its checksums.

    Args:
        path: of a zip archive that `torch.save` wrote.
        allowed: what a pickle may use besides tensors, as `torch.serialization.safe_globals` takes it.
        mmap: whether tensors are mapped from the file, so that those never used take no memory.
    Raises:
        DataError: torch's old format, or a checksum that differs. OSError: the file cannot be read. Any other
            exception: the file is damaged, hostile or foreign.
    """
    import torch

    _refuse_old_format(path)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if compressed or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise zipfile.BadZipFile("unpacks to more than it holds, which no file of torch.save does")
        _require_checksums(archive)
    with torch.serialization.safe_globals(list(allowed)):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _refuse_old_format(path: Path) -> None:
    """Refuse a file in the format that torch had before it wrote zip archives."""
    with path.open("rb") as file:
        if file.read(len(_OLD_FORMAT)) == _OLD_FORMAT:
            raise DataError(
                f"{path}: saved in torch's old format, expected a zip archive; load it with a current torch "
                "(torch.load(..., weights_only=True)) and save it again"
            )


def _require_checksums(archive: zipfile.ZipFile) -> None:
    """Compare an archive's entries with their checksums, in pieces, and name the first one that differs."""
    if damaged := archive.testzip():
        raise DataError(
            f"{archive.filename}: {damaged} in it does not have the checksum it was saved with, so the file is "
            "damaged; copy or download it again"
        )
