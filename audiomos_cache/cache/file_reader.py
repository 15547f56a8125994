"""Reading one cache file: h5py checks the structure once, then reads at known offsets fetch the rows.

A file may come from anywhere, so nothing is trusted before it is checked: no links out of the file, no external or
virtual storage, no filters, and no array that claims to reach beyond the file's end. Index columns are read when they
are first asked for, and checked against their hashes then.
"""

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from audiomos_cache.artifacts import Fingerprint, require_format_version
from audiomos_cache.cache.format import (
    ATTRIBUTES,
    COLUMNS,
    FEATURE_DTYPES,
    FORMAT,
    FORMAT_VERSION,
    CachedClip,
    CachedPrompt,
    Header,
    feature_arrays,
    frames_arrays,
    hash_attributes,
    hash_column,
    hash_prompt,
    hash_rows,
    unpack_strings,
)
from audiomos_cache.cache.hdf5_checks import (
    REMEDY,
    InvalidFileError,
    StoredArray,
    check_column,
    check_shapes,
    json_object,
    read_attribute,
    refuse_large_attributes,
    stored_array,
)
from audiomos_cache.cache.stable_file import StableFile
from audiomos_cache.errors import CacheError, FormatVersionError, in_one_line, quoted
from audiomos_cache.files import require_file


class CacheFile:
    """One file of a cache, checked when it is opened, hash-checked whenever something is read from it.

    Safe to use from several threads, and after a fork or pickling.

    Args:
        path: the file.
        keep_open: see `StableFile`.
    Attributes:
        header: what describes the file as a whole.
    Raises:
        CacheError: not a cache file, damaged, or of another format version.
    """

    def __init__(self, path: Path, *, keep_open: bool = False) -> None:
        self.path = path
        self._columns: dict[str, NDArray[Any]] = {}
        try:
            require_file(path, "a cache file", CacheError)
            with path.open("rb", buffering=0) as raw:
                self._file = StableFile(path, raw, keep_open=keep_open)
                size = os.fstat(raw.fileno()).st_size
                with h5py.File(raw, "r") as file:
                    attributes = _read_attributes(file, path)
                    layers = tuple(int(layer) for layer in attributes["layers"].split(","))
                    fingerprint = _fingerprint(attributes)
                    types = dict.fromkeys(feature_arrays(layers), (FEATURE_DTYPES[fingerprint.fields["dtype"]], 2))
                    self._arrays = {
                        name: stored_array(file, name, dtype, ndim, size)
                        for name, (dtype, ndim) in (COLUMNS | types).items()
                    }
            self._shapes = {name: stored.shape for name, stored in self._arrays.items()}
            check_shapes(self._shapes, layers)
            self._layers = layers
            self._column_hashes = json_object(attributes, "columns_json")
            self.header = self._header(attributes, fingerprint)
            self.column("audio/valid_frames")  # and with it the offsets: what every reading needs
        except InvalidFileError as error:
            raise CacheError(f"{path}: {error}") from error
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = in_one_line(error)
            raise CacheError(f"{path}: cannot be read as a cache file ({reason}); {REMEDY}") from error

    def __len__(self) -> int:
        return self._shapes["clips/mi"][0]

    def column(self, name: str) -> NDArray[Any]:
        """Return an index column, one of `format.COLUMNS`; read and checked when first asked for.

        Raises:
            CacheError: it does not match its hash, or contradicts another.
        """
        if name not in self._columns:
            stored = self._arrays[name]
            values = np.empty(stored.shape, stored.dtype)
            self._file.read(stored.offset, values, lambda: f"/{name}")
            try:
                if hash_column(name, values) != self._column_hashes.get(name):
                    raise InvalidFileError(f"the index does not match its hash (/{name})")
                check_column(name, values, self._shapes, self._layers, self.column)
            except InvalidFileError as error:
                raise CacheError(f"{self.path}: {error}") from error
            values.flags.writeable = False
            self._columns[name] = values
        return self._columns[name]

    @cached_property
    def ids(self) -> list[str]:
        """Ids of the clips, in the file's order."""
        ids = self._strings("clips/id")
        if len(set(ids)) < len(ids):
            raise CacheError(f"{self.path}: an id is in it twice; {REMEDY}")
        return ids

    @cached_property
    def systems(self) -> list[str]:
        """System of each clip."""
        return self._strings("clips/system")

    @cached_property
    def prompt_ids(self) -> list[str]:
        """Prompt id of each clip."""
        return self._strings("clips/prompt_id")

    @cached_property
    def prompts(self) -> list[str]:
        """The distinct prompts of the file."""
        return self._strings("text/prompt")

    def release(self) -> None:
        """Close the descriptor that `keep_open` holds; the file is opened for each read from now on."""
        self._file.release()

    def frames_of(self, index: int) -> int:
        """Return how many frames of a clip are stored, those from padding included."""
        offsets = self.column("audio/offsets")
        return int(offsets[index + 1] - offsets[index])

    def prompt_row(self, index: int) -> int:
        """Return the row of a clip's prompt among the distinct prompts of the file."""
        return int(self.column("clips/prompt_row")[index])

    def clip(self, index: int) -> CachedClip:
        """Return all that the file contains about a clip, features aside."""
        return CachedClip(
            id=self.ids[index],
            system=self.systems[index],
            prompt_id=self.prompt_ids[index],
            prompt=self.prompts[self.prompt_row(index)],
            mi=float(self.column("clips/mi")[index]),
            ta=float(self.column("clips/ta")[index]),
            duration_s=float(self.column("clips/duration_s")[index]),
            audio_hash=self.column("clips/audio_hash")[index].tobytes(),
            frames=self.frames_of(index),
            valid_frames=int(self.column("audio/valid_frames")[index]),
            feature_hash=tuple(row.tobytes() for row in self.column("clips/feature_hash")[index]),
            padding_hash=tuple(row.tobytes() for row in self.column("clips/padding_hash")[index]),
            position=int(self.column("clips/position")[index]),
        )

    def read_frames(
        self, index: int, out: NDArray[Any] | None = None, *, layer: int | None = None, padding: bool = False
    ) -> NDArray[Any]:
        """Read a clip's frames of one layer and check their hash.

        Args:
            index: of the clip in the file.
            out: C-contiguous (at least that many rows, audio_dim) of the stored dtype; None: a new array.
            layer: one of the stored layers; None: the only one.
            padding: also the frames that come from padding, after the valid ones.
        Returns:
            (frames, audio_dim), a view of `out`.
        Raises:
            CacheError: the layer is not stored, the file is too short, or the hash differs; names the clip.
        """
        which = self._which_layer(layer)
        valid = int(self.column("audio/valid_frames")[index])
        rows = self.frames_of(index) if padding else valid
        stored = self._arrays[frames_arrays(self._layers)[which]]

        def what() -> str:
            return f"clip {self._name(index)}"

        found = self._read_rows(stored, int(self.column("audio/offsets")[index]), rows, out, what)
        self._check_hash(found[:valid], self.column("clips/feature_hash")[index, which], what)
        if padding:
            self._check_hash(found[valid:], self.column("clips/padding_hash")[index, which], what)
        return found

    def read_prompt(self, row: int) -> CachedPrompt:
        """Read the features of a distinct prompt and check their hash.

        Raises:
            CacheError: as `read_frames`; names the prompt.
        """

        def what() -> str:
            return f"prompt {quoted(self.prompts[row])}"

        start, end = self.column("text/offsets")[row : row + 2].tolist()
        prompt = CachedPrompt(
            text=self.prompts[row],
            tokens=self._read_rows(self._arrays["text/tokens"], start, end - start, None, what),
            pad_vector=self._read_rows(self._arrays["text/pad_vector"], row, 1, None, what)[0],
        )
        if hash_prompt(prompt) != self.column("text/feature_hash")[row].tobytes():
            raise CacheError(f"{self.path}, {what()}: the stored features do not match their hash; {REMEDY}")
        return prompt

    def _which_layer(self, layer: int | None) -> int:
        if layer is None and len(self._layers) == 1:
            return 0
        if layer not in self._layers:
            found = "no layer was requested" if layer is None else f"layer {layer} is not stored"
            raise CacheError(f"{self.path}: {found}, expected one of {', '.join(map(str, self._layers))}")
        return self._layers.index(layer)

    def _check_hash(self, rows: NDArray[Any], expected: NDArray[np.uint8], what: Callable[[], str]) -> None:
        if hash_rows(rows) != expected.tobytes():
            raise CacheError(f"{self.path}, {what()}: the stored frames do not match their hash; {REMEDY}")

    def _read_rows(
        self, stored: StoredArray, start: int, rows: int, out: NDArray[Any] | None, what: Callable[[], str]
    ) -> NDArray[Any]:
        dim, dtype = stored.shape[1], stored.dtype
        target = np.empty((rows, dim), dtype) if out is None else out[:rows]
        if target.dtype != dtype or target.shape != (rows, dim) or not target.flags.c_contiguous:
            raise ValueError(f"out is {target.dtype} {target.shape}, expected contiguous {dtype} ({rows}, {dim})")
        self._file.read(stored.offset + start * dim * dtype.itemsize, target, what)
        return target

    def _name(self, index: int) -> str:
        """Return a clip's id for a message, without decoding all ids; its index where the file is too damaged."""
        try:
            start, end = self.column("clips/id/offsets")[index : index + 2].tolist()
            return self.column("clips/id/bytes")[start:end].tobytes().decode(errors="replace")
        except CacheError:
            return f"{index + 1} of {len(self)}"

    def _strings(self, name: str) -> list[str]:
        try:
            return unpack_strings(self.column(f"{name}/bytes"), self.column(f"{name}/offsets"))
        except UnicodeDecodeError as error:
            raise CacheError(f"{self.path}: /{name} is not UTF-8 text; {REMEDY}") from error

    def _header(self, attributes: dict[str, Any], fingerprint: Fingerprint) -> Header:
        return Header(
            split=attributes["split"],
            fingerprint=fingerprint,
            audio_dim=self._shapes[frames_arrays(self._layers)[0]][1],
            text_dim=self._shapes["text/tokens"][1],
            layers=self._layers,
            provenance=json_object(attributes, "provenance_json", of=dict),
            skipped=tuple(zip(self._strings("skipped/id"), self._strings("skipped/reason"), strict=True)),
            list_hash=attributes["list_hash"],
            list_length=attributes["list_length"],
            batch_size=attributes["batch_size"],
            complete=bool(attributes["complete"]),
            split_hash=attributes["split_hash"],
            file_index=attributes["file_index"],
            file_count=attributes["file_count"],
        )


def _read_attributes(file: h5py.File, path: Path) -> dict[str, Any]:
    """Return the attributes of a file, strings decoded, after checking their hash."""
    refuse_large_attributes(file)
    if "format" not in file.attrs or read_attribute(file, "format", bytes) != FORMAT:
        raise InvalidFileError("an HDF5 file, but not an audiomos_cache file")
    version = read_attribute(file, "format_version", int)
    writer = read_attribute(file, "package_version", bytes).decode() if version > FORMAT_VERSION else ""
    update = f"install audiomos-cache {writer}, which wrote it"
    require_format_version(
        path, version, FORMAT_VERSION, again="extract it again", error=FormatVersionError, update=update
    )
    attributes = {name: read_attribute(file, name, kind) for name, kind in ATTRIBUTES.items()}
    if hash_attributes(attributes).encode() != read_attribute(file, "index_hash", bytes):
        raise InvalidFileError("the index does not match its hash (attributes)")
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}


def _fingerprint(attributes: dict[str, Any]) -> Fingerprint:
    fingerprint = Fingerprint(attributes["fingerprint_json"])
    if fingerprint.digest != attributes["fingerprint"]:
        raise InvalidFileError("its fingerprint does not match its readable form")
    return fingerprint
