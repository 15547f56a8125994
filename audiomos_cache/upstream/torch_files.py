"""Files of `torch.save`, read without running or unpacking anything that they should not hold."""

import pickle
import zipfile
from collections.abc import Collection, Sequence, Sized
from io import BytesIO
from pathlib import Path
from typing import Any

from audiomos_cache.errors import DataError
from audiomos_cache.files import require_file

_OLD_FORMAT = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)  # how files of torch before 1.6 begin
_MOST_PICKLED = 1 << 26  # bytes of names and numbers, besides the tensors
_MOST_COPIED = 1 << 27  # characters and items that its functions may be given, again and again

# What dense tensors are made by, and the dicts that hold them. torch's safe loader takes more than these: what makes
# sparse, nested and quantized tensors, of which a small file can hold one that fills the memory.
DENSE_TENSORS = frozenset(
    {
        "collections.OrderedDict",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "torch.Size",
    }
)


class ForeignNameError(pickle.UnpicklingError):
    """A file's pickle uses a function or class that it should not; its message is the name."""


def load_torch_file(path: Path, names: Collection[str], stand_ins: Sequence[Any] = (), *, mmap: bool = False) -> object:
    """Load a file with torch's safe loader, after checking what that loader does not check.

    The file is read once for its checksums.

    Args:
        path: of a zip archive that `torch.save` wrote.
        names: the functions and classes that its pickle may use, besides the types of storages.
        stand_ins: what replaces some of these, as `torch.serialization.safe_globals` takes it.
        mmap: whether tensors are mapped from the file, so that those never used take no memory.
    Raises:
        DataError: no file that can be read, torch's old format, or a checksum that differs. ForeignNameError: the
            pickle uses other names. Any other exception: the file is damaged, hostile or foreign.
    """
    import torch

    require_file(path, "a file of torch.save")
    _refuse_old_format(path)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if compressed or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise zipfile.BadZipFile("unpacks to more than it holds, which no file of torch.save does")
        _require_checksums(archive)
        for entry in entries:
            if entry.filename.endswith("/data.pkl"):
                _rehearse(archive.read(entry), names)
    with torch.serialization.safe_globals(list(stand_ins)):
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


def _rehearse(content: bytes, names: Collection[str]) -> None:
    """Go through a pickle, calling nothing, to see what it would call, and with how much.

    Raises:
        ForeignNameError: it uses another name. Any other exception: it is damaged, or asks for copies that would fill
            the memory.
    """
    if len(content) > _MOST_PICKLED:
        raise pickle.UnpicklingError(f"{len(content)} bytes besides the tensors")
    _Rehearsal(BytesIO(content), names).load()


class _Rehearsal(pickle._Unpickler):  # in Python: torch's own would make tensors
    def __init__(self, file: BytesIO, names: Collection[str]) -> None:
        super().__init__(file)
        self._names = names
        self.copied = 0

    def find_class(self, module: str, name: str) -> object:
        full = f"{module}.{name}"
        if full not in self._names and not (full.startswith("torch.") and full.endswith("Storage")):
            raise ForeignNameError(full)
        return _StandIn(self)

    def persistent_load(self, _where: object) -> object:
        return _StandIn(self)


class _StandIn(dict[Any, Any]):
    """Stands in for a function, for what it returns, and for a dict."""

    def __init__(self, rehearsal: _Rehearsal) -> None:
        self._rehearsal = rehearsal

    def __call__(self, *arguments: object) -> "_StandIn":
        self._rehearsal.copied += sum(len(each) for each in arguments if isinstance(each, Sized))
        if self._rehearsal.copied > _MOST_COPIED:
            raise pickle.UnpicklingError("asks for more copies than any file of torch.save")
        return _StandIn(self._rehearsal)

    def __setstate__(self, _state: object) -> None:
        pass

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)
