"""Reading one cache file: h5py checks the structure, then plain positioned reads fetch the rows.

A file may come from anywhere, so nothing is believed before it is checked: no links out of the file, no external or
virtual storage, no filters, and no array that claims to reach beyond the file's end.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from audiomos_cache.cache.fingerprint import Fingerprint
from audiomos_cache.cache.format import (
    FEATURE_DTYPES,
    FEATURES,
    FORMAT,
    FORMAT_VERSION,
    HASH_BYTES,
    INDEX,
    STRINGS,
    CachedClip,
    CachedPrompt,
    Header,
    hash_prompt,
    hash_rows,
    index_hash,
    unpack_strings,
)
from audiomos_cache.cache.plain import REMEDY, plain_dataset
from audiomos_cache.errors import CacheError

_ATTRIBUTES = ("format", "format_version", "package_version", "split", "fingerprint", "fingerprint_json",
               "provenance_json", "complete", "file_index", "file_count")  # fmt: skip


class CacheFile:
    """One file of a cache, checked when it is opened, hash-checked whenever features are read.

    Safe to use from several threads, and after a fork or pickling: no descriptor is kept open.

    Raises:
        CacheError: not a cache file, damaged, or of a newer format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            size = path.stat().st_size
            with h5py.File(path, "r", locking=False) as file:
                self._identity = _file_identity(path)
                attributes = self._read_attributes(file)
                self._arrays = {
                    name: plain_dataset(file, name, dtype, ndim, size)[()]
                    for name, (dtype, ndim) in _all_index_arrays().items()
                }
                self._places = {name: self._place(file, name, size) for name in FEATURES}
            self._check_consistency(attributes)
            self.header = self._header(attributes)
            self._check_places(attributes)
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise CacheError(f"{path}: cannot be read as a cache file ({reason}); {REMEDY}") from error

    def __len__(self) -> int:
        return len(self._arrays["clips/mi"])

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The index arrays by name, as `format.INDEX` lists them."""
        return self._arrays

    @cached_property
    def ids(self) -> list[str]:
        """Ids of the clips, in the file's order."""
        return self._strings("clips/id")

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
        """The texts of the file's distinct prompts."""
        return self._strings("text/prompt")

    def clip(self, index: int) -> CachedClip:
        """Return all that is recorded of a clip."""
        a = self._arrays
        return CachedClip(
            id=self.ids[index],
            system=self.systems[index],
            prompt_id=self.prompt_ids[index],
            prompt=self.prompts[a["clips/prompt_row"][index]],
            mi=float(a["clips/mi"][index]),
            ta=float(a["clips/ta"][index]),
            duration_s=float(a["clips/duration_s"][index]),
            audio_hash=a["clips/audio_hash"][index].tobytes(),
            frames=int(a["audio/offsets"][index + 1] - a["audio/offsets"][index]),
            valid_frames=int(a["audio/valid_frames"][index]),
            feature_hash=a["clips/feature_hash"][index].tobytes(),
            padding_hash=a["clips/padding_hash"][index].tobytes(),
        )

    def read_frames(self, index: int, out: NDArray[Any] | None = None, *, padding: bool = False) -> NDArray[Any]:
        """Read a clip's frames and check their hash.

        Args:
            index: place of the clip in the file.
            out: C-contiguous (at least that many rows, audio_dim) of the stored dtype; None: a new array.
            padding: also the frames that come from padding, after the valid ones.
        Returns:
            (frames, audio_dim), a view of `out`.
        Raises:
            CacheError: the file ends too early, or the hash is not the recorded one; names the clip.
        """
        offsets, valid = self._arrays["audio/offsets"], int(self._arrays["audio/valid_frames"][index])
        start, rows = int(offsets[index]), int(offsets[index + 1] - offsets[index]) if padding else valid
        what = f"clip {self.ids[index]}"
        found = self._read_rows("audio/frames", start, rows, out, what)
        self._check_hash(found[:valid], self._arrays["clips/feature_hash"][index], what)
        if padding:
            self._check_hash(found[valid:], self._arrays["clips/padding_hash"][index], what)
        return found

    def read_prompt(self, row: int) -> CachedPrompt:
        """Read the features of a distinct prompt and check their hash.

        Raises:
            CacheError: as `read_frames`; names the prompt.
        """
        offsets = self._arrays["text/offsets"]
        what = f"prompt {self.prompts[row]!r}"
        start, rows = int(offsets[row]), int(offsets[row + 1] - offsets[row])
        prompt = CachedPrompt(
            text=self.prompts[row],
            tokens=self._read_rows("text/tokens", start, rows, None, what),
            pad_vector=self._read_rows("text/pad_vector", row, 1, None, what)[0],
        )
        if hash_prompt(prompt) != self._arrays["text/feature_hash"][row].tobytes():
            raise CacheError(f"{self.path}, {what}: the stored features do not match their hash; {REMEDY}")
        return prompt

    def _check_hash(self, rows: NDArray[Any], expected: NDArray[np.uint8], what: str) -> None:
        if hash_rows(rows) != expected.tobytes():
            raise CacheError(f"{self.path}, {what}: the stored frames do not match their hash; {REMEDY}")

    def _read_rows(self, name: str, start: int, rows: int, out: NDArray[Any] | None, what: str) -> NDArray[Any]:
        offset, dim, dtype = self._places[name]
        target = np.empty((rows, dim), dtype) if out is None else out[:rows]
        if target.dtype != dtype or target.shape != (rows, dim) or not target.flags.c_contiguous:
            raise ValueError(f"out is {target.dtype} {target.shape}, expected contiguous {dtype} ({rows}, {dim})")
        view = target.reshape(-1).view(np.uint8).data
        position = offset + start * dim * dtype.itemsize
        with self._opened() as descriptor:
            while view:
                count = os.preadv(descriptor, [view], position)
                if count == 0:
                    raise CacheError(f"{self.path}, {what}: the file ends before its features; {REMEDY}")
                view, position = view[count:], position + count
        return target

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the file for one read: some microseconds, and any number of files, threads and processes will do."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _file_identity(descriptor) != self._identity:
                raise CacheError(f"{self.path}: was replaced after it was opened; start again to read the new file")
            yield descriptor
        finally:
            os.close(descriptor)

    def _strings(self, name: str) -> list[str]:
        try:
            return unpack_strings(self._arrays[f"{name}/bytes"], self._arrays[f"{name}/offsets"])
        except UnicodeDecodeError as error:
            raise CacheError(f"{self.path}: /{name} is not UTF-8 text; {REMEDY}") from error

    def _read_attributes(self, file: h5py.File) -> dict[str, Any]:
        if file.attrs.get("format") != FORMAT:
            raise CacheError(f"{self.path}: an HDF5 file, but not an audiomos_cache file")
        version = int(file.attrs["format_version"])
        if version > FORMAT_VERSION:
            raise CacheError(
                f"{self.path}: cache format {version}, this version reads up to {FORMAT_VERSION}; "
                f"install audiomos-cache {file.attrs['package_version'].decode()}, which wrote it"
            )
        return {name: file.attrs[name] for name in (*_ATTRIBUTES, "index_hash")}

    def _place(self, file: h5py.File, name: str, size: int) -> tuple[int, int, np.dtype[Any]]:
        """Return offset in the file, width and dtype of a feature array."""
        node = plain_dataset(file, name, None, 2, size)
        if node.dtype.str not in FEATURE_DTYPES.values():
            raise CacheError(f"{self.path}: /{name} is {node.dtype.str}, expected a little-endian float; {REMEDY}")
        offsets = {"audio/frames": "audio/offsets", "text/tokens": "text/offsets"}
        rows = self._arrays[offsets[name]][-1:].sum() if name in offsets else len(self._arrays["text/feature_hash"])
        if node.shape[0] != rows:
            raise CacheError(f"{self.path}: /{name} has {node.shape[0]} rows, its index says {rows}; {REMEDY}")
        return node.id.get_offset() or 0, node.shape[1], node.dtype

    def _check_consistency(self, attributes: dict[str, Any]) -> None:
        a = self._arrays
        found = index_hash({name: attributes[name] for name in _ATTRIBUTES}, a)
        if found.encode() != attributes["index_hash"]:
            raise CacheError(f"{self.path}: the index does not match its hash; {REMEDY}")
        clips, prompts = len(a["clips/mi"]), len(a["text/feature_hash"])
        per_clip = [len(a[name]) for name in INDEX if name.startswith("clips/")]
        per_clip += [len(a[f"{name}/offsets"]) - 1 for name in STRINGS if name.startswith("clips/")]
        per_clip += [len(a["audio/offsets"]) - 1, len(a["audio/valid_frames"])]
        lengths = np.diff(a["audio/offsets"])
        packed = [(a[f"{name}/offsets"], len(a[f"{name}/bytes"])) for name in STRINGS]
        sound = (
            set(per_clip) == {clips}
            and len(a["text/offsets"]) == len(a["text/prompt/offsets"]) == prompts + 1
            and len(a["skipped/id/offsets"]) == len(a["skipped/reason/offsets"])
            and all(_monotone(offsets, end) for offsets, end in packed)
            and _monotone(a["audio/offsets"])
            and _monotone(a["text/offsets"])
            and bool((a["audio/valid_frames"] >= 1).all() and (a["audio/valid_frames"] <= lengths).all())
            and bool((a["clips/prompt_row"] >= 0).all() and (a["clips/prompt_row"] < prompts).all())
            and all(a[name].shape[1:] == (HASH_BYTES,) for name in INDEX if name.endswith("_hash"))
        )
        if not sound:
            raise CacheError(f"{self.path}: its index arrays contradict each other; {REMEDY}")

    def _check_places(self, attributes: dict[str, Any]) -> None:
        """Check the fingerprint, and that features have the one type that it says, and tokens one width."""
        if self.header.fingerprint.digest.encode() != attributes["fingerprint"]:
            raise CacheError(f"{self.path}: its fingerprint does not match its readable form; {REMEDY}")
        (_, _, frames_dtype), *text = self._places.values()
        if {frames_dtype, *(dtype for _, _, dtype in text)} != {self.header.dtype} or text[0][1] != text[1][1]:
            raise CacheError(f"{self.path}: its features are not of one type and width; {REMEDY}")

    def _header(self, attributes: dict[str, Any]) -> Header:
        return Header(
            split=attributes["split"].decode(),
            fingerprint=Fingerprint(attributes["fingerprint_json"].decode()),
            audio_dim=self._places["audio/frames"][1],
            text_dim=self._places["text/tokens"][1],
            provenance=json.loads(attributes["provenance_json"]),
            skipped=tuple(zip(self._strings("skipped/id"), self._strings("skipped/reason"), strict=True)),
            complete=bool(attributes["complete"]),
            file_index=int(attributes["file_index"]),
            file_count=int(attributes["file_count"]),
        )


def _all_index_arrays() -> dict[str, tuple[str, int]]:
    strings = {f"{name}/bytes": ("|u1", 1) for name in STRINGS} | {f"{name}/offsets": ("<i8", 1) for name in STRINGS}
    return INDEX | strings


def _monotone(offsets: NDArray[np.int64], end: int | None = None) -> bool:
    return (
        len(offsets) > 0
        and offsets[0] == 0
        and bool((np.diff(offsets) >= 0).all())
        and (end is None or int(offsets[-1]) == end)
    )


def _file_identity(file: Path | int) -> tuple[int, int]:
    status = os.fstat(file) if isinstance(file, int) else file.stat()
    return status.st_dev, status.st_ino
