"""The columns of manifests: their names, which rows need ids, and what nothing reads."""

import json
import logging
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from audiomos_cache.dataset.labels import read_labels
from audiomos_cache.dataset.loading import load_dataset
from audiomos_cache.dataset.manifests import is_manifest
from audiomos_cache.errors import ArgumentError, DataError
from audiomos_cache.scoring.inputs import items_of_manifest


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def jsonl(path: Path, *rows: object) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


# file_name, as Hugging Face's audiofolder has it


def test_file_name_is_path(tmp_path: Path) -> None:
    text = "file_name,prompt,mi,ta\nwav/a.wav,x,2,3\n"
    rows = ({"file_name": "wav/a.wav", "prompt": "x", "mi": 2, "ta": 3},)
    for path in (write(tmp_path / "m.csv", text), jsonl(tmp_path / "m.jsonl", *rows)):
        assert is_manifest(path)
        assert load_dataset(path)["all"][0].path == tmp_path / "wav/a.wav"
        assert items_of_manifest(path)[0].path == tmp_path / "wav/a.wav"
        assert read_labels(path).ids == ("a",)


def test_both_names_of_the_path_have_to_agree(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "path,file_name,prompt\na.wav,a.wav,x\nb.wav,,x\n,c.wav,x\n")
    assert [clip.id for clip in load_dataset(path)["all"]] == ["a", "b", "c"]
    write(path, "path,file_name,prompt\na.wav,b.wav,x\n")
    for read in (load_dataset, items_of_manifest):
        with pytest.raises(
            DataError,
            match=r"^m\.csv:2: path is 'a\.wav', file_name is 'b\.wav', expected one, or twice the same; correct",
        ):
            read(path)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_folder_with_metadata_is_that_manifest(tmp_path: Path, name: str) -> None:
    write(tmp_path / "metadata.csv", "file_name,prompt\na.wav,x\n")
    jsonl(tmp_path / "metadata.jsonl", {"file_name": "a.wav", "prompt": "x"})
    with pytest.raises(
        DataError, match=r"found metadata\.csv and metadata\.jsonl, expected one; give the one to read$"
    ):
        load_dataset(tmp_path)
    (tmp_path / ("metadata.jsonl" if name == "metadata.csv" else "metadata.csv")).unlink()
    assert load_dataset(tmp_path)["all"][0].path == tmp_path / "a.wav"


def test_a_musiceval_folder_with_metadata_stays_one(tmp_path: Path) -> None:
    write(tmp_path / "metadata.csv", "file_name,prompt\na.wav,x\n")
    write(tmp_path / "sets/train_mos_list.txt", "S002_P044.wav,3,3\n")
    assert list(load_dataset(tmp_path)) == ["train"]
    with pytest.raises(
        ArgumentError, match=r"^--audio-root goes with a manifest or Parquet; .* is in MusicEval's layout"
    ):
        load_dataset(tmp_path, audio_root=tmp_path)
    with pytest.raises(ArgumentError, match=r"^--columns goes with a manifest or Parquet"):
        load_dataset(tmp_path, columns={"mi": "q"})


# Ids


def test_one_name_in_two_folders_needs_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "path,prompt\na/1.wav,x\nb\\1.wav,y\n")
    for read, advice in (
        (load_dataset, f", of '{tmp_path}/a/1.wav' and '{tmp_path}/b/1.wav'"),
        (items_of_manifest, f", of '{tmp_path}/a/1.wav' and '{tmp_path}/b/1.wav'"),
        (read_labels, ", of 'a/1.wav' and 'b\\\\1.wav'"),
    ):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value) == (
            f"m.csv:3: found '1' again, expected it only in line 2{advice}; add a column id, with an id of its own for "
            f"each row; correct {path}"
        )
    write(path, "path,prompt,id\na/1.wav,x,a1\nb/1.wav,y,b1\n")
    assert [clip.id for clip in load_dataset(path)["all"]] == ["a1", "b1"]


# Labels


def test_labels_need_neither_prompts_nor_audio_in_the_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "path,mi,ta\n/else/where/a.wav,2,3\nC:\\music\\b.wav,4,5\n")
    labels = read_labels(path)
    assert (labels.ids, labels.mi.tolist(), labels.ta.tolist()) == (("a", "b"), [2, 4], [3, 5])


# Names given to columns


def test_columns_by_the_names_that_the_file_has(tmp_path: Path) -> None:
    columns = {"mi": "Quality", "ta": "fit", "prompt": "Caption", "audio": "Wav"}
    expected = [("a", "x", 2.0, 3.0)]
    csv = write(tmp_path / "m.csv", "WAV;caption;QUALITY;fit;mi\na.wav;x;2;3;9\n")
    lines = jsonl(tmp_path / "m.jsonl", {"Wav": "a.wav", "Caption": "x", "Quality": 2, "fit": 3, "mi": 9})
    for path in (csv, lines):
        clips = load_dataset(path, columns=columns)["all"]
        assert [(clip.id, clip.prompt, clip.mi, clip.ta) for clip in clips] == expected


def test_a_path_may_be_an_id_too(tmp_path: Path) -> None:
    csv = write(tmp_path / "m.csv", "file_name,text,split\na.wav,x,s1\n")
    lines = jsonl(tmp_path / "m.jsonl", {"path": "a.wav", "prompt": "x", "split": "s1"})
    for path, name in ((csv, "file_name"), (lines, "path")):
        [clip] = load_dataset(path, columns={"id": name, "system": "split"})["all"]
        assert (clip.id, clip.path, clip.system) == ("a", tmp_path / "a.wav", "s1")


def test_a_name_that_no_column_has(tmp_path: Path) -> None:
    csv = write(tmp_path / "m.csv", "path,prompt\na.wav,x\n")
    lines = jsonl(tmp_path / "m.jsonl", {"path": "a.wav", "prompt": "x"})
    for path in (csv, lines):
        with pytest.raises(DataError) as caught:
            load_dataset(path, columns={"mi": "quality"})
        assert str(caught.value) == (
            f"{path}: found the columns path, prompt, expected quality; name them with --columns"
        )


def test_the_advice_to_name_columns_is_given_only_where_one_can(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "path,words\na.wav,x\n")
    found = (
        "found the columns ['path', 'words'], expected path (or file_name) and prompt (or text, caption), and none "
        "twice"
    )
    with pytest.raises(DataError) as caught:
        load_dataset(path)
    assert str(caught.value) == f"{path}: {found}; name them with --columns"
    with pytest.raises(DataError) as caught:
        items_of_manifest(path)
    assert str(caught.value) == f"{path}: {found}"
    assert load_dataset(path, columns={"prompt": "words"})["all"][0].prompt == "x"


# The usual names


@pytest.mark.parametrize(
    "names",
    [
        ("file_name", "text", "overall_quality", "textual_alignment"),
        ("File Name", "Caption", "Overall Quality", "Textual-Alignment"),
        ("path", "prompt", "MI", "textual alignment"),
    ],
)
def test_the_hubs_names_of_our_columns(tmp_path: Path, names: tuple[str, ...]) -> None:
    csv = write(tmp_path / "metadata.csv", f"{';'.join(names)}\nwav/a.wav;x, y;3;4\n")
    lines = jsonl(tmp_path / "m.jsonl", dict(zip(names, ("wav/a.wav", "x, y", 3, 4), strict=True)))
    for path, data in ((csv, tmp_path), (lines, lines)):
        [clip] = load_dataset(data)["all"]
        assert (clip.path, clip.prompt, clip.mi, clip.ta) == (tmp_path / "wav/a.wav", "x, y", 3, 4)
        assert read_labels(path).ta.tolist() == [4]
        assert (items_of_manifest(path)[0].path, items_of_manifest(path)[0].prompt) == (clip.path, "x, y")
        assert is_manifest(path)


def test_audio_in_text_is_no_audio(tmp_path: Path) -> None:
    csv = write(tmp_path / "m.csv", "path,prompt,audio\na.wav,x,b.wav\n")
    for path in (csv, jsonl(tmp_path / "m.jsonl", {"path": "a.wav", "prompt": "x", "audio": {"path": "b.wav"}})):
        assert load_dataset(path)["all"][0].path == items_of_manifest(path)[0].path == tmp_path / "a.wav"


def test_a_usual_name_may_be_given_to_another_column(tmp_path: Path) -> None:
    row = {"path": "a.wav", "file_name": "slow piano", "text": "S7"}
    csv = write(tmp_path / "m.csv", ";".join(row) + "\n" + ";".join(row.values()) + "\n")
    for path in (csv, jsonl(tmp_path / "m.jsonl", row)):
        [clip] = load_dataset(path, columns={"prompt": "file_name", "system": "text"})["all"]
        assert (clip.path, clip.prompt, clip.system) == (tmp_path / "a.wav", "slow piano", "S7")


def test_our_own_names_go_before_the_usual_ones(tmp_path: Path) -> None:
    row = {"path": "a.wav", "prompt": "x", "text": "lyrics", "caption": "?", "mi": 2, "overall quality": 9, "ta": 3}
    csv = write(tmp_path / "m.csv", ",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    for path in (csv, jsonl(tmp_path / "m.jsonl", row)):
        [clip] = load_dataset(path)["all"]
        assert (clip.prompt, clip.mi, clip.ta) == ("x", 2, 3)
        assert items_of_manifest(path)[0].columns.keys() == row.keys() - {"path", "prompt"}


def test_which_of_two_is_the_prompt_matters_only_where_prompts_do(tmp_path: Path) -> None:
    rows = {"path": "a.wav", "text": "x", "caption": "y", "mi": 2, "ta": 3}
    csv = write(tmp_path / "m.csv", "path,text,caption,mi,ta\na.wav,x,y,2,3\n")
    lines = jsonl(tmp_path / "m.jsonl", rows)
    several = "any of the columns text, caption may be prompt, expected one; "
    for path, where, end in ((csv, csv, ""), (lines, "m.jsonl:1", f"; correct {lines}")):
        assert read_labels(path).ids == ("a",)
        assert load_dataset(path, columns={"prompt": "caption"})["all"][0].prompt == "y"
        for read, advice in (
            (load_dataset, "choose with --columns prompt=text, or call one prompt"),
            (items_of_manifest, "call one prompt"),
        ):
            with pytest.raises(DataError) as caught:
                read(path)
            assert str(caught.value) == f"{where}: {several}{advice}{end}"


def test_a_usual_name_of_one_score_alone_is_no_label(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "m.csv", "path,prompt,overall_quality\na.wav,x,87\n")
    assert load_dataset(path)["all"][0].mi is None
    assert caplog.messages[0].startswith(f"{path}: nothing reads the column 'overall_quality'; scores are read from")
    assert items_of_manifest(path)[0].columns == {"overall_quality": "87"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("file,words,mi,ta", True),
        ("file;text;quality;relevance", True),
        ("name,MI,TA", True),
        ("wav,Overall Quality,Textual Alignment", True),
        ("a.wav,3.5,4", False),
        ("text,3,4", False),
        ("wav,words,quality", False),
    ],
)
def test_a_header_is_that_of_a_manifest_by_any_of_its_columns(tmp_path: Path, header: str, expected: bool) -> None:
    path = write(tmp_path / "m.csv", f"{header}\n")
    assert is_manifest(path) == expected
    if expected:
        with pytest.raises(
            DataError, match=r"m\.csv: found the columns \[.*\], expected path \(or file_name\), and none"
        ):
            read_labels(path)


# Splits


def splits(path: Path, *names: str) -> Path:
    rows = [{"path": f"{n}.wav", "prompt": "x", "mi": 2, "ta": 3, "split": name} for n, name in enumerate(names)]
    if path.suffix == ".jsonl":
        return jsonl(path, *rows)
    if path.suffix == ".csv":
        return write(path, "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]))
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train", "validation", "test"], ["train", "dev", "test"]),
        (["train", "val"], ["train", "dev"]),
        (["Train", "Valid", "TEST", "mine"], ["train", "dev", "test", "mine"]),
        (["train", "validation", "dev"], ["train", "dev", "validation"]),
        (["val", "validation"], ["val", "validation"]),
    ],
)
def test_splits_of_a_column_have_our_names_if_no_two_become_one(
    tmp_path: Path, suffix: str, names: list[str], expected: list[str]
) -> None:
    path = splits(tmp_path / f"m{suffix}", *names)
    assert list(load_dataset(path)) == expected
    assert len(read_labels(path, names[0]).ids) == 1


def test_a_split_is_asked_for_by_either_name(tmp_path: Path) -> None:
    path = splits(tmp_path / "m.csv", "train", "validation")
    for name in ("validation", "dev", "val"):
        assert list(load_dataset(path, [name])) == ["dev"]
        assert read_labels(path, name).ids == ("1",)
    with pytest.raises(DataError, match=r"m\.csv: split 'eval' not found, expected one of train, dev$"):
        load_dataset(path, ["eval"])


def test_musicevals_lists_keep_their_names(tmp_path: Path) -> None:
    write(tmp_path / "sets/validation_mos_list.txt", "S002_P044.wav,3,3\n")
    assert list(load_dataset(tmp_path)) == ["validation"]


# What nothing reads


@pytest.mark.parametrize(
    "name",
    ["weight", "MI_score", "rater", "overall", "musical_impression", "mos", "Overall quality", "textualAlignment"],
)
def test_a_column_that_looks_like_scores_is_named(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    row = {"path": "a.wav", "prompt": "x", "mi": 2, "ta": 3, name: 1, "genre": "jazz"}
    load_dataset(jsonl(tmp_path / "m.jsonl", row))
    assert caplog.messages == [
        f"{tmp_path}/m.jsonl: nothing reads the column {name!r}; scores are read from mi and ta alone, one row a clip, "
        "unweighted"
    ]


def test_several_are_one_line_and_once_for_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "m.csv", "path,prompt,rater,mi,ta,score\na.wav,x,me,2,3,7\n")
    load_dataset(path)
    read_labels(path)
    [line] = caplog.messages
    assert line.startswith(f"{path}: nothing reads the columns 'rater', 'score'; scores are read from mi and ta alone")


def test_other_columns_are_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    columns = "path,prompt,id,system,split,mi,ta,genre,bpm,artist,title,note,scored_by_nobody,data,quantity,media"
    load_dataset(write(tmp_path / "m.csv", f"{columns}\na.wav,x,a,s,dev,2,3,1,2,3,4,5,6,7,8,9\n"))
    scores = write(tmp_path / "to_score.csv", "path,prompt,weight,mos\na.wav,x,1,2\n")
    items_of_manifest(scores)  # writes them next to its own
    assert caplog.messages == []
