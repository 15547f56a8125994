"""The layout of a cache file: which arrays it holds, of which types, and how it is written and checked.

A file holds the clips of one split, or some of them (a part): every array contiguous and uncompressed, frames and
tokens end to end with offsets, strings as UTF-8 bytes with offsets. Nothing in it is executed, links elsewhere, or
depends on when it was written: equal content gives equal bytes.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from audiomos_cache import __version__
from audiomos_cache.cache.fingerprint import Fingerprint
from audiomos_cache.errors import CacheError

FORMAT = b"audiomos_cache"
FORMAT_VERSION = 1
HASH_BYTES = 16
_STRUCTURE_BYTES = 1 << 17  # more than HDF5's own structures take

# Index arrays: name -> (dtype, number of dimensions). Strings are pairs of arrays, `NAME/bytes` and `NAME/offsets`.
INDEX = {
    "audio/offsets": ("<i8", 1),
    "audio/valid_frames": ("<i4", 1),
    "text/offsets": ("<i8", 1),
    "text/feature_hash": ("|u1", 2),
    "clips/prompt_row": ("<i4", 1),
    "clips/mi": ("<f8", 1),
    "clips/ta": ("<f8", 1),
    "clips/duration_s": ("<f8", 1),
    "clips/audio_hash": ("|u1", 2),
    "clips/feature_hash": ("|u1", 2),
    "clips/padding_hash": ("|u1", 2),
}
STRINGS = ("clips/id", "clips/system", "clips/prompt_id", "text/prompt", "skipped/id", "skipped/reason")
FEATURES = ("audio/frames", "text/tokens", "text/pad_vector")
_GROUPS = ("audio", "text", "clips", "skipped", *STRINGS)
FEATURE_DTYPES = {"float16": "<f2", "float32": "<f4"}


@dataclass(frozen=True, slots=True)
class CachedClip:
    """A clip as the cache knows it.

    Attributes:
        mi, ta: the labels, NaN where there are none.
        audio_hash: xxh3_128 of the audio file.
        frames: number of stored frames; the first `valid_frames` come from audio, the rest from padding.
        feature_hash: xxh3_128 of the bytes of the valid frames.
        padding_hash: xxh3_128 of the bytes of the others.
    """

    id: str
    system: str
    prompt_id: str
    prompt: str
    mi: float
    ta: float
    duration_s: float
    audio_hash: bytes
    frames: int
    valid_frames: int
    feature_hash: bytes
    padding_hash: bytes


@dataclass(frozen=True, slots=True)
class CachedPrompt:
    """A prompt's text and features: tokens (L, text_dim) and pad_vector (text_dim,)."""

    text: str
    tokens: NDArray[Any]
    pad_vector: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself.

    Attributes:
        split: name of the split.
        fingerprint: what decided its features.
        audio_dim, text_dim: widths of frames and tokens.
        provenance: where the encoders came from; decides nothing.
        skipped: clips that were left out, with the reason.
        complete: whether the split is whole (False in a part).
        file_index, file_count: place among the files of a large split.
    """

    split: str
    fingerprint: Fingerprint
    audio_dim: int
    text_dim: int
    provenance: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[tuple[str, str], ...] = ()
    complete: bool = False
    file_index: int = 0
    file_count: int = 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored features."""
        return np.dtype(FEATURE_DTYPES[self.fingerprint.fields["dtype"]])


def hash_rows(rows: NDArray[Any]) -> bytes:
    """Hash the bytes of an array: 16 bytes of xxh3_128."""
    return xxhash.xxh3_128_digest(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)


def hash_prompt(prompt: CachedPrompt) -> bytes:
    """Hash a prompt's tokens and padding vector together."""
    return hash_rows(np.vstack((prompt.tokens, prompt.pad_vector[None])))


def pack_strings(values: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Put strings end to end: their UTF-8 bytes, and (len + 1,) offsets."""
    encoded = [value.encode() for value in values]
    offsets = np.cumsum([0, *map(len, encoded)], dtype="<i8")
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def unpack_strings(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> list[str]:
    """Take strings apart again."""
    joined = data.tobytes()
    return [joined[a:b].decode() for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]


def index_hash(attributes: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """Hash everything in a file that is not a feature: attributes and index arrays, in the order of their names."""
    digest = xxhash.xxh3_128()
    for name in sorted(attributes):
        value = attributes[name]
        digest.update(f"{name}={value.decode() if isinstance(value, bytes) else int(value)}\n".encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


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
        header: what the file says of itself.
        clips: in the order of the file.
        prompts: each prompt of the clips once.
        frames: (frames, audio_dim) of each clip, in the same order.
    Raises:
        CacheError: the disk is full, or frames are not what their clip's record says. Nothing is left of the file.
    """
    index = _index_arrays(header, clips, prompts)
    arrays = {
        "text/tokens": _stack([p.tokens for p in prompts], header.text_dim, header.dtype),
        "text/pad_vector": _stack([p.pad_vector[None] for p in prompts], header.text_dim, header.dtype),
        **index,
    }
    attributes = _attributes(header)
    offsets = index["audio/offsets"]
    shape = (int(offsets[-1]), header.audio_dim)
    _refuse_full_disk(path, shape[0] * shape[1] * header.dtype.itemsize + sum(a.nbytes for a in arrays.values()))
    try:
        # Format 1.8 has checksummed metadata. Nothing has a time in it, so equal content gives equal bytes.
        with h5py.File(path, "x", libver=("v108", "v108"), track_times=False) as file:
            for group in _GROUPS:
                file.create_group(group, track_times=False)  # made for a dataset, it would have one
            stored = file.create_dataset("audio/frames", shape, header.dtype, fill_time="never")
            for clip, start, rows in zip(clips, offsets[:-1].tolist(), frames, strict=True):
                _check_frames(path, clip, rows)
                stored[start : start + clip.frames] = rows
            for name, array in arrays.items():
                file[name] = array
            for name, value in attributes.items():
                file.attrs[name] = np.bytes_(value) if isinstance(value, bytes) else np.int64(value)
            file.attrs["index_hash"] = np.bytes_(index_hash(attributes, index).encode())
        fsync(path)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, RuntimeError):  # h5py's word for a file that cannot be closed
            raise CacheError(
                f"{path}: cannot be written; is the disk full? ({' '.join(str(error).split())})"
            ) from error
        raise


def fsync(path: Path) -> None:
    """Force a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_full_disk(path: Path, size: int) -> None:
    """Ask the system for the space before HDF5 does, which may abort the process where a write fails.

    Raises:
        CacheError: there is not so much. FileExistsError: `path` exists.
    """
    with path.open("xb") as file:
        try:
            if hasattr(os, "posix_fallocate"):  # not on a Mac
                os.posix_fallocate(file.fileno(), 0, size + _STRUCTURE_BYTES)
        except OSError as error:
            raise CacheError(
                f"{path}: {error.strerror}, {size / 1e9:.3f} GB needed; "
                "free some and run extract again, it goes on where it stopped"
            ) from error
        finally:
            path.unlink()


def _index_arrays(
    header: Header, clips: Sequence[CachedClip], prompts: Sequence[CachedPrompt]
) -> dict[str, NDArray[Any]]:
    rows = {prompt.text: row for row, prompt in enumerate(prompts)}
    columns: dict[str, Any] = {
        "audio/offsets": np.cumsum([0, *(clip.frames for clip in clips)]),
        "audio/valid_frames": [clip.valid_frames for clip in clips],
        "text/offsets": np.cumsum([0, *(len(prompt.tokens) for prompt in prompts)]),
        "text/feature_hash": _stack_hashes([hash_prompt(prompt) for prompt in prompts]),
        "clips/prompt_row": [rows[clip.prompt] for clip in clips],
        "clips/mi": [clip.mi for clip in clips],
        "clips/ta": [clip.ta for clip in clips],
        "clips/duration_s": [clip.duration_s for clip in clips],
        "clips/audio_hash": _stack_hashes([clip.audio_hash for clip in clips]),
        "clips/feature_hash": _stack_hashes([clip.feature_hash for clip in clips]),
        "clips/padding_hash": _stack_hashes([clip.padding_hash for clip in clips]),
    }
    arrays = {name: np.asarray(columns[name], dtype) for name, (dtype, _) in INDEX.items()}
    texts: dict[str, list[str]] = {
        "clips/id": [clip.id for clip in clips],
        "clips/system": [clip.system for clip in clips],
        "clips/prompt_id": [clip.prompt_id for clip in clips],
        "text/prompt": [prompt.text for prompt in prompts],
        "skipped/id": [clip_id for clip_id, _ in header.skipped],
        "skipped/reason": [reason for _, reason in header.skipped],
    }
    for name in STRINGS:
        arrays[f"{name}/bytes"], arrays[f"{name}/offsets"] = pack_strings(texts[name])
    return arrays


def _attributes(header: Header) -> dict[str, bytes | int]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": __version__.encode(),
        "split": header.split.encode(),
        "fingerprint": header.fingerprint.digest.encode(),
        "fingerprint_json": header.fingerprint.json.encode(),
        "provenance_json": json.dumps(header.provenance, sort_keys=True).encode(),
        "complete": int(header.complete),
        "file_index": header.file_index,
        "file_count": header.file_count,
    }


def _check_frames(path: Path, clip: CachedClip, rows: NDArray[Any]) -> None:
    if len(rows) != clip.frames or hash_rows(rows[: clip.valid_frames]) != clip.feature_hash:
        raise CacheError(
            f"{path}, clip {clip.id}: the frames to write are not those that were encoded "
            f"({len(rows)} frames, expected {clip.frames} with the recorded hash); run extract again for this split"
        )


def _stack(arrays: Sequence[NDArray[Any]], dim: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.empty((0, dim), dtype)


def _stack_hashes(hashes: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_BYTES)
