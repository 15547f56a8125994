"""The checks that make a foreign HDF5 file safe to read: arrays are plain bytes inside it, attributes are small."""

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

REMEDY = "the file is damaged or not ours; extract --repair encodes again what was lost"
_ATTRIBUTE_BYTES = 1 << 20
_ALL_ATTRIBUTES_BYTES = 4 << 20


class UnsoundError(Exception):
    """What is wrong with a file, and what to do about it; `CacheFile` puts the file's name before it."""

    def __init__(self, found: str, remedy: str = REMEDY) -> None:
        super().__init__(f"{found}; {remedy}")


class OtherVersionError(UnsoundError):
    """A file is of another format version, which is no damage."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its file an array lies, uncompressed: byte offset, shape, type."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def plain_array(file: h5py.File, name: str, dtype: str, ndim: int, file_size: int) -> Place:
    """Return where an array lies, after checking that it links nowhere, is stored as it is, and inside the file.

    Args:
        file: open for reading.
        name: path of the dataset.
        dtype: numpy's string for it, such as `<f2`.
        ndim: number of dimensions.
        file_size: in bytes.
    Raises:
        UnsoundError: it is missing, a link, a group, external, virtual, chunked, filtered, of another type, or claims
        bytes beyond the file's end. Nothing has been read or allocated for it then.
    """
    node: Any = file
    for part in name.split("/"):
        if not isinstance(node, h5py.Group) or not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise UnsoundError(f"/{name} is missing, or a link")
        node = node[part]
    if not isinstance(node, h5py.Dataset):
        raise UnsoundError(f"/{name} is a group, expected an array")
    plain = (
        not node.is_virtual
        and node.external is None
        and node.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
        and node.id.get_create_plist().get_nfilters() == 0
    )
    if not plain:
        raise UnsoundError(f"/{name} is not stored as plain bytes in this file")
    if node.ndim != ndim or node.dtype.str != dtype:
        raise UnsoundError(f"/{name} is {node.dtype.str} {node.shape}, expected {dtype} in {ndim}-D")
    offset = node.id.get_offset()
    if node.size and (offset is None or offset + node.nbytes > file_size):
        raise UnsoundError(f"/{name} claims {node.nbytes} bytes, more than the file holds")
    return Place(offset or 0, node.shape, node.dtype)


def refuse_large_attributes(file: h5py.File) -> None:
    """Refuse attributes that take more memory than ours can: HDF5 loads one as soon as it is looked for.

    Raises:
        UnsoundError: naming their size. Nothing has been allocated for them then.
    """
    size = h5py.h5o.get_info(file.id).meta_size.attr.heap_size
    if size > _ALL_ATTRIBUTES_BYTES:
        raise UnsoundError(f"its attributes take {size} bytes, expected at most {_ALL_ATTRIBUTES_BYTES}")


def plain_attribute(file: h5py.File, name: str, kind: type[bytes] | type[int]) -> Any:
    """Return a root attribute that is one string (as bytes) or one whole number.

    Raises:
        UnsoundError: it is missing, of another kind, or too large.
    """
    if not h5py.h5a.exists(file.id, name.encode()):
        raise UnsoundError(f"attribute {name} is missing")
    attribute = h5py.h5a.open(file.id, name.encode())
    stored = attribute.get_type()
    expected, what = (
        (h5py.h5t.STRING, "string of at most 1 MiB") if kind is bytes else (h5py.h5t.INTEGER, "whole number")
    )
    plain = stored.get_class() == expected and not (kind is bytes and stored.is_variable_str())
    if not plain or attribute.shape != () or stored.get_size() > _ATTRIBUTE_BYTES:
        raise UnsoundError(f"attribute {name} is not one {what}")
    return kind(file.attrs[name])
