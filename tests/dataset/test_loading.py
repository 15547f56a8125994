import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from audiomos_cache.dataset.clip import Clip, clip_id_of, system_of
from audiomos_cache.dataset.labels import read_id_list, read_labels, read_system_truth
from audiomos_cache.dataset.loading import load_dataset
from audiomos_cache.errors import DataError

NAME = "audiomos2025-track1-"
PHASE = "audiomos2025-track1-eval-phase"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


@pytest.fixture
def musiceval(tmp_path: Path) -> Path:
    root = tmp_path / "MusicEval"
    write(root / "sets/train_mos_list.txt", f"{NAME}S002_P044.wav,3.4,2.6\n{NAME}S001_P002.wav,1,5\n")
    write(root / "sets/dev_mos_list.txt", f"{NAME}S006_P044.wav,2.2,4.8\n")
    write(root / "prompt_info.txt", "id\ttext\nP044\tslow piano\nP002\tnot the demo's\n")
    write(root / "demo_prompt_info.txt", f"id\ttext\n{NAME}S001_P002.wav\ta demo, with drums\n")
    return root


@pytest.fixture
def with_phase(musiceval: Path) -> Path:
    write(musiceval / PHASE / "DATA/sets/eval_list.txt", f"{NAME}S009_P044\n{NAME}S001_P002.wav\n")
    return musiceval


def add_train(root: Path, text: str) -> Path:
    write(root / "sets/train_mos_list.txt", text)
    return root


@pytest.mark.parametrize(
    ("clip_id", "system"),
    [
        ("audiomos2025-track1-S002_P044", "S002"),
        ("S002_P044", "S002"),
        ("mustango_7_take2", "mustango"),
        ("audiomos2025-track1-lonely", "lonely"),
        ("lonely", "lonely"),
        ("_x", "_x"),
    ],
)
def test_system_of(clip_id: str, system: str) -> None:
    assert system_of(clip_id) == system


@pytest.mark.parametrize(
    ("name", "clip_id"), [("a.wav", "a"), ("a", "a"), ("a.b.wav", "a.b"), ("a.mp3", "a.mp3"), ("v1.5", "v1.5")]
)
def test_clip_id_of(name: str, clip_id: str) -> None:
    assert clip_id_of(name) == clip_id


# MusicEval


def test_musiceval_clips(musiceval: Path) -> None:
    dataset = load_dataset(musiceval)
    assert list(dataset) == ["train", "dev"]
    assert dataset["train"] == (
        Clip(
            id=f"{NAME}S002_P044",
            path=musiceval / f"wav/{NAME}S002_P044.wav",
            system="S002",
            prompt_id="P044",
            prompt="slow piano",
            split="train",
            mi=3.4,
            ta=2.6,
        ),
        Clip(
            id=f"{NAME}S001_P002",
            path=musiceval / f"wav/{NAME}S001_P002.wav",
            system="S001",
            prompt_id=f"{NAME}S001_P002",
            prompt="a demo, with drums",
            split="train",
            mi=1.0,
            ta=5.0,
        ),
    )


@pytest.mark.parametrize("system", ["S001", "S006", "S013", "S017", "S018", "S033"])
def test_demo_systems_have_no_prompt_but_their_own(musiceval: Path, system: str) -> None:
    (clip,) = load_dataset(add_train(musiceval, f"{NAME}{system}_P044.wav,3,3"), ["train"])["train"]
    assert clip.prompt is None
    assert clip.prompt_id == clip.id


def test_a_prompt_that_is_nowhere_is_none(musiceval: Path) -> None:
    write(musiceval / "prompt_info.txt", "P044\t \nP1\tx\n")
    clips = load_dataset(add_train(musiceval, "S002_P044.wav,3,3\nS002_P999.wav,3,3\nodd.wav,3,3\n"))["train"]
    assert [(clip.prompt_id, clip.prompt) for clip in clips] == [("P044", None), ("P999", None), ("odd", None)]


def test_splits_in_order_and_chosen(musiceval: Path) -> None:
    for name in ("zoo", "alpha", "test"):
        write(musiceval / f"sets/{name}_mos_list.txt", "S002_P044.wav,3,3")
    write(musiceval / "sets/eval_list.txt", "S002_P044")
    assert list(load_dataset(musiceval)) == ["train", "dev", "test", "eval", "alpha", "zoo"]
    assert list(load_dataset(musiceval, ["zoo", "dev", "zoo"])) == ["dev", "zoo"]


def test_unknown_split(musiceval: Path) -> None:
    with pytest.raises(DataError, match=r"MusicEval: split 'trian' not found, expected one of train, dev$"):
        load_dataset(musiceval, ["dev", "trian"])


def test_a_split_that_is_not_asked_for_is_not_read(musiceval: Path) -> None:
    add_train(musiceval, "broken")
    assert list(load_dataset(musiceval, ["dev"])) == ["dev"]


def test_bom_crlf_and_blank_lines(musiceval: Path) -> None:
    add_train(musiceval, "\ufeffS002_P044.wav, 3.4 ,2.6\r\n\r\n  \r\nS003_P044.wav,1,2\r\n")
    write(musiceval / "prompt_info.txt", "\ufeffP044\tcafé, naïve\u2028piano\r\n\r\n")
    clips = load_dataset(musiceval)["train"]
    assert [(clip.id, clip.mi, clip.ta) for clip in clips] == [("S002_P044", 3.4, 2.6), ("S003_P044", 1, 2)]
    assert {clip.prompt for clip in clips} == {"café, naïve\u2028piano"}


def test_eval_list_beside_the_others(with_phase: Path) -> None:
    write(with_phase / "sets/eval_list.txt", f"{NAME}S002_P044\n{NAME}S003_P044.wav\n")
    clips = load_dataset(with_phase)["eval"]
    assert [clip.id for clip in clips] == [f"{NAME}S002_P044", f"{NAME}S003_P044"]
    assert clips[0].path == with_phase / f"wav/{NAME}S002_P044.wav"
    assert (clips[0].mi, clips[0].ta) == (None, None)


@pytest.mark.parametrize("pointed_at", ["", PHASE, f"{PHASE}/DATA", f"{PHASE}/DATA/sets/.."])
def test_eval_phase_takes_its_prompts_from_above(with_phase: Path, pointed_at: str) -> None:
    plain, demo = load_dataset(with_phase / pointed_at, ["eval"])["eval"]
    wav = with_phase / PHASE / "DATA/wav"
    assert plain.path.resolve() == wav / f"{NAME}S009_P044.wav"
    assert (plain.prompt, plain.mi) == ("slow piano", None)
    assert (demo.id, demo.prompt) == (f"{NAME}S001_P002", "a demo, with drums")


def test_eval_phase_from_inside_it(with_phase: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(with_phase / PHASE / "DATA")
    assert load_dataset(Path())["eval"][0].prompt == "slow piano"


def test_a_nearer_prompt_wins(with_phase: Path) -> None:
    write(with_phase / PHASE / "DATA/prompt_info.txt", "P044\tnearest\n")
    write(with_phase / PHASE / "prompt_info.txt", "P044\tnear\nP1\tx\n")
    assert load_dataset(with_phase)["eval"][0].prompt == "nearest"
    assert load_dataset(with_phase)["train"][0].prompt == "slow piano"


def test_prompts_are_not_searched_above_musiceval(tmp_path: Path) -> None:
    write(tmp_path / "a/b/DATA/sets/eval_list.txt", "S002_P044")
    write(tmp_path / "a/prompt_info.txt", "P044\tsomeone else's")
    assert load_dataset(tmp_path / "a/b/DATA")["eval"][0].prompt is None


def test_test_and_eval_may_hold_the_same_clips(musiceval: Path) -> None:
    write(musiceval / "sets/test_mos_list.txt", "S002_P044.wav,3,4")
    write(musiceval / "sets/eval_list.txt", "S002_P044")
    dataset = load_dataset(musiceval)
    assert dataset["test"][0].mi == 3
    assert dataset["eval"][0].mi is None


def test_a_labelled_eval_list_goes_first(with_phase: Path) -> None:
    write(with_phase / "sets/eval_mos_list.txt", "S002_P044.wav,3,4")
    assert [clip.mi for clip in load_dataset(with_phase)["eval"]] == [3]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.wav,3", r"found 2 fields, expected 3: name\.wav,MI,TA"),
        ("a.wav,3,3,3", "found 4 fields, expected 3"),
        ("a.wav,5.2,3", "MI is '5.2', expected a number from 1 to 5"),
        ("a.wav,3,0.9", "TA is '0.9', expected a number from 1 to 5"),
        ("a.wav,nan,3", "MI is 'nan', expected a number from 1 to 5"),
        ("a.wav,3,inf", "TA is 'inf', expected a number from 1 to 5"),
        ("a.wav,3,", "TA is '', expected a number from 1 to 5"),
        ("a.wav,good,3", "MI is 'good', expected a number from 1 to 5"),
        (".wav,3,3", "found the id '', expected a name"),
        ("ok,3,3", "found 'ok' again, expected it only in line 1"),
        ("/etc/a.wav,3,3", "'/etc/a.wav' leaves the folder, expected a file inside"),
        ("../a.wav,3,3", "'../a.wav' leaves the folder"),
        ("..\\a.wav,3,3", "leaves the folder"),
        ("sub\\a.wav,3,3", r"'sub\\\\a' contains a folder, expected the name of a file in wav"),
        ("C:a.wav,3,3", "leaves the folder"),
        ("sub/a.wav,3,3", "'sub/a' contains a folder, expected the name of a file in wav"),
        ("a\0b.wav,3,3", "expected a name without commas and control characters"),
    ],
)
def test_bad_lines(musiceval: Path, line: str, message: str) -> None:
    add_train(musiceval, f"ok.wav,3,3\n\n{line}\n")
    with pytest.raises(DataError, match=rf"^train_mos_list\.txt:3: .*{message}.*; correct .*MusicEval/sets/train"):
        load_dataset(musiceval)


def test_all_problems_of_a_list_at_once(musiceval: Path) -> None:
    add_train(musiceval, "".join(f"a{n}.wav,9,9\n" for n in range(8)))
    with pytest.raises(DataError, match=r"txt:1: .*txt:5: .*, \.\.\. \(8 in all\); correct") as caught:
        load_dataset(musiceval)
    assert "txt:6" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_symlinks_stay_inside(musiceval: Path, tmp_path: Path) -> None:
    add_train(musiceval, "a.wav,3,3\nb.wav,3,3\n")
    write(musiceval / "more/real.wav", "x")
    (musiceval / "wav").mkdir()
    (musiceval / "wav/a.wav").symlink_to("../more/real.wav")
    assert len(load_dataset(musiceval)["train"]) == 2
    write(tmp_path / "secret.wav", "x")
    (musiceval / "wav/b.wav").symlink_to(tmp_path / "secret.wav")
    with pytest.raises(DataError, match=r"train_mos_list\.txt:2: 'b\.wav' leaves the folder"):
        load_dataset(musiceval)


def test_a_loop_of_symlinks(musiceval: Path) -> None:
    (musiceval / "wav").symlink_to("wav")
    with pytest.raises(DataError, match="leaves the folder"):
        load_dataset(musiceval)


def test_the_wav_folder_may_lie_on_another_disk(musiceval: Path, tmp_path: Path) -> None:
    (tmp_path / "disk2").mkdir()
    (musiceval / "wav").symlink_to(tmp_path / "disk2")
    assert len(load_dataset(musiceval)["train"]) == 2
    add_train(musiceval, "../secret.wav,3,3\n")
    with pytest.raises(DataError, match="leaves the folder"):
        load_dataset(musiceval)


def test_a_linked_dataset_is_fine(musiceval: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(musiceval)
    assert len(load_dataset(tmp_path / "link")["train"]) == 2


def test_prompt_lines(musiceval: Path) -> None:
    write(musiceval / "prompt_info.txt", "P044\tslow piano\nP045 fast piano\n")
    with pytest.raises(DataError, match=r"prompt_info\.txt:2: found 'P045 fast piano', expected an id, a tab"):
        load_dataset(musiceval)
    write(musiceval / "prompt_info.txt", "P044\tslow piano\nP044\tfast piano\n")
    with pytest.raises(DataError, match=r"prompt_info\.txt:2: found 'P044' again, expected it only in line 1"):
        load_dataset(musiceval)
    write(musiceval / "prompt_info.txt", "P044\tslow piano\nP044\tslow piano\n")
    assert load_dataset(musiceval)["train"][0].prompt == "slow piano"


def test_an_empty_list(musiceval: Path) -> None:
    with pytest.raises(DataError, match=r"train_mos_list\.txt: empty, expected a row or more"):
        load_dataset(add_train(musiceval, "\n"))


def test_not_utf8(musiceval: Path) -> None:
    (musiceval / "prompt_info.txt").write_bytes("P044\tcafé".encode("latin-1"))
    with pytest.raises(DataError, match=r"prompt_info\.txt: byte 8 is not UTF-8; save it as UTF-8 text"):
        load_dataset(musiceval)


def test_a_split_that_cannot_name_a_file(musiceval: Path) -> None:
    write(musiceval / "sets/my own_mos_list.txt", "a.wav,3,3")
    with pytest.raises(DataError, match=r"my own_mos_list\.txt: found the split 'my own', expected letters"):
        load_dataset(musiceval)


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: not found, expected a MusicEval folder, or a manifest \(\.csv"):
        load_dataset(tmp_path / "gone")
    with pytest.raises(DataError, match=r"no list found, expected sets/\*_mos_list\.txt or sets/eval_list\.txt"):
        load_dataset(tmp_path)
    with pytest.raises(DataError, match=r"a\.txt: a file of another kind, expected a MusicEval folder"):
        load_dataset(write(tmp_path / "a.txt", "x"))
    with pytest.raises(DataError, match=r"gone\.csv: file not found, expected a list or a manifest"):
        load_dataset(tmp_path / "gone.csv")


# Manifests


def jsonl(path: Path, *rows: object) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def test_csv_manifest(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.csv",
        "\ufeffPath,Prompt,extra, split,mi,ta,system,id\r\n"
        'clips/a.b.mp3,"slow, ""sad"" piano",?,test,4,2.5,,\r\n'
        "\r\n"
        "b.wav,,?,train,,,mine,second.wav\r\n",
    )
    assert load_dataset(path) == {
        "train": (Clip("second", tmp_path / "b.wav", "mine", "second", None, "train", None, None),),
        "test": (Clip("a.b", tmp_path / "clips/a.b.mp3", "a.b", "a.b", 'slow, "sad" piano', "test", 4.0, 2.5),),
    }


def test_jsonl_manifest(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "m.jsonl",
        {"path": "S002_P044.flac", "prompt": "slow piano", "mi": 3, "ta": 2.5},
        {"path": "x/two.wav", "prompt": None, "id": None, "split": "", "mi": None, "ta": None},
    )
    assert load_dataset(path, ["all"]) == {
        "all": (
            Clip("S002_P044", tmp_path / "S002_P044.flac", "S002", "S002_P044", "slow piano", "all", 3.0, 2.5),
            Clip("two", tmp_path / "x/two.wav", "two", "two", None, "all", None, None),
        )
    }


def test_manifest_without_the_split(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "m.jsonl", {"path": "a.wav", "prompt": "x"})
    with pytest.raises(DataError, match=r"m\.jsonl: split 'train' not found, expected one of all$"):
        load_dataset(path, ["train"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x"}, "found no path, expected one relative to the manifest's folder"),
        ({"path": "b.wav", "mi": 3}, "found mi alone, expected both mi and ta, or neither"),
        ({"path": "b.wav", "ta": "3"}, "found ta alone, expected both"),
        ({"path": "b.wav", "mi": True, "ta": 3}, "mi is True, expected a number from 1 to 5"),
        ({"path": "b.wav", "mi": 3, "ta": [3]}, r"ta is \[3\], expected a number from 1 to 5"),
        ({"path": "b.wav", "mi": 10**400, "ta": 3}, "mi is 10+, expected a number from 1 to 5"),
        ({"path": "b.wav", "mi": float("nan"), "ta": 3}, "expected a JSON object a line; found NaN, expected a number"),
        ({"path": 7}, "path is 7, expected a string"),
        ({"path": "b.wav", "prompt": "\ud800"}, "prompt is .*, expected a string"),
        ({"path": "a.wav"}, "found 'a' again, expected it only in line 1"),
        ({"path": "a.wav", "split": "dev"}, "found 'a' again, expected it only in line 1"),
        ({"path": "b.wav", "id": "a.wav"}, "found 'a' again, expected it only in line 1"),
        ({"path": "b.wav", "id": "b,c"}, "found the id 'b,c', expected a name without commas"),
        ({"path": "b.wav", "split": "../dev"}, "found the split '../dev', expected letters, digits"),
        ({"path": "/etc/passwd"}, "'/etc/passwd' leaves the folder, expected a file inside"),
        ({"path": "x/../../b.wav"}, "'x/../../b.wav' leaves the folder"),
        ({"path": "x\\..\\..\\b.wav"}, "leaves the folder"),
        ({"path": "\\\\host\\b.wav"}, "leaves the folder"),
        ({"path": "C:/b.wav"}, "'C:/b.wav' leaves the folder"),
        ({"path": "b\0.wav"}, "leaves the folder"),
        ("b.wav", "expected a JSON object a line"),
    ],
)
def test_bad_manifest_rows(tmp_path: Path, row: object, message: str) -> None:
    path = jsonl(tmp_path / "m.jsonl", {"path": "a.wav", "prompt": "x"}, row)
    with pytest.raises(DataError, match=rf"^m\.jsonl:2: .*{message}.*; correct "):
        load_dataset(path)


@pytest.mark.parametrize("line", ["{", "[" * 100_000])
def test_bad_json(tmp_path: Path, line: str) -> None:
    with pytest.raises(
        DataError, match=r"^m\.jsonl:1: found '[\[{]+', expected a JSON object a line(; nested too deeply)?; correct"
    ):
        load_dataset(write(tmp_path / "m.jsonl", line))


def test_bad_csv_rows_are_reported_together(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "path,prompt\na.wav\na.wav,x\nb.wav,x,y\na.wav,y\n")
    with pytest.raises(
        DataError,
        match=r"^m\.csv:2: found 1 fields, expected 2 as in the header, m\.csv:4: found 3 fields, .*"
        r"m\.csv:5: found 'a' again, expected it only in line 3; add a column id, with an id of its own for each row; ",
    ):
        load_dataset(path)


@pytest.mark.parametrize(
    "header", ["", "path,words", "path,prompt,path", "file_name,text,file_name", "a.wav,slow piano"]
)
def test_bad_csv_header(tmp_path: Path, header: str) -> None:
    with pytest.raises(
        DataError,
        match=r"m\.csv: found the columns \[.*\], expected path \(or file_name\) and prompt \(or text, caption\), and "
        r"none twice; name them with --columns$",
    ):
        load_dataset(write(tmp_path / "m.csv", f"{header}\na,b\n" if header else ""))


def test_csv_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", 'path,prompt\na.wav,"never closed\nb.wav,x\n')
    with pytest.raises(DataError, match=r"m\.csv:3: not CSV \(unexpected end of data\); check its quotes"):
        load_dataset(path)


def test_a_text_longer_than_csv_allows(tmp_path: Path) -> None:
    long = "x" * 131_073
    path = write(tmp_path / "m.csv", f"path,prompt\na.wav,{long}\n")
    with pytest.raises(
        DataError,
        match=r"m\.csv:2: not CSV \(field larger than field limit \(131072\)\); check its quotes, or write it as JSON "
        r"Lines \(\.jsonl\)$",
    ):
        load_dataset(path)
    [clip] = load_dataset(jsonl(tmp_path / "m.jsonl", {"path": "a.wav", "prompt": long}))["all"]
    assert clip.prompt == long


@pytest.mark.parametrize(
    "text",
    [
        "path,prompt,,\na.wav,x,,\nb.wav,y,,\n",
        "path,prompt, ,\na.wav,x\nb.wav,y,\n",
        "path,prompt\na.wav,x,,\nb.wav,y, \n,,\n",
        ",path,,prompt\n0,a.wav,?,x\n1,b.wav,?,y\n",
    ],
)
def test_csv_columns_without_a_name_are_ignored(tmp_path: Path, text: str) -> None:
    clips = load_dataset(write(tmp_path / "m.csv", text))["all"]
    assert [(clip.id, clip.prompt) for clip in clips] == [("a", "x"), ("b", "y")]


@pytest.mark.parametrize("header", ["path,prompt", "path,prompt,", "path,prompt,,"])
def test_a_prompt_with_a_comma_and_without_quotes_is_not_cut(tmp_path: Path, header: str) -> None:
    path = write(tmp_path / "m.csv", f"{header}\na.wav,slow, sad piano\n")
    with pytest.raises(DataError, match=r"^m\.csv:2: found 3 fields, expected 2 as in the header; correct "):
        load_dataset(path)


def test_csv_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"m\.csv: no rows, expected one or more"):
        load_dataset(write(tmp_path / "m.csv", "path,prompt\n"))


def test_manifest_symlink(tmp_path: Path) -> None:
    write(tmp_path / "secret", "x")
    path = jsonl(tmp_path / "data/m.jsonl", {"path": "a.wav", "prompt": "x"})
    (tmp_path / "data/a.wav").symlink_to("../secret")
    with pytest.raises(DataError, match=r"m\.jsonl:1: 'a\.wav' leaves the folder"):
        load_dataset(path)


# Lists


def test_read_labels_of_a_mos_list(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "list.txt", f"{NAME}S002_P044.wav,3.4,2.6\nown_1,1,5\n"))
    assert labels.ids == (f"{NAME}S002_P044", "own_1")
    assert labels.systems == ("S002", "own")
    np.testing.assert_array_equal(labels.mi, [3.4, 1.0])
    np.testing.assert_array_equal(labels.ta, [2.6, 5.0])
    assert labels.mi.dtype == labels.ta.dtype == np.float64


def test_read_labels_of_manifests(tmp_path: Path) -> None:
    rows = [{"path": "a.wav", "prompt": "", "system": "s", "mi": 3, "ta": 4}]
    for path in (
        jsonl(tmp_path / "m.jsonl", *rows),
        write(tmp_path / "m.csv", '"prompt","path","system","mi","ta"\nx,a.wav,s,3,4\n'),
    ):
        labels = read_labels(path)
        assert (labels.ids, labels.systems) == (("a",), ("s",))
        assert (labels.mi.tolist(), labels.ta.tolist()) == ([3.0], [4.0])


def test_read_labels_wants_a_label_in_every_row(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "path,prompt,mi,ta\na.wav,x,3,4\nb.wav,x,,\n")
    with pytest.raises(DataError, match=r"m\.csv: no label for b, expected mi and ta in every row"):
        read_labels(path)
    with pytest.raises(DataError, match=r"e\.txt:1: found 1 fields, expected 3: name\.wav,MI,TA"):
        read_labels(write(tmp_path / "e.txt", "a\n"))


def test_read_labels_of_one_split_of_a_manifest(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.csv",
        "path,prompt,system,split,mi,ta\na.wav,x,s,dev,3,4\nb.wav,x,s,eval,,\nS1_P2.wav,x,,dev,1,2\nc.wav,x,s,train,5,5\n",
    )
    labels = read_labels(path, "dev")
    assert (labels.ids, labels.systems) == (("a", "S1_P2"), ("s", "S1"))
    assert (labels.mi.tolist(), labels.ta.tolist()) == ([3.0, 1.0], [4.0, 2.0])
    with pytest.raises(DataError, match=r"m\.csv: split 'dve' not found, expected one of train, dev, eval$"):
        read_labels(path, "dve")
    with pytest.raises(DataError, match=r"m\.csv: no label for b, expected mi and ta in every row of split eval$"):
        read_labels(path, "eval")
    with pytest.raises(DataError, match=r"m\.csv: no label for b, expected mi and ta in every row$"):
        read_labels(path)


def test_read_labels_where_there_are_no_splits(tmp_path: Path) -> None:
    manifest = jsonl(tmp_path / "m.jsonl", {"path": "a.wav", "prompt": "", "mi": 3, "ta": 4})
    for path in (manifest, write(tmp_path / "list.txt", "a.wav,3,4\n")):
        assert read_labels(path, "dev").ids == ("a",)


def test_read_id_list(tmp_path: Path) -> None:
    assert read_id_list(write(tmp_path / "e.txt", "\ufeffb\r\n\r\na.wav\r\n")) == ("b", "a")
    assert read_id_list(write(tmp_path / "m.txt", "b.wav,3,4\na.wav,1,2\n")) == ("b", "a")


def test_read_id_list_refuses(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"e\.txt:3: found 'a' again, expected it only in line 1; correct"):
        read_id_list(write(tmp_path / "e.txt", "a\nb\na.wav\n"))
    with pytest.raises(DataError, match=r"e\.txt:1: found 2 fields, expected an id, or name\.wav,MI,TA"):
        read_id_list(write(tmp_path / "e.txt", "a,3\n"))
    with pytest.raises(DataError, match=r"gone\.txt: file not found"):
        read_id_list(tmp_path / "gone.txt")
    with pytest.raises(DataError, match="is a folder, expected a list or a manifest"):
        read_id_list(tmp_path)


@pytest.mark.parametrize("header", ["", "sysID,MI,TA\n", "system,overall,textual\n"])
def test_read_system_truth(tmp_path: Path, header: str) -> None:
    path = write(tmp_path / "s.csv", f"{header}S002,3.4,2.6\r\n{NAME}S001,1, 5\r\n")
    assert read_system_truth(path) == {"S002": (3.4, 2.6), "S001": (1.0, 5.0)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S1,3,4\nS1,3,4\n", "s.csv:2: found 'S1' again, expected it only in line 1"),
        ("S1,6,4\n", "s.csv:1: MI is '6', expected a number from 1 to 5"),
        ("S1,nan,nan\n", "s.csv:1: MI is 'nan', expected a number from 1 to 5"),
        ("sysID,MI,TA\nS1,3\n", "s.csv:2: found 2 fields"),
        ("sysID,MI,TA\n", "no rows, expected one or more"),
    ],
)
def test_read_system_truth_refuses(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_system_truth(write(tmp_path / "s.csv", text))


@pytest.mark.process
def test_import_is_light() -> None:
    code = "import sys, audiomos_cache.dataset.loading; print({'torch', 'h5py', 'soundfile'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
