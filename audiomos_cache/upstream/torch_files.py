"""Files of `torch.save`: what `torch.load` does not say of them."""

import pickle
from pathlib import Path
from zipfile import ZipFile

from audiomos_cache.errors import DataError

_OLD_FORMAT = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)  # how files of torch before 1.6 begin


def refuse_old_format(path: Path) -> None:
    """Refuse a file in the format that torch had before it wrote zip archives.

    Raises:
        DataError: it is one. OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(_OLD_FORMAT)) == _OLD_FORMAT:
            raise DataError(
                f"{path}: saved in torch's old format, expected a zip archive; load it with a current torch "
                "(torch.load(..., weights_only=True)) and save it again"
            )


def require_checksums(archive: ZipFile) -> None:
    """Read a file of `torch.save` once, in pieces, and compare its parts with their checksums; `torch.load` does not.

    Raises:
        DataError: naming the first part that differs.
    """
    if damaged := archive.testzip():
        raise DataError(
            f"{archive.filename}: {damaged} in it does not have the checksum it was saved with, so the file is "
            "damaged; copy or download it again"
        )
