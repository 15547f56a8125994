"""The audio in the rows of a Parquet file, read when it is asked for."""

import os
import textwrap
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
from pyarrow import compute, parquet, types

from audiomos_cache.errors import DataError, shown
from audiomos_cache.files import opened, refuse_lfs_pointer

_BLOCK_BYTES = 1 << 24  # of audio, decoded at once
_KEPT_BLOCKS = 4  # of each file: several threads read, one a little before the other


@dataclass(frozen=True, slots=True)
class ParquetAudio:
    """The audio in a row of a Parquet file. It is read when it is asked for, and can be sent to other processes.

    Attributes:
        file: the Parquet file.
        version: of the file, when its rows were listed; see `file_version`.
        column: the bytes' column, as `audio.bytes`.
        group, index: the row group, and the row in it, from 0.
        row: the row in the file, from 1.
        name: of the audio file that the row was made from; empty where that is not known.
    """

    file: Path
    version: tuple[int, int]
    column: str
    group: int
    index: int
    row: int
    name: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}" + (f" ({shown(self.name)})" if self.name else "")

    def read_bytes(self) -> bytes:
        """Read the audio.

        Raises:
            DataError: the file is gone, damaged, or was changed.
        """
        if not self.exists():
            raise DataError(f"{self}: file not found; add it again")
        if file_version(self.file) != self.version:
            raise DataError(f"{self}: the file was changed after its rows were listed; start again to read the new one")
        with _opening:  # threads share a reader, each of which may hold a page of hundreds of rows
            reader = _open_reader(self.file, self.column, self.version)
        return reader.read(self)

    def exists(self) -> bool:
        """Return whether the Parquet file is there."""
        return self.file.exists()

    def stat(self) -> os.stat_result:
        """Return the status of the Parquet file."""
        return self.file.stat()


def file_version(path: Path) -> tuple[int, int]:
    """Return what changes when a file is written: its time and its size."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


class _Reader:
    """The audio of one Parquet file: forwards, in blocks, the last few of which are kept.

    Parquet has no index of single rows: to go back is to begin with the row group again. Extraction hardly ever does.
    What is in memory is a page and what it decompresses to: with the files of `datasets`, a row group of 100 rows.
    """

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column = path, column
        self._file = open_parquet(path)
        self._lock = Lock()
        self._recent: deque[tuple[int, int, pa.Array]] = deque(maxlen=_KEPT_BLOCKS)  # group, first row, its rows
        self._group, self._next = -1, 0
        self._cursor: Iterator[pa.Array] = iter(())

    def read(self, audio: ParquetAudio) -> bytes:
        """Read the audio of one row.

        Raises:
            DataError: the file is damaged.
        """
        with self._lock, damage_named(self._path):
            block, start = self._block(audio.group, audio.index)
            content = block[audio.index - start].as_py()
        if content is None:
            raise DataError(f"{audio}: no audio in it, expected bytes; write the file again, or remove the row")
        return bytes(content)

    def _block(self, group: int, index: int) -> tuple[pa.Array, int]:
        for found, start, block in self._recent:
            if found == group and start <= index < start + len(block):
                return block, start
        if group != self._group or index < self._next:
            self._group, self._next, self._cursor = group, 0, audio_blocks(self._file, self._column, group)
        for block in self._cursor:
            start, self._next = self._next, self._next + len(block)
            self._recent.append((group, start, block))
            if index < self._next:
                return block, start
        self._group = -1
        raise DataError(f"{self._path}: ends before row {index + 1} of its group {group + 1}; get it again")


_opening = Lock()


@lru_cache(maxsize=2)
def _open_reader(path: Path, column: str, _version: tuple[int, int]) -> _Reader:
    return _Reader(path, column)


def audio_blocks(file: Any, column: str, group: int) -> Iterator[pa.Array]:
    """Give a column of bytes of a row group, some rows at a time."""
    rows = file.metadata.row_group(group).num_rows
    size = file.metadata.row_group(group).total_byte_size
    batch_size = max(1, min(rows, _BLOCK_BYTES * rows // max(size, 1)))
    for batch in file.iter_batches(batch_size, row_groups=[group], columns=[column], use_threads=False):
        array = batch.column(0)
        yield compute.struct_field(array, "bytes") if types.is_struct(array.type) else array


def open_parquet(path: Path) -> Any:
    """Open a Parquet file so that of its columns only what is asked for is read.

    Raises:
        DataError: it is no file, or not Parquet.
    """
    with opened(path, "Parquet") as file:
        refuse_lfs_pointer(path, file.read(64))
    with damage_named(path):
        return parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises while it reads a file into an error of ours."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.errno else textwrap.shorten(str(error), 150)
        raise DataError(f"{path}: not Parquet, or damaged ({reason}); get it again") from error
