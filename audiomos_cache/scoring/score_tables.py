"""Scores as a table, a row for each clip: CSV, and Parquet, which keeps types. Read back only to see whose they are."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, NamedTuple

from audiomos_cache.errors import DataError
from audiomos_cache.escaping import csv_cell, from_csv_cell
from audiomos_cache.scoring.lines import Row
from audiomos_cache.targets import TARGETS

_ID = ("id", "path", "prompt")
_OF_TARGETS = tuple(name for each in TARGETS for name in (each, f"{each}_low", f"{each}_high"))
_FIRST = (*_ID, *_OF_TARGETS)
_FIRST_OF_SEVERAL = (*_ID, "duration_s", "warnings", "error")
_LISTS = ("warnings",)


class TableFormat(NamedTuple):
    """A kind of table.

    Attributes:
        encode: turns lines of scores into the bytes of a file; the same lines give the same bytes.
        read_ids: the ids of the clips in a file; it raises a DataError for a file that is no table of scores.
    """

    encode: Callable[[Sequence[Row]], bytes]
    read_ids: Callable[[Path], list[str]]


Table = dict[str, list[Any]]


def flatten(rows: Sequence[Row]) -> tuple[Table, Table]:
    """Turn lines of scores into columns, all of one length: ours, and the manifest's.

    An interval becomes two columns, `mi_low` and `mi_high`; each of the named `scores` but these two is a column after
    them. One of the manifest's that is called as a column of ours, such as `mi`, becomes `columns.mi`. Of several
    bundles, all that one says is in columns `BUNDLE.mi` and so on. What a line lacks is None.
    """
    ours: Table = {name: [row[name] for row in rows] for name in _ID}
    if any("bundles" in row for row in rows):
        ours |= {name: [row[name] for row in rows] for name in _FIRST_OF_SEVERAL if name not in _ID}
        for label in rows[0]["bundles"]:
            own = _columns_of_bundle([row["bundles"][label] for row in rows])
            ours |= {f"{label}.{name}": values for name, values in own.items()}
    else:
        own = _columns_of_bundle(rows)
        ours |= {name: own.pop(name) for name in [*own][: [*own].index(_AFTER_SCORES)]}
        ours |= {"duration_s": [row["duration_s"] for row in rows]} | own
    others: Table = {}
    for name in _names(row["columns"] for row in rows):
        column = _in_utf8(name)
        while column in ours or column in others:
            column = f"columns.{column}"
        others[column] = [row["columns"].get(name) for row in rows]
    return ours, others


_AFTER_SCORES = "windows"
_ENTRY = {"bundle": "name", "digest": "digest", "rule": "windows", "licence": "licence"}  # by the column


def _columns_of_bundle(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the columns of what one bundle says."""
    table: Table = {}
    for target in TARGETS:
        table[target] = [row[target] for row in rows]
        bounds = [row[f"{target}_interval"] or (None, None) for row in rows]
        table[f"{target}_low"], table[f"{target}_high"] = ([each[end] for each in bounds] for end in (0, 1))
    named = [name for name in _names(row["scores"] for row in rows) if name not in TARGETS]
    table |= {name: [row["scores"].get(name) for row in rows] for name in named}
    table["windows"] = [row["windows"] for row in rows]
    heard = [row["heard"] or (None, None) for row in rows]
    table["heard_from_s"], table["heard_to_s"] = ([each[end] for each in heard] for end in (0, 1))
    table |= {name: [row[name] for row in rows] for name in ("warnings", "error")}
    table |= {column: [row["bundle"][key] for row in rows] for column, key in _ENTRY.items()}
    return table


def _names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for each in mappings for name in each))


def _in_utf8(text: str) -> str:
    """Escape what UTF-8 cannot hold: bytes of a file's name, half a surrogate pair."""
    return text.encode(errors="backslashreplace").decode()


def _text(value: object) -> str | None:
    """Write a value of any type as text: a string as it is, others as JSON."""
    if value is None:
        return None
    return _in_utf8(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _base(column: str) -> str:
    """Return the name of one of our columns without that of the bundle."""
    return column.rpartition(".")[2]


def _is_ours(header: Sequence[str]) -> bool:
    return any(tuple(header[: len(each)]) == each for each in (_FIRST, _FIRST_OF_SEVERAL))


# CSV


def _to_csv(rows: Sequence[Row]) -> bytes:
    """Write UTF-8 with a header; what is missing is empty, warnings are joined by "; ", other values are JSON.

    Strings are `escaping.csv_cell`s.
    """
    ours, others = flatten(rows)
    ours |= {name: ["; ".join(each) for each in values] for name, values in ours.items() if _base(name) in _LISTS}
    table = ours | others
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(csv_cell, table))
    writer.writerows(zip(*(map(_csv_text, column) for column in table.values()), strict=True))
    return text.getvalue().encode()


def _csv_text(value: object) -> object:
    return csv_cell(_text(value)) if isinstance(value, str) else _text(value)


def _csv_ids(path: Path) -> list[str]:
    ids = []
    with path.open(newline="", encoding="utf-8", errors="replace") as file, suppress(csv.Error):
        reader = csv.reader(file)
        if _is_ours(next(reader, [])):
            try:
                ids += [from_csv_cell(fields[0]) for fields in reader if fields]
            except csv.Error:
                ids.append("")  # a row that nobody can read is of no clip
            return ids
    with path.open("rb") as content:
        raise DataError(f"begins with {content.read(40).decode(errors='replace')!r}, expected a table of scores")


# Parquet


def _to_parquet(rows: Sequence[Row]) -> bytes:
    """Write Parquet: strings, doubles, `windows` int64, `warnings` list<string>; the manifest's columns as they are.

    One of these that holds values of several types, or lists and objects, is text: strings as they are, others as JSON.
    """
    import pyarrow as pa
    from pyarrow import parquet

    ours, others = flatten(rows)
    own = {"windows": pa.int64(), "warnings": pa.list_(pa.string())}
    own |= dict.fromkeys((*_ID, "error", *_ENTRY), pa.string())
    arrays = {}
    for name, values in (ours | others).items():
        kind = own.get(_base(name), pa.float64()) if name in ours else _arrow_type(values)
        if kind == pa.string():
            values = [_text(each) for each in values]
        elif name in ours and _base(name) in _LISTS:
            values = [[_in_utf8(each) for each in warnings] for warnings in values]
        arrays[name] = pa.array(values, kind)
    file = BytesIO()
    parquet.write_table(pa.table(arrays), file)
    return file.getvalue()


def _arrow_type(values: Sequence[object]) -> Any:
    """Return the type that holds all values of a column of the manifest without changing one."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.bool_()
    whole = [value for value in values if type(value) is int]
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in whole):
        return pa.int64()
    is_exact = all(abs(value) <= 2**53 for value in whole)
    return pa.float64() if kinds and kinds <= {int, float} and is_exact else pa.string()


def _parquet_ids(path: Path) -> list[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            if _is_ours(file.schema_arrow.names):
                return [str(each) for each in file.read(["id"]).column("id").to_pylist()]
    except (pa.ArrowException, OSError):
        pass
    with path.open("rb") as content:
        raise DataError(f"begins with {content.read(4).decode(errors='replace')!r}, expected a table of scores")


TABLES = {".csv": TableFormat(_to_csv, _csv_ids), ".parquet": TableFormat(_to_parquet, _parquet_ids)}
"""By the suffix of the file."""
