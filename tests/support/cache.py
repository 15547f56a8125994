"""Helpers of the tests of cache."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from audiomos_cache.cache.format import COLUMNS, hash_attributes, hash_column

# By name.
Changes = Mapping[str, Any] | Iterable[tuple[str, Any]]


def rebuild(
    path: Path,
    arrays: Changes = (),
    attributes: Changes = (),
    special: Changes = (),
    libver: str | tuple[str, str] = ("v108", "latest"),
) -> Path:
    """Write a file anew with some arrays and attributes changed, and the hashes of its index right again.

    An attribute that is None is left out. `special` names arrays or groups, with a function (file, name, array) that
    puts something else in their place.
    """
    data: dict[str, Any] = {}
    found: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, node: data.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None)
        found.update(file.attrs)
    data.update(arrays)
    hashes = {name: hash_column(name, array) for name, array in data.items() if name in COLUMNS}
    found["columns_json"] = np.bytes_(json.dumps(hashes, sort_keys=True))
    found.update(attributes)
    found = {name: value for name, value in found.items() if value is not None}
    if "index_hash" not in dict(attributes):
        del found["index_hash"]
        plain = all(isinstance(value, bytes | np.int64) for value in found.values())
        found["index_hash"] = np.bytes_(hash_attributes(found) if plain else "0" * 32)
    special = dict(special)
    path.unlink()
    with h5py.File(path, "w", libver=libver) as file:
        for name, array in data.items():
            group = name.partition("/")[0]
            if group in special:
                if group not in file:
                    special[group](file, group, None)
            elif name in special:
                special[name](file, name, array)
            else:
                file[name] = array
        for name, value in found.items():
            file.attrs[name] = value
    return path


def group(file: h5py.File, name: str, _array: object) -> None:
    file.create_group(name)
