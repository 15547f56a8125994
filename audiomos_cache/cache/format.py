"""The layout of a cache file: which arrays it holds, of which types, and how they are hashed.

A file holds the clips of one split, or some of them (a part): every array contiguous and uncompressed, frames and
tokens concatenated, with offsets, strings as UTF-8 bytes with offsets. Nothing in it is executed, links elsewhere, or
depends on when it was written: equal content gives equal bytes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from audiomos_cache import __version__
from audiomos_cache.artifacts import Fingerprint, hash_bytes

FORMAT = b"audiomos_cache"
FORMAT_VERSION = 2
HASH_BYTES = 16

# Index columns: name -> (dtype, number of dimensions). Strings are pairs of arrays, `NAME/bytes` and `NAME/offsets`.
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
    "clips/feature_hash": ("|u1", 3),  # (clips, layers, 16)
    "clips/padding_hash": ("|u1", 3),
    "clips/position": ("<i4", 1),
}
STRINGS = ("clips/id", "clips/system", "clips/prompt_id", "text/prompt", "skipped/id", "skipped/reason")
COLUMNS = (
    INDEX | {f"{name}/bytes": ("|u1", 1) for name in STRINGS} | {f"{name}/offsets": ("<i8", 1) for name in STRINGS}
)
GROUPS = ("audio", "text", "clips", "skipped", *STRINGS)
NUMBER_ATTRIBUTES = ("format_version", "list_length", "batch_size", "complete", "file_index", "file_count")
STRING_ATTRIBUTES = ("format", "package_version", "split", "fingerprint", "fingerprint_json", "layers",
                     "provenance_json", "list_hash", "split_hash", "columns_json")  # fmt: skip
ATTRIBUTES: Mapping[str, type[bytes] | type[int]] = dict.fromkeys(NUMBER_ATTRIBUTES, int) | dict.fromkeys(
    STRING_ATTRIBUTES, bytes
)
FEATURE_DTYPES = {"float16": "<f2", "float32": "<f4"}


@dataclass(frozen=True, slots=True)
class CachedClip:
    """A clip as a cache file describes it.

    Attributes:
        mi, ta: the labels, NaN where there are none.
        audio_hash: xxh3_128 of the audio file.
        frames: number of stored frames; the first `valid_frames` come from audio, the rest from padding.
        feature_hash: xxh3_128 of the bytes of the valid frames, for each layer.
        padding_hash: xxh3_128 of the bytes of the others, for each layer.
        position: index of the clip in the dataset's list of its split.
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
    feature_hash: tuple[bytes, ...]
    padding_hash: tuple[bytes, ...]
    position: int = 0


@dataclass(frozen=True, slots=True)
class CachedPrompt:
    """A prompt's text and features: tokens (L, text_dim) and pad_vector (text_dim,)."""

    text: str
    tokens: NDArray[Any]
    pad_vector: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Header:
    """What describes a file as a whole.

    Attributes:
        split: name of the split.
        fingerprint: what decided its features.
        audio_dim, text_dim: widths of frames and tokens.
        layers: the stored hidden layers of the audio encoder, ascending.
        provenance: where the encoders came from, and a dataset on the hub; decides nothing.
        skipped: clips that were left out, with the reason.
        list_hash, list_length: of the ids in the dataset's list of the split, which parts and shards have in common.
        batch_size: how many clips were encoded at once, which the shards of a split have in common; 0 in a finished
            split, as it decides no value.
        complete: whether the split is whole (False in a part).
        split_hash: of all clips of a whole split; its files have it in common.
        file_index, file_count: which of the files of a large split it is, from 0, and of how many.
    """

    split: str
    fingerprint: Fingerprint
    audio_dim: int
    text_dim: int
    layers: tuple[int, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[tuple[str, str], ...] = ()
    list_hash: str = ""
    list_length: int = 0
    batch_size: int = 0
    complete: bool = False
    split_hash: str = ""
    file_index: int = 0
    file_count: int = 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored features."""
        return np.dtype(FEATURE_DTYPES[self.fingerprint.fields["dtype"]])

    @property
    def frame_bytes(self) -> int:
        """Size of one frame of all layers."""
        return len(self.layers) * self.audio_dim * self.dtype.itemsize

    def attributes(self, columns: Mapping[str, str]) -> dict[str, bytes | int]:
        """Return the attributes of a file, all but `index_hash`; `columns` are the hashes of its index columns."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "package_version": __version__.encode(),
            "split": self.split.encode(),
            "fingerprint": self.fingerprint.digest.encode(),
            "fingerprint_json": self.fingerprint.json.encode(),
            "layers": ",".join(map(str, self.layers)).encode(),
            "provenance_json": json.dumps(self.provenance, sort_keys=True).encode(),
            "list_hash": self.list_hash.encode(),
            "list_length": self.list_length,
            "batch_size": self.batch_size,
            "complete": int(self.complete),
            "split_hash": self.split_hash.encode(),
            "file_index": self.file_index,
            "file_count": self.file_count,
            "columns_json": json.dumps(columns, sort_keys=True).encode(),
        }


def frames_arrays(layers: Sequence[int]) -> list[str]:
    """Return the name of each layer's array of frames."""
    return ["audio/frames"] if len(layers) == 1 else [f"audio/frames_{layer}" for layer in layers]


def feature_arrays(layers: Sequence[int]) -> list[str]:
    """Return the names of all arrays of features."""
    return [*frames_arrays(layers), "text/tokens", "text/pad_vector"]


def hash_rows(rows: NDArray[Any]) -> bytes:
    """Hash the bytes of an array: 16 bytes of xxh3_128."""
    return xxhash.xxh3_128_digest(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)


def hash_prompt(prompt: CachedPrompt) -> bytes:
    """Hash a prompt's tokens and padding vector together."""
    return hash_rows(np.vstack((prompt.tokens, prompt.pad_vector[None])))


def pack_strings(values: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Concatenate strings: their UTF-8 bytes, and (len + 1,) offsets."""
    encoded = [value.encode() for value in values]
    offsets = np.cumsum([0, *map(len, encoded)], dtype="<i8")
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def unpack_strings(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> list[str]:
    """Return the strings that `pack_strings` packed."""
    joined = data.tobytes()
    return [joined[a:b].decode() for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]


def hash_column(name: str, array: NDArray[Any]) -> str:
    """Hash an index column with its name, type and shape: 32 hex digits of xxh3_128."""
    digest = xxhash.xxh3_128(f"{name} {array.dtype.str} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def hash_attributes(attributes: Mapping[str, Any]) -> str:
    """Hash the attributes of a file, in the order of their names. The hashes of the index columns are among them."""
    digest = xxhash.xxh3_128()
    for name in sorted(attributes):
        value = attributes[name]
        digest.update(f"{name}={value.decode() if isinstance(value, bytes) else int(value)}\n".encode())
    return digest.hexdigest()


def hash_list(ids: Iterable[str]) -> str:
    """Hash ids in their order: 32 hex digits of xxh3_128."""
    return hash_bytes("\n".join(ids).encode())
