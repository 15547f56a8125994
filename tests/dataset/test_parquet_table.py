"""Parquet as the hub has it: its columns, and one clear line for each thing that may be wrong with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from audiomos_cache.dataset.labels import read_labels
from audiomos_cache.dataset.loading import load_dataset
from audiomos_cache.dataset.parquet_audio import ParquetAudio
from audiomos_cache.dataset.splitting import split
from audiomos_cache.errors import DataError
from audiomos_cache.scoring.inputs import items_of_manifest
from tests.support.parquet import AUDIO, Audio, write_parquet

A: Audio = {"bytes": b"a", "path": "S001_a.wav"}
B: Audio = {"bytes": b"b", "path": "/home/somebody/S002_b.flac"}


def clips_of(path: Path, **options: Any) -> list[Any]:
    return [clip for clips in load_dataset(path, **options).values() for clip in clips]


def error_of(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    "names",
    [
        ("overall__quality", "textual__alignment", "prompt"),
        ("overall_quality", "textual_alignment", "text"),
        ("Overall-Quality", "TEXTUAL_alignment", "Caption"),
        ("mi", "ta", "prompt"),
    ],
)
def test_the_hubs_names_of_our_columns(tmp_path: Path, names: tuple[str, str, str]) -> None:
    columns = dict(zip(names, ([1.5, None], [2.5, None], ["x", "y"]), strict=True))
    clips = clips_of(write_parquet(tmp_path / "m.parquet", [A, B], **columns))
    assert [(clip.id, clip.system, clip.prompt, clip.mi, clip.ta) for clip in clips] == [
        ("S001_a", "S001", "x", 1.5, 2.5),
        ("S002_b", "S002", "y", None, None),
    ]
    assert [clip.path.read_bytes() for clip in clips] == [b"a", b"b"]


def test_other_names_are_given(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "m.parquet", [A, A], q=[1.0, 2.0], t=[3.0, 4.0], words=["x", "y"], n=[7, 8], by=[1, 2]
    )
    columns = {"mi": "q", "ta": "t", "prompt": "words", "id": "n", "system": "by"}
    clips = clips_of(path, columns=columns)
    assert [(clip.id, clip.system, clip.prompt, clip.mi, clip.ta) for clip in clips] == [
        ("7", "1", "x", 1, 3),
        ("8", "2", "y", 2, 4),
    ]


def test_a_column_of_our_own_name_goes_before_the_hubs(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "m.parquet", [A], prompt=["x"], text=["lyrics"], caption=["?"])
    assert clips_of(path)[0].prompt == "x"
    path = write_parquet(tmp_path / "m.parquet", [A], text=["lyrics"], caption=["x"])
    assert error_of(path) == (
        "m.parquet: any of the columns text, caption may be prompt, expected one; choose with --columns prompt=text, "
        "or call one prompt"
    )
    assert clips_of(path, columns={"prompt": "caption"})[0].prompt == "x"


def test_columns_that_the_caller_does_not_read_are_left_in_doubt(tmp_path: Path) -> None:
    scores: dict[str, Any] = {"overall__quality": [1.0], "overall_quality": [2.0], "ta": [3.0]}
    path = write_parquet(tmp_path / "m.parquet", [A], prompt=["x"], **scores)
    assert items_of_manifest(path)[0].columns == {"ta": 3.0, "split": "all"}
    assert "any of the columns overall quality, overall_quality may be mi, expected one; choose with" in error_of(path)
    path = write_parquet(tmp_path / "m.parquet", [A], text=["x"], caption=["y"], mi=[2.0], ta=[3.0])
    assert read_labels(path).mi.tolist() == [2]
    with pytest.raises(DataError, match=r": any of the columns text, caption may be prompt, .* one; call one prompt$"):
        items_of_manifest(path)


@pytest.mark.parametrize("kind", [pa.float32(), pa.float16(), pa.float64(), pa.string(), pa.decimal128(3, 2)])
def test_labels_of_every_kind_are_what_was_written(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array(["3.4", "2.2"]).cast(kind)
    path = write_parquet(tmp_path / "m.parquet", [A, B], prompt=["x", "y"], mi=column, ta=column)
    assert [(clip.mi, clip.ta) for clip in clips_of(path)] == [(3.4, 3.4), (2.2, 2.2)]


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_nan_is_no_label(tmp_path: Path, kind: pa.DataType) -> None:
    nan = float("nan")
    score = pa.array([nan, 2.0], kind)
    path = write_parquet(tmp_path / "m.parquet", [A, B], prompt=["x", "y"], mi=score, ta=score)
    assert [(clip.mi, clip.ta) for clip in clips_of(path)] == [(None, None), (2.0, 2.0)]


AS_OTHERS_WRITE = {
    "views": (pa.binary_view(), pa.string_view()),
    "large": (pa.large_binary(), pa.large_string()),
    "dictionaries": (pa.binary(), pa.dictionary(pa.int32(), pa.string())),
}


@pytest.mark.parametrize("kinds", AS_OTHERS_WRITE.values(), ids=AS_OTHERS_WRITE)
def test_columns_as_other_tools_write_them(tmp_path: Path, kinds: tuple[pa.DataType, pa.DataType]) -> None:
    binary, string = kinds
    text = {name: pa.array(value, string) for name, value in {"prompt": ["x", "x"], "split": ["dev", None]}.items()}
    score = pa.array([2.2, 2.2], pa.float32()).dictionary_encode()
    for number, audio in enumerate((
        {"audio": pa.array([A, {"bytes": None, "path": "b.wav"}], pa.struct([("bytes", binary), ("path", string)]))},
        {"audio": pa.array([b"a", None], binary), "path": pa.array(["S001_a.wav", "b.wav"], string)},
        {"audio": pa.array([b"a", None]).dictionary_encode(), "file_name": pa.array(["S001_a.wav", "b.wav"], string)},
    )):  # fmt: skip
        path = tmp_path / f"{number}.parquet"
        parquet.write_table(pa.table({**audio, **text, "mi": score, "ta": score}), path)
        first, second = (clips[0] for clips in load_dataset(path).values())
        assert (first.id, first.prompt, first.mi, first.path.read_bytes()) == ("S001_a", "x", 2.2, b"a")
        assert (second.id, second.prompt, second.ta, second.path) == ("b", "x", 2.2, tmp_path / "b.wav")
        assert (first.split, second.split) == ("dev", "all")
    parquet.write_table(pa.table({"audio": pa.array(["a.wav"], string), "prompt": ["x"]}), path)
    assert clips_of(path)[0].path == tmp_path / "a.wav"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {},
            "found the columns audio, expected prompt (or text, caption); name them with --columns, or put MusicEval's "
            "prompt_info.txt next to the file",
        ),
        (
            {"mi": [7.5, 2.0], "ta": [3.0, 0.0]},
            "m.parquet:1: mi is 7.5, expected a number from 1 to 5, m.parquet:2: ta is 0.0, expected a number from 1 "
            "to 5; correct m.parquet",
        ),
        (
            {"mi": [float("nan"), 2.0], "ta": [3.0, 2.0]},
            "m.parquet:1: found ta alone, expected both mi and ta, or neither",
        ),
        ({"mi": [float("inf"), 2.0], "ta": [3.0, 2.0]}, "m.parquet:1: mi is inf, expected a number from 1 to 5"),
        ({"mi": [[1.0], [2.0]], "ta": [3.0, 2.0]}, "m.parquet:1: mi is [1.0], expected a number from 1 to 5"),
        ({"mi": [None, 2.0], "ta": [3.0, 2.0]}, "m.parquet:1: found ta alone, expected both mi and ta, or neither"),
        (
            {"id": ["i", "i"]},
            "m.parquet:2: found 'i' again, expected it only in row 1, of 'm.parquet, row 1 (S001_a.wav)' and "
            "'m.parquet, row 2 (S002_b.flac)'; add a column id, with an id of its own for each row",
        ),
        ({"prompt": [["x"], ["y"]]}, "m.parquet:1: prompt is ['x'], expected a string"),
        ({"split": ["../x", None]}, "m.parquet:1: found the split '../x', expected letters"),
    ],
)
def test_what_is_wrong_with_columns(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    columns = {"prompt": ["x", "y"], **columns} if columns else {}
    assert message in error_of(write_parquet(tmp_path / "m.parquet", [A, B], **columns))


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (
            [None],
            "m.parquet:1: found neither the bytes of its audio nor a path, expected one of them; correct m.parquet",
        ),
        ([A, {"bytes": None, "path": None}], "m.parquet:2: found neither the bytes of its audio nor a path"),
        ([{"bytes": None, "path": "../x.wav"}], "m.parquet:1: '../x.wav' leaves the folder, expected a file inside"),
        (
            [{"bytes": None, "path": "/etc/passwd"}],
            "m.parquet:1: '/etc/passwd' leaves the folder, expected a file inside",
        ),
        (
            [{"bytes": b"a", "path": None}],
            "m.parquet:1: found neither an id nor the name of an audio file, expected one",
        ),
        ([A, A], "m.parquet:2: found 'S001_a' again, expected it only in row 1, of 'm.parquet, row 1 (S001_a.wav)'"),
    ],
)
def test_what_is_wrong_with_audio(tmp_path: Path, audio: list[Audio | None], message: str) -> None:
    assert message in error_of(write_parquet(tmp_path / "m.parquet", audio, prompt=["x"] * len(audio)))


def test_a_clip_to_score_needs_a_name_or_an_id(tmp_path: Path) -> None:
    audio: list[Audio | None] = [{"bytes": b"a", "path": None}, A]
    with pytest.raises(DataError) as caught:
        items_of_manifest(write_parquet(tmp_path / "m.parquet", audio, prompt=["x", "y"]))
    assert str(caught.value) == (
        "m.parquet:1: found neither an id nor the name of an audio file, expected one of them; add a column id; "
        f"correct {tmp_path}/m.parquet"
    )
    path = write_parquet(tmp_path / "m.parquet", audio, prompt=["x", "y"], id=["first", None])
    assert [item.id for item in items_of_manifest(path)] == ["first", "S001_a"]


def test_a_row_without_bytes_names_a_file_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav/b.wav").write_bytes(b"from the file")
    audio: list[Audio | None] = [A, {"bytes": None, "path": "wav/b.wav"}, B]
    clips = clips_of(write_parquet(tmp_path / "m.parquet", audio, prompt=["x"] * 3))
    assert [clip.path.read_bytes() for clip in clips] == [b"a", b"from the file", b"b"]
    assert [type(clip.path) for clip in clips] == [ParquetAudio, type(tmp_path), ParquetAudio]


def test_columns_of_paths_or_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    for name in ("audio", "path", "file_name"):
        parquet.write_table(pa.table({name: ["wav\\a.wav"], "prompt": ["x"]}), path)
        assert [(clip.id, clip.path) for clip in clips_of(path)] == [("a", tmp_path / "wav/a.wav")]
    parquet.write_table(pa.table({"audio": [b"a", None], "prompt": ["x", "y"], "path": ["a.wav", "b.wav"]}), path)
    first, second = clips_of(path)
    assert (first.path.read_bytes(), second.path) == (b"a", tmp_path / "b.wav")


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a.wav"]), pa.array(["x"]), pa.array(["y"])], ["path", "prompt", "prompt"])
    parquet.write_table(table, tmp_path / "m.parquet")
    assert error_of(tmp_path / "m.parquet") == (
        "m.parquet: found the columns path, prompt, prompt, expected no name twice; write it again with one each"
    )


def test_a_column_of_decoded_audio_is_refused(tmp_path: Path) -> None:
    decoded = pa.array([{"array": [0.1], "sampling_rate": 16000}])
    parquet.write_table(pa.table({"audio": decoded, "prompt": ["x"]}), tmp_path / "m.parquet")
    assert error_of(tmp_path / "m.parquet") == (
        "m.parquet: the column audio is struct<array: list<element: double>, sampling_rate: int64>, expected a struct "
        "of bytes and path, or bytes; cast it with datasets' Audio(decode=False)"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not Parquet, or damaged (Parquet file size is 0 bytes); get it again"),
        (b"path,prompt\na.wav,x\n", "not Parquet, or damaged (Parquet magic bytes not found in footer."),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a pointer of Git LFS, not the data; run git lfs pull in its",
        ),
    ],
)
def test_what_is_no_parquet(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.parquet").write_bytes(content)
    assert error_of(tmp_path / "m.parquet").startswith(f"m.parquet: {message}")


def test_a_missing_file_and_one_without_rows(tmp_path: Path) -> None:
    assert error_of(tmp_path / "m.parquet") == "m.parquet: file not found, expected Parquet"
    path = write_parquet(tmp_path / "m.parquet", [], prompt=pa.array([], pa.string()))
    assert error_of(path) == "m.parquet: no rows, expected one or more"


@pytest.mark.parametrize("seed", range(4))
def test_damage_anywhere_is_an_error_of_ours_or_harmless(tmp_path: Path, seed: int) -> None:
    audio: list[Audio | None] = [{"bytes": bytes([n]) * 300, "path": f"{n}.wav"} for n in range(20)]
    path = write_parquet(tmp_path / "m.parquet", audio, prompt=["x"] * 20, mi=[2.0] * 20, ta=[3.0] * 20)
    whole, rng = path.read_bytes(), np.random.default_rng(seed)
    refused = 0
    for turn in range(60):
        damaged = bytearray(whole)
        if turn % 3:
            damaged[int(rng.integers(len(whole)))] = int(rng.integers(256))
        else:
            del damaged[int(rng.integers(len(whole))) :]
        path.write_bytes(damaged)
        try:
            for clip in clips_of(path):
                clip.path.read_bytes()
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused >= 20  # all that were cut


def test_labels_and_items_of_a_file(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "validation-00000-of-00001.parquet", [A, B], mi=[1.0, 2.0], ta=[3.0, 4.0], prompt=["x", None]
    )
    labels = read_labels(path, "dev")
    assert (labels.ids, labels.systems, labels.mi.tolist()) == (("S001_a", "S002_b"), ("S001", "S002"), [1, 2])
    items = items_of_manifest(path)
    assert [(item.id, item.prompt) for item in items] == [("S001_a", "x"), ("S002_b.flac", None)]
    assert [item.path.read_bytes() for item in items] == [b"a", b"b"]
    with pytest.raises(DataError, match=r"\.parquet: a Parquet file, expected a list, or a manifest of text"):
        split(path)


def test_labels_do_not_need_prompts_or_audio(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "m.parquet", [{"bytes": None, "path": "/gone/a.wav"}], mi=[1.0], ta=[3.0])
    assert read_labels(path).ids == ("a",)
    table = pa.table({"id": ["a"], "mi": [1.0], "ta": [3.0]})
    parquet.write_table(table, path)
    assert error_of(path).startswith("m.parquet: found the columns id, mi, ta, expected audio (or path) and prompt")


def test_what_looks_like_scores_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clips_of(write_parquet(tmp_path / "m.parquet", [A], prompt=["x"], musical_impression=[2.0], genre=["jazz"]))
    assert caplog.messages == [
        f"{tmp_path}/m.parquet: nothing reads the column 'musical_impression'; scores are read from mi and ta alone, "
        "one row a clip, unweighted"
    ]


def test_audio_without_statistics_is_looked_at(tmp_path: Path) -> None:
    audio = pa.array([A, {"bytes": None, "path": "b.wav"}], AUDIO)
    path = tmp_path / "m.parquet"
    parquet.write_table(pa.table({"audio": audio, "prompt": ["x", "y"]}), path, write_statistics=False)
    assert [type(clip.path) for clip in clips_of(path)] == [ParquetAudio, type(path)]
