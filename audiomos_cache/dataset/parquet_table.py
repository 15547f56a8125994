"""Tables of Parquet as the Hugging Face hub has them: labels and prompts in columns, audio as bytes.

The feature `Audio` of `datasets` is a struct of `bytes` and `path`, of which either may be null.
"""

from collections.abc import Collection, Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute, types

from audiomos_cache.dataset.columns import PROMPT, Columns, find_columns
from audiomos_cache.dataset.parquet_audio import ParquetAudio, audio_blocks, damage_named, file_version, open_parquet
from audiomos_cache.dataset.parquet_files import split_of
from audiomos_cache.errors import DataError, shown


class ParquetTable:
    """The rows of a Parquet file, by our names of its columns; its audio is left where it is.

    Args:
        path: the file.
        columns: the names that it has for some of our columns; None: the caller takes none.
        needs: "prompt", if a column of prompts has to be there.
        reads: our columns of which there must be no doubt.
        place: its path in its dataset, which may say what its split is; None: its name alone.

    Raises:
        DataError: it is not Parquet, or lacks a column.
    """

    def __init__(
        self,
        path: Path,
        columns: Columns | None,
        needs: Collection[str],
        reads: Collection[str],
        place: PurePath | None = None,
    ) -> None:
        self.path = path
        self._split = split_of(place or PurePath(path.name))
        self._file = open_parquet(path)
        self._version = file_version(path)
        self._schema = self._file.schema_arrow
        if len(set(self._schema.names)) < len(self._schema.names):
            raise self._lacking("no name twice", "; write it again with one each")
        self._columns = self._find(columns, reads)
        if _is_string(self._type("audio")):  # of paths alone
            self._columns["path"] = self._columns.pop("audio")
        self._require(needs, "" if columns is None else "; name them with --columns")

    @property
    def unread(self) -> list[str]:
        """The columns that are not read."""
        return [name for name in self._schema.names if name not in self._columns.values()]

    def _find(self, columns: Columns | None, reads: Collection[str]) -> dict[str, str]:
        """Return the file's names of our columns: those given, else the usual ones."""
        names = self._schema.names
        if absent := [name for name in (columns or {}).values() if name not in names]:
            raise self._lacking(", ".join(absent), "; name them with --columns")
        try:
            return find_columns(names, columns or {}, reads, can_be_given=columns is not None)
        except DataError as problem:
            raise DataError(f"{self.path}: {problem}") from None

    def _lacking(self, expected: str, hint: str) -> DataError:
        names = ", ".join(map(shown, self._schema.names))
        return DataError(f"{self.path}: found the columns {names}, expected {expected}{hint}")

    def _type(self, column: str) -> pa.DataType | None:
        return self._schema.field(self._columns[column]).type if column in self._columns else None

    def _require(self, needs: Collection[str], hint: str) -> None:
        lacking = [] if {"audio", "path"} & self._columns.keys() else ["audio (or path)"]
        if "prompt" in needs and "prompt" not in self._columns:
            lacking.append(PROMPT)
            hint = hint and f"{hint}, or put MusicEval's prompt_info.txt next to the file"
        if lacking:
            raise self._lacking(" and ".join(lacking), hint)
        if "audio" in self._columns and self._audio_columns()[0] is None:
            raise DataError(
                f"{self.path}: the column {self._columns['audio']} is {self._type('audio')!s:.100}, expected a "
                "struct of bytes and path, or bytes; cast it with datasets' Audio(decode=False)"
            )

    def _audio_columns(self) -> tuple[str | None, list[str]]:
        """Return the columns of the audio's bytes, and of the audio files' paths, as pyarrow selects them."""
        kind = self._type("audio")
        if kind is None:
            return None, []
        name = self._columns["audio"]
        if not types.is_struct(kind):
            return name if _is_binary(kind) else None, []
        fields = {field.name: field.type for field in kind}
        paths = [f"{name}.path"] if "path" in fields and _is_string(fields["path"]) else []
        return f"{name}.bytes" if _is_binary(fields.get("bytes", pa.null())) else None, paths

    def rows(self, *, opens_audio: bool) -> Iterator[tuple[int, dict[str, object]]]:
        """Give each row's number, from 1, and its values by our names.

        `audio` is a `ParquetAudio`, or None where the row has no bytes; then `path` may say where its audio is. Where a
        row names no split, it is that of the file's place. Numbers of clips and systems are strings.

        Args:
            opens_audio: False: whether a row has audio does not matter.
        Raises:
            DataError: the file is damaged.
        """
        embedded, _ = self._audio_columns()
        row = 0
        for group in range(self._file.num_row_groups):
            columns, has_bytes = self._read_group(group, embedded if opens_audio else None)
            for index in range(len(has_bytes)):
                row += 1
                content = {ours: column[index] for ours, column in columns.items()}
                content["split"] = content.get("split") or self._split
                if embedded:
                    name = PurePath(str(content.get("path") or "").replace("\\", "/")).name
                    audio = ParquetAudio(self.path, self._version, embedded, group, index, row, name)
                    content["audio"] = audio if has_bytes[index] else None
                yield row, content

    def _read_group(self, group: int, embedded: str | None) -> tuple[dict[str, list[object]], np.ndarray]:
        """Read our columns of a row group but the audio, and (rows,) whether each row has some."""
        own = {ours: name for ours, name in self._columns.items() if ours != "audio"}
        _, paths = self._audio_columns()
        with damage_named(self.path):
            count = self._file.metadata.row_group(group).num_rows
            table = self._file.read_row_group(group, columns=[*own.values(), *paths], use_threads=False)
            columns = {ours: _values(ours, table.column(name)) for ours, name in own.items()}
            if paths:
                inner = compute.struct_field(table.column(self._columns["audio"]), "path").to_pylist()
                columns["path"] = [a or b for a, b in zip(inner, columns.get("path", [None] * count), strict=True)]
            has_bytes = ~self._without_bytes(group, embedded) if embedded else np.ones(count, bool)
            if any(len(column) != count for column in (*columns.values(), has_bytes)):
                raise pa.ArrowInvalid("columns of different lengths")
        return columns, has_bytes

    def _without_bytes(self, group: int, column: str) -> np.ndarray:
        """Return (rows,) whether each row of a group has no audio; hardly ever is that read from the audio itself."""
        metadata = self._file.metadata.row_group(group)
        leaves = (metadata.column(number) for number in range(metadata.num_columns))
        leaf = next((leaf for leaf in leaves if leaf.path_in_schema == column), None)
        if (
            leaf is not None
            and leaf.statistics is not None
            and leaf.statistics.has_null_count
            and not leaf.statistics.null_count
        ):
            return np.zeros(metadata.num_rows, bool)
        blocks = (np.asarray(block.is_null()) for block in audio_blocks(self._file, column, group))
        return np.concatenate([np.zeros(0, bool), *blocks])


_BINARY = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
_STRING = (types.is_string, types.is_large_string, types.is_string_view)


def _is_binary(kind: Any) -> bool:
    return any(check(_plain(kind)) for check in _BINARY)


def _is_string(kind: Any) -> bool:
    return kind is not None and any(check(_plain(kind)) for check in _STRING)


def _plain(kind: Any) -> Any:
    """Return the type of the values of a column, which may hold each of them once, and their numbers."""
    return kind.value_type if types.is_dictionary(kind) else kind


def _values(ours: str, column: Any) -> list[object]:
    """Return the values of a column, with None for NaN, which is what pandas writes for it.

    Numbers that name something are strings; those of 32 bits get no digits more.
    """
    kind, values = _plain(column.type), [None if value != value else value for value in column.to_pylist()]
    if ours in ("id", "system", "split"):
        return [str(value) if isinstance(value, int) else value for value in values]
    if types.is_decimal(kind):
        return [None if value is None else float(value) for value in values]
    if types.is_float16(kind) or types.is_float32(kind):
        written = kind.to_pandas_dtype()
        return [None if value is None else float(str(written(value))) for value in values]
    return list(values)
