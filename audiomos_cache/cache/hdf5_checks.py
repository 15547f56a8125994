"""What is checked in an HDF5 file before anything in it is trusted: uncompressed arrays only, whose columns agree."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from audiomos_cache.cache.format import HASH_BYTES, INDEX, STRINGS, frames_arrays
from audiomos_cache.files import parse_json

REMEDY = "the file is damaged or not ours; extract --repair encodes again what was lost"
_ATTRIBUTE_BYTES = 1 << 20
_ALL_ATTRIBUTES_BYTES = 4 << 20


class InvalidFileError(Exception):
    """A file is not a valid cache file; `CacheFile` adds the file's name."""

    def __init__(self, found: str) -> None:
        super().__init__(f"{found}; {REMEDY}")


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An uncompressed array in a file: byte offset, shape, type."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def stored_array(file: h5py.File, name: str, dtype: str, ndim: int, file_size: int) -> StoredArray:
    """Return the offset, shape and type of an array, after checking that it is uncompressed and inside this file.

    Args:
        file: open for reading.
        name: path of the dataset.
        dtype: numpy's string for it, such as `<f2`.
        ndim: number of dimensions.
        file_size: in bytes.
    Raises:
        InvalidFileError: it is missing, a link, a group, external, virtual, chunked, filtered, of another type, or
            reaches beyond the file's end. Nothing has been read or allocated for it then.
    """
    for path in accumulate(name.split("/"), "{}/{}".format):
        if not _is_hard_link(file, path.encode()):
            raise InvalidFileError(f"/{name} is missing, or a link")
    node = h5py.h5o.open(file.id, name.encode())
    if not isinstance(node, h5py.h5d.DatasetID):
        raise InvalidFileError(f"/{name} is a group, expected an array")
    properties = node.get_create_plist()
    is_uncompressed = (
        properties.get_layout() == h5py.h5d.CONTIGUOUS  # virtual and chunked arrays have others
        and properties.get_external_count() == 0
        and properties.get_nfilters() == 0
    )
    if not is_uncompressed:
        raise InvalidFileError(f"/{name} is not stored uncompressed in this file")
    shape, found = node.shape, node.dtype
    if len(shape) != ndim or found.str != dtype:
        raise InvalidFileError(f"/{name} is {found.str} {shape}, expected {dtype} in {ndim}-D")
    offset, size = node.get_offset(), math.prod(shape) * found.itemsize
    if size and (offset is None or offset + size > file_size):
        raise InvalidFileError(f"/{name} has {size} bytes, more than the file contains")
    return StoredArray(offset or 0, shape, found)


def _is_hard_link(file: h5py.File, path: bytes) -> bool:
    links = file.id.links
    return bool(links.exists(path) and links.get_info(path).type == h5py.h5l.TYPE_HARD)


def refuse_large_attributes(file: h5py.File) -> None:
    """Refuse attributes that take more memory than ours can: HDF5 loads one as soon as it is looked for.

    Raises:
        InvalidFileError: naming their size. Nothing has been allocated for them then.
    """
    size = h5py.h5o.get_info(file.id).meta_size.attr.heap_size
    if size > _ALL_ATTRIBUTES_BYTES:
        raise InvalidFileError(f"its attributes take {size} bytes, expected at most {_ALL_ATTRIBUTES_BYTES}")


def read_attribute(file: h5py.File, name: str, kind: type[bytes] | type[int]) -> Any:
    """Return a root attribute that is one string (as bytes) or one whole number.

    Raises:
        InvalidFileError: it is missing, of another kind, or too large.
    """
    if not h5py.h5a.exists(file.id, name.encode()):
        raise InvalidFileError(f"attribute {name} is missing")
    attribute = h5py.h5a.open(file.id, name.encode())
    stored = attribute.get_type()
    expected, what = (
        (h5py.h5t.STRING, "string of at most 1 MiB") if kind is bytes else (h5py.h5t.INTEGER, "whole number")
    )
    is_expected = stored.get_class() == expected and not (kind is bytes and stored.is_variable_str())
    if not is_expected or attribute.shape != () or stored.get_size() > _ATTRIBUTE_BYTES:
        raise InvalidFileError(f"attribute {name} is not one {what}")
    value = np.empty((), attribute.dtype)  # read here: `file.attrs` would open it once more
    attribute.read(value)
    return kind(value[()])


Shapes = Mapping[str, tuple[int, ...]]


def check_shapes(shapes: Shapes, layers: Sequence[int]) -> None:
    """Check that the shapes of all arrays agree.

    Raises:
        InvalidFileError: naming the first that differs.
    """
    clips, prompts = shapes["clips/mi"][0], shapes["text/feature_hash"][0]
    frames, (tokens, text_dim) = shapes[frames_arrays(layers)[0]], shapes["text/tokens"]
    expected: dict[str, tuple[int, ...]] = {name: (clips,) for name in INDEX if name.startswith("clips/")}
    expected |= dict.fromkeys(frames_arrays(layers), frames)
    expected |= {f"{name}/offsets": (clips + 1,) for name in STRINGS if name.startswith("clips/")}
    expected |= {f"clips/{name}_hash": (clips, len(layers), HASH_BYTES) for name in ("feature", "padding")}
    expected |= {
        "clips/audio_hash": (clips, HASH_BYTES),
        "audio/offsets": (clips + 1,),
        "audio/valid_frames": (clips,),
        "text/feature_hash": (prompts, HASH_BYTES),
        "text/offsets": (prompts + 1,),
        "text/prompt/offsets": (prompts + 1,),
        "text/tokens": (tokens, text_dim),
        "text/pad_vector": (prompts, text_dim),
        "skipped/reason/offsets": shapes["skipped/id/offsets"],
    }
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise InvalidFileError(f"/{name} has the shape {shapes[name]}, expected {shape} like the other arrays")


def check_column(
    name: str, values: NDArray[Any], shapes: Shapes, layers: Sequence[int], column: Callable[[str], NDArray[Any]]
) -> None:
    """Check the values of an index column that others, or the features, depend on.

    Args:
        name, values: the column.
        shapes: of all arrays of the file.
        layers: that the file holds.
        column: gives another column.
    Raises:
        InvalidFileError: describing what is wrong with it.
    """
    if name.endswith("/offsets"):
        array = {"audio/offsets": frames_arrays(layers)[0], "text/offsets": "text/tokens"}
        end = shapes[array.get(name, f"{name.removesuffix('offsets')}bytes")][0]
        if not values.size or values[0] != 0 or values[-1] != end or not (values[1:] >= values[:-1]).all():
            raise InvalidFileError(f"/{name} does not rise from 0 to {end}, the length of its array")
    elif name == "audio/valid_frames":
        offsets = column("audio/offsets")
        if values.size and not (values.min() >= 1 and (offsets[:-1] + values <= offsets[1:]).all()):
            raise InvalidFileError(f"/{name} is not between 1 and the number of frames for every clip")
    elif name == "clips/prompt_row":
        prompts = shapes["text/feature_hash"][0]
        if values.size and not (values.min() >= 0 and values.max() < prompts):
            raise InvalidFileError(f"/{name} is not below {prompts}, the number of prompts, for every clip")
    elif name == "clips/position" and values.size and not np.all(values >= 0):
        raise InvalidFileError(f"/{name} contains a negative position")


def json_object(attributes: dict[str, Any], name: str, of: type = str) -> dict[str, Any]:
    """Return an attribute that is JSON: an object with values of one type."""
    content = parse_json(attributes[name])
    if not isinstance(content, dict) or not all(isinstance(value, of) for value in content.values()):
        raise InvalidFileError(f"attribute {name} is not an object of {of.__name__} values")
    return content
