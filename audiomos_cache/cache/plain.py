"""The check that makes a foreign HDF5 file safe to read: an array is plain bytes inside its own file."""

from typing import Any

import h5py

from audiomos_cache.errors import CacheError

REMEDY = "the file is damaged or not ours; extract --repair encodes again what was lost"


def plain_dataset(file: h5py.File, name: str, dtype: str | None, ndim: int, file_size: int) -> h5py.Dataset:
    """Return a dataset after checking that it links nowhere, is stored as it is, and lies inside the file.

    Args:
        file: open for reading.
        name: path of the dataset.
        dtype: numpy's string for it; None: any.
        ndim: number of dimensions.
        file_size: in bytes.
    Raises:
        CacheError: it is missing, a link, a group, external, virtual, chunked, filtered, of another type, or claims
        bytes beyond the file's end. Nothing has been read or allocated for it then.
    """
    node: Any = file
    for part in name.split("/"):
        if not isinstance(node, h5py.Group) or not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise CacheError(f"{file.filename}: /{name} is missing, or a link; {REMEDY}")
        node = node[part]
    if not isinstance(node, h5py.Dataset):
        raise CacheError(f"{file.filename}: /{name} is a group, expected an array; {REMEDY}")
    plain = (
        not node.is_virtual
        and node.external is None
        and node.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
        and node.id.get_create_plist().get_nfilters() == 0
    )
    if not plain:
        raise CacheError(f"{file.filename}: /{name} is not stored as plain bytes in this file; {REMEDY}")
    if node.ndim != ndim or (dtype is not None and node.dtype.str != dtype):
        raise CacheError(
            f"{file.filename}: /{name} is {node.dtype.str} {node.shape}, expected {dtype} in {ndim}-D; {REMEDY}"
        )
    offset = node.id.get_offset()
    if node.size and (offset is None or offset + node.nbytes > file_size):
        raise CacheError(f"{file.filename}: /{name} claims {node.nbytes} bytes, more than the file holds; {REMEDY}")
    return node
