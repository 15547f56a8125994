"""Writing a cache file: HDF5 lays the structure out in memory, and system calls write everything to the disk.

HDF5 itself never writes to the disk, where a failed write can abort the process. The whole space is reserved first.
"""

import errno
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from audiomos_cache.cache.format import (
    GROUPS,
    HASH_BYTES,
    INDEX,
    STRINGS,
    CachedClip,
    CachedPrompt,
    Header,
    frames_arrays,
    hash_attributes,
    hash_column,
    hash_prompt,
    hash_rows,
    pack_strings,
)
from audiomos_cache.cache.stable_file import Buffer
from audiomos_cache.errors import CacheError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_file(
    path: Path,
    header: Header,
    clips: Sequence[CachedClip],
    prompts: Sequence[CachedPrompt],
    frames: Iterable[NDArray[Any]],
) -> None:
    """Write a new cache file and force it to the disk. `path` must not exist.

    Args:
        path: where to write; not yet published under its final name.
        header: what describes the file as a whole.
        clips: in the order of the file.
        prompts: each prompt of the clips once.
        frames: (layers, frames, audio_dim) of each clip, in the same order.
    Raises:
        CacheError: the disk is full, or frames do not match their clip's record. Nothing is left of the file.
    """
    content = Content(header, clips, prompts)
    with new_file(path, content) as file:
        for index, (clip, rows) in enumerate(zip(clips, frames, strict=True)):
            file.write_clip(index, clip, rows)
        file.complete(content)


@contextmanager
def new_file(path: Path, planned: "Content") -> Iterator["NewFile"]:
    """Give a new file to write; it is forced to the disk at the end, or removed at an error.

    Args:
        path: where to write; must not exist.
        planned: what will be in it, as far as it decides the offsets of the arrays: the clips' ids and numbers of
            frames.
    Raises:
        CacheError: the disk is full or fails.
    """
    with _new_file(path, planned.structure.size) as descriptor:
        yield NewFile(path, descriptor, planned)


class Content:
    """All of a file but its frames: its arrays, HDF5's structure, and the offset of each array."""

    def __init__(self, header: Header, clips: Sequence[CachedClip], prompts: Sequence[CachedPrompt]) -> None:
        columns = _columns(header, clips, prompts)
        self.header = header
        self.offsets = columns["audio/offsets"]
        self.arrays = {
            "text/tokens": _stack([p.tokens for p in prompts], header.text_dim, header.dtype),
            "text/pad_vector": _stack([p.pad_vector[None] for p in prompts], header.text_dim, header.dtype),
            **columns,
        }
        total = int(self.offsets[-1])
        layout = {name: (array.shape, array.dtype) for name, array in self.arrays.items()}
        layout |= dict.fromkeys(frames_arrays(header.layers), ((total, header.audio_dim), header.dtype))
        attributes = header.attributes({name: hash_column(name, array) for name, array in columns.items()})
        self.structure, self.positions = _lay_out(
            layout, attributes | {"index_hash": hash_attributes(attributes).encode()}
        )


class NewFile:
    """A file that is being written: its clips' frames in any order, then all the rest."""

    def __init__(self, path: Path, descriptor: int, planned: Content) -> None:
        self.path = path
        self._descriptor, self._content = descriptor, planned

    def write_clip(self, index: int, clip: CachedClip, rows: NDArray[Any]) -> None:
        """Write the frames of the clip with this index in the file.

        Raises:
            CacheError: they do not match the clip's record. OSError: the disk fails.
        """
        header = self._content.header
        _check_frames(self.path, clip, rows, header)
        for which, layer in enumerate(rows):
            _write(self._descriptor, layer, self._position(index, which))

    def read_clip(self, index: int, frames: int, buffer: Buffer) -> NDArray[Any]:
        """Read back what `write_clip` wrote, (layers, frames, audio_dim), into a buffer."""
        header = self._content.header
        rows = buffer.take((len(header.layers), frames, header.audio_dim), header.dtype)
        for which, layer in enumerate(rows):
            view, position = layer.reshape(-1).view(np.uint8).data, self._position(index, which)
            while view:
                count = os.preadv(self._descriptor, [view], position)
                view, position = view[count:], position + count
        return rows

    def sync(self) -> None:
        """Force to the disk what has been written so far."""
        os.fsync(self._descriptor)

    def complete(self, content: Content) -> None:
        """Write all but the frames.

        Raises:
            CacheError: its layout differs from the planned one.
        """
        if (content.positions, content.structure.size) != (self._content.positions, self._content.structure.size):
            raise CacheError(f"{self.path}: the content does not have the planned layout; run the command again")
        for position, data in content.structure.written:
            _write(self._descriptor, data, position)
        for name, array in content.arrays.items():
            _write(self._descriptor, array, content.positions[name])

    def _position(self, index: int, layer: int) -> int:
        header = self._content.header
        row_bytes = header.audio_dim * header.dtype.itemsize
        name = frames_arrays(header.layers)[layer]
        return self._content.positions[name] + int(self._content.offsets[index]) * row_bytes


class _Memory(io.RawIOBase):
    """A file in memory that keeps only what was written to it, not the gaps.

    Attributes:
        written: each position that was written to with the bytes, in that order.
        size: of the file.
    """

    def __init__(self) -> None:
        self.written: list[tuple[int, bytes]] = []
        self.size = 0
        self._position = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int | None = None) -> int:
        self.size = self._position if size is None else size
        return self.size

    def write(self, data: Any) -> int:
        self.written.append((self._position, bytes(data)))
        self._position += len(data)
        self.size = max(self.size, self._position)
        return len(data)


def _lay_out(
    layout: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]], attributes: Mapping[str, bytes | int]
) -> tuple[_Memory, dict[str, int]]:
    """Let HDF5 write the structure of a file without its arrays' content.

    Returns:
        The structure, and the position of each array.
    """
    structure = _Memory()
    positions = {}
    # Format 1.8 has checksummed metadata. Nothing has a time in it, so equal content gives equal bytes.
    with h5py.File(structure, "w", libver=("v108", "v108"), track_times=False) as file:
        for group in GROUPS:
            file.create_group(group, track_times=False)  # made for a dataset, it would have one
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.CONTIGUOUS)
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        properties.set_obj_track_times(False)
        for name, (shape, dtype) in sorted(layout.items()):
            space = h5py.h5s.create_simple(shape)
            dataset = h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype), space, properties)
            positions[name] = dataset.get_offset() or 0  # an empty array has no offset
        for name, value in attributes.items():
            file.attrs[name] = np.bytes_(value) if isinstance(value, bytes) else np.int64(value)
    return structure, positions


@contextmanager
def _new_file(path: Path, size: int) -> Iterator[int]:
    """Make a file of `size` bytes, its space reserved; force it to the disk at the end, or remove it at an error.

    Raises:
        CacheError: the space is not free, or the disk fails. FileExistsError: `path` exists.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
    try:
        try:
            if hasattr(os, "posix_fallocate"):  # not on a Mac
                os.posix_fallocate(descriptor, 0, size)
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            need = f", {size / 1e9:.3f} GB needed; free some" if error.errno in _NO_SPACE else "; check the disk"
            raise CacheError(
                f"{path}: {error.strerror}{need} and run the command again, it resumes where it stopped"
            ) from error
        raise


def _write(descriptor: int, data: bytes | NDArray[Any], position: int) -> None:
    """Write all of `data` at `position`."""
    array = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else np.ascontiguousarray(data)
    view = array.reshape(-1).view(np.uint8).data
    while view:
        count = os.pwrite(descriptor, view, position)
        view, position = view[count:], position + count


def _columns(header: Header, clips: Sequence[CachedClip], prompts: Sequence[CachedPrompt]) -> dict[str, NDArray[Any]]:
    rows = {prompt.text: row for row, prompt in enumerate(prompts)}
    values: dict[str, Any] = {
        "audio/offsets": np.cumsum([0, *(clip.frames for clip in clips)]),
        "audio/valid_frames": [clip.valid_frames for clip in clips],
        "text/offsets": np.cumsum([0, *(len(prompt.tokens) for prompt in prompts)]),
        "text/feature_hash": _stack_hashes(map(hash_prompt, prompts)),
        "clips/prompt_row": [rows[clip.prompt] for clip in clips],
        "clips/mi": [clip.mi for clip in clips],
        "clips/ta": [clip.ta for clip in clips],
        "clips/duration_s": [clip.duration_s for clip in clips],
        "clips/audio_hash": _stack_hashes(clip.audio_hash for clip in clips),
        "clips/feature_hash": _stack_hashes((h for clip in clips for h in clip.feature_hash), len(header.layers)),
        "clips/padding_hash": _stack_hashes((h for clip in clips for h in clip.padding_hash), len(header.layers)),
        "clips/position": [clip.position for clip in clips],
    }
    columns = {name: np.asarray(values[name], dtype) for name, (dtype, _) in INDEX.items()}
    strings: dict[str, list[str]] = {
        "clips/id": [clip.id for clip in clips],
        "clips/system": [clip.system for clip in clips],
        "clips/prompt_id": [clip.prompt_id for clip in clips],
        "text/prompt": [prompt.text for prompt in prompts],
        "skipped/id": [clip_id for clip_id, _ in header.skipped],
        "skipped/reason": [reason for _, reason in header.skipped],
    }
    for name in STRINGS:
        columns[f"{name}/bytes"], columns[f"{name}/offsets"] = pack_strings(strings[name])
    return columns


def _check_frames(path: Path, clip: CachedClip, rows: NDArray[Any], header: Header) -> None:
    expected = (len(header.layers), clip.frames, header.audio_dim)
    has_right_type = rows.shape == expected and rows.dtype == header.dtype
    if not has_right_type or tuple(hash_rows(layer[: clip.valid_frames]) for layer in rows) != clip.feature_hash:
        raise CacheError(
            f"{path}, clip {clip.id}: the frames to write are not those that were encoded "
            f"({rows.dtype} {rows.shape}, expected {header.dtype} {expected} with the recorded hash); "
            "run extract again for this split"
        )


def _stack(arrays: Sequence[NDArray[Any]], dim: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.empty((0, dim), dtype)


def _stack_hashes(hashes: Iterable[bytes], layers: int | None = None) -> NDArray[np.uint8]:
    shape = (-1, HASH_BYTES) if layers is None else (-1, layers, HASH_BYTES)
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(shape)
