"""Scores as CSV and Parquet: the same numbers as the lines, types, names that collide, the same bytes."""

import csv
import json
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from audiomos_cache.errors import DataError
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.lines import Row, to_line
from audiomos_cache.scoring.results import Score
from audiomos_cache.scoring.score_tables import TABLES
from tests.support.score_lines import BUNDLE, ITEMS, OTHER, SEVERAL, entries, score, score_of_several

COLUMNS = [
    "id", "path", "prompt", "mi", "mi_low", "mi_high", "ta", "ta_low", "ta_high", "mi_spread", "ta_spread",
    "duration_s", "windows", "heard_from_s", "heard_to_s", "warnings", "error", "bundle", "digest", "rule", "licence",
]  # fmt: skip


def row(made: Score) -> Row:
    """As it is read back from a line."""
    content: Row = json.loads(to_line(made, SEVERAL if made.bundles else entries()))
    return content


def columns_of(item: Item, **values: Any) -> Row:
    return row(score(item, columns=values))


def as_csv(rows: list[Row]) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(TABLES[".csv"].encode(rows).decode(), newline="")))


def as_parquet(rows: list[Row]) -> pa.Table:
    return parquet.read_table(BytesIO(TABLES[".parquet"].encode(rows)))


FULL = Score(
    "a", "m/a.wav", 'sad "blues",\nslow', 3.123456789, 2.0, (1.5, 4.25), (1.0, 5.0),
    {"mi": 3.123456789, "ta": 2.0, "mi_spread": 0.1, "ta_spread": None}, 40.5, 2, (0.0, 40.0),
    ("clipped: 2.0 %", "odd"),
)  # fmt: skip
NONE = dict.fromkeys(("mi", "ta", "mi_spread", "ta_spread"))
FAILED = Score("b", None, None, scores=NONE, error="b: no audio")


def test_a_row_has_every_value_of_its_line() -> None:
    rows = [row(FULL), row(FAILED)]
    expected = {
        "id": "a", "path": "m/a.wav", "prompt": 'sad "blues",\nslow', "mi": 3.123457, "mi_low": 1.5, "mi_high": 4.25,
        "ta": 2.0, "ta_low": 1.0, "ta_high": 5.0, "mi_spread": 0.1, "ta_spread": None, "duration_s": 40.5, "windows": 2,
        "heard_from_s": 0.0, "heard_to_s": 40.0, "warnings": ["clipped: 2.0 %", "odd"], "error": None,
        "bundle": "model", "digest": BUNDLE, "rule": "mean of 30 s", "licence": "mit",
    }  # fmt: skip
    failed = dict.fromkeys(COLUMNS) | {
        "id": "b",
        "windows": 0,
        "warnings": [],
        "error": "b: no audio",
        "bundle": "model",
        "digest": BUNDLE,
        "rule": "mean of 30 s",
        "licence": "mit",
    }
    table = as_parquet(rows)
    assert table.column_names == list(as_csv(rows)[0]) == COLUMNS
    assert table.to_pylist() == [expected, failed]
    text = {name: "" if value is None else str(value) for name, value in expected.items()}
    assert as_csv(rows)[0] == text | {"warnings": "clipped: 2.0 %; odd"}
    assert as_csv(rows)[1] == dict.fromkeys(COLUMNS, "") | {
        "id": "b", "windows": "0", "error": "b: no audio", "bundle": "model", "digest": BUNDLE,
        "rule": "mean of 30 s", "licence": "mit",
    }  # fmt: skip


def test_parquet_has_types_also_where_every_value_is_missing() -> None:
    for rows in ([row(FULL)], [row(FAILED)]):
        kinds = {name: str(kind) for name, kind in zip(COLUMNS, as_parquet(rows).schema.types, strict=True)}
        strings = {"id", "path", "prompt", "error", "bundle", "digest", "rule", "licence"}
        assert {name for name, kind in kinds.items() if kind == "string"} == strings
        assert (kinds["windows"], kinds["warnings"]) == ("int64", "list<element: string>")
        assert {kind for name, kind in kinds.items() if name not in {*strings, "windows", "warnings"}} == {"double"}


@pytest.mark.parametrize(
    ("values", "kind", "typed", "text"),
    [
        (["007", "é"], "string", ["007", "é"], ["007", "é"]),
        ([1, None], "int64", [1, None], ["1", ""]),
        ([1, 0.1], "double", [1.0, 0.1], ["1", "0.1"]),
        ([True, False], "bool", [True, False], ["true", "false"]),
        ([True, 1], "string", ["true", "1"], ["true", "1"]),
        ([None, None], "string", [None, None], ["", ""]),
        (["x", 2], "string", ["x", "2"], ["x", "2"]),
        ([2**70, 1], "string", [str(2**70), "1"], [str(2**70), "1"]),
        ([2**60, 0.5], "string", [str(2**60), "0.5"], [str(2**60), "0.5"]),
        ([["a", 1], {"b": None}], "string", ['["a", 1]', '{"b": null}'], ['["a", 1]', '{"b": null}']),
    ],
)
def test_the_columns_of_a_manifest_keep_their_values(
    values: list[object], kind: str, typed: list[object], text: list[str]
) -> None:
    rows = [columns_of(item, own=value) for item, value in zip(ITEMS, values, strict=False)]
    found = as_parquet(rows).column("own")
    assert (str(found.type), found.to_pylist()) == (kind, typed)
    assert [each["own"] for each in as_csv(rows)] == text


def test_columns_that_are_called_as_ours_are_told_apart() -> None:
    rows = [row(score(ITEMS[0], columns={"mi": 1, "columns.mi": 2, "ta_low": "x"})), columns_of(ITEMS[1], error="e")]
    added = ["columns.mi", "columns.columns.mi", "columns.ta_low", "columns.error"]
    table = as_parquet(rows)
    assert table.column_names == list(as_csv(rows)[0]) == [*COLUMNS, *added]
    assert [table.column(name).to_pylist() for name in added] == [[1, None], [2, None], ["x", None], [None, "e"]]
    assert table.column("mi").to_pylist() == [3.25, 3.25]


def test_further_scores_come_after_the_intervals() -> None:
    more = score(ITEMS[0], scores={"mi": 3.25, **NONE, "ta_without_prompt": 2.125})
    table = as_parquet([row(more), row(FAILED)])
    assert table.column_names == [*COLUMNS[:11], "ta_without_prompt", *COLUMNS[11:]]
    assert table.column("ta_without_prompt").to_pylist() == [2.125, None]


def test_a_row_of_several_bundles_has_all_that_each_says(tmp_path: Path) -> None:
    """And its columns are told from the manifest's, also where those are called as a bundle's."""
    failed = score(ITEMS[1], mi=None, ta=None, scores={}, windows=0, error="too long", warnings=("odd", "b"))
    rows = [
        row(score_of_several(ITEMS[0], columns={"model.mi": "mine", "warnings": 1})),
        row(score_of_several(ITEMS[1], failed, error="muq-eval-a1: too long", warnings=("clipped", "c"))),
    ]
    shared = ["id", "path", "prompt", "duration_s", "warnings", "error"]
    of_one = [name for name in COLUMNS if name not in shared or name in ("warnings", "error")]
    own = [name for name in of_one if not name.endswith("_spread")]
    own.insert(own.index("ta_high") + 1, "ta_without_prompt")
    several = [*(f"model.{name}" for name in of_one), *(f"muq-eval-a1.{name}" for name in own)]
    assert several.count("model.warnings") == several.count("muq-eval-a1.error") == 1
    nothing = dict.fromkeys([*shared, *several, "columns.model.mi", "columns.warnings"])
    of_model = {
        "model.mi": 3.25, "model.ta": 2.5, "model.windows": 7, "model.heard_from_s": 0.0, "model.heard_to_s": 192.5,
        "model.warnings": [], "model.bundle": "model", "model.digest": BUNDLE, "model.rule": "mean of 30 s",
        "model.licence": "mit", "muq-eval-a1.bundle": "muq-eval-a1", "muq-eval-a1.digest": OTHER,
        "muq-eval-a1.rule": "centre 10 s", "muq-eval-a1.licence": "mit", "duration_s": 192.5,
    }  # fmt: skip
    expected = [
        nothing | of_model | {
            "id": "a", "path": "m/a.wav", "prompt": "prompt of a, é", "warnings": [], "muq-eval-a1.mi": 5.25,
            "muq-eval-a1.ta_without_prompt": -0.5, "muq-eval-a1.windows": 1, "muq-eval-a1.heard_from_s": 91.0,
            "muq-eval-a1.heard_to_s": 101.0, "muq-eval-a1.warnings": [], "columns.model.mi": "mine",
            "columns.warnings": 1,
        },
        nothing | of_model | {
            "id": "b", "path": "m/b.wav", "prompt": "prompt of b, é", "warnings": ["clipped", "c"],
            "error": "muq-eval-a1: too long", "muq-eval-a1.windows": 0, "muq-eval-a1.error": "too long",
            "muq-eval-a1.warnings": ["odd", "b"],
        },
    ]  # fmt: skip
    table = as_parquet(rows)
    assert table.column_names == list(as_csv(rows)[0]) == list(nothing)
    assert table.to_pylist() == expected
    for found, typed in zip(as_csv(rows), expected, strict=True):
        joined = {name: "; ".join(value) if isinstance(value, list) else value for name, value in typed.items()}
        assert found == {name: "" if value is None else str(value) for name, value in joined.items()}
    kinds = dict(zip(table.column_names, map(str, table.schema.types), strict=True))
    assert {kinds[f"{name}.windows"] for name in SEVERAL} == {"int64"}
    assert {kinds[f"{name}.warnings"] for name in SEVERAL} == {kinds["warnings"]} == {"list<element: string>"}
    texts = ("error", "bundle", "digest", "rule", "licence")
    assert {kinds[f"{name}.{end}"] for name in SEVERAL for end in texts} == {"string"}
    for suffix, each in TABLES.items():
        (tmp_path / f"s{suffix}").write_bytes(each.encode(rows))
        assert each.read_ids(tmp_path / f"s{suffix}") == ["a", "b"]


def test_the_same_scores_give_the_same_bytes() -> None:
    rows = [columns_of(item, system="S1", n=1.5) for item in ITEMS]
    for table in TABLES.values():
        assert table.encode(rows) == table.encode([dict(each) for each in rows])


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    rows = [row(Score("caf\udce9", "caf\udce9.wav", None, 3.0, columns={"\ud800": "\ud800"}))]
    assert as_csv(rows)[0]["path"] == as_parquet(rows).to_pylist()[0]["path"] == r"caf\udce9.wav"
    assert as_parquet(rows).column_names[-1] == list(as_csv(rows)[0])[-1] == r"\ud800"
    for suffix, table in TABLES.items():
        (tmp_path / f"s{suffix}").write_bytes(table.encode(rows))
        assert table.read_ids(tmp_path / f"s{suffix}") == [r"caf\udce9"]


def test_a_table_with_a_row_that_cannot_be_read_has_other_clips(tmp_path: Path) -> None:
    content = TABLES[".csv"].encode([columns_of(ITEMS[0])]) + b'b,"' + b"x" * 200_000 + b'"\n'
    (tmp_path / "s.csv").write_bytes(content)
    assert TABLES[".csv"].read_ids(tmp_path / "s.csv")[-1] == ""


@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.parametrize("content", [b"", b"\0", b"id,mi,ta\n", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b'id,"\n\0'])
def test_what_is_no_table_of_scores_is_told(suffix: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(DataError, match=r"^begins with .*, expected a table of scores$"):
        TABLES[suffix].read_ids(tmp_path / "s")


def test_no_cell_of_csv_begins_as_a_formula_and_ids_are_read_back(tmp_path: Path) -> None:
    names = ("=1+1", "-x", "@a", "song")
    formula = "+cmd|' /C calc'!A0"
    rows = [row(score(Item(name, Path("x.wav"), formula), columns={"offset": "-3.5", "n": -1})) for name in names]
    path = tmp_path / "t.csv"
    path.write_bytes(TABLES[".csv"].encode(rows))
    found = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["id"] for row in found] == ["'=1+1", "'-x", "'@a", "song"]
    assert {row["prompt"] for row in found} == {"'+cmd|' /C calc'!A0"} and {row["mi"] for row in found} == {"3.25"}
    assert {(row["offset"], row["n"]) for row in found} == {("-3.5", "-1")}, "numbers, also where they came as text"
    assert TABLES[".csv"].read_ids(path) == list(names)
