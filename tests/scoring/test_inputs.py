import csv
import json
import os
import shlex
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from audiomos_cache.errors import DataError
from audiomos_cache.scoring.inputs import SUFFIXES, Item, items_of_manifest, items_of_paths


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where a user is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names):
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


# Paths


def test_files_are_taken_as_given_and_a_missing_one_too():
    touch("b.mp3", "a.wav", "sub/c.d.wav", "LOUD.WAV", "notes.txt")
    given = [Path("b.mp3"), Path("a.wav"), Path("sub/c.d.wav"), Path("LOUD.WAV"), Path("notes.txt"), Path("gone.wav")]
    assert items_of_paths(given, "slow piano") == [
        Item(clip_id, path, "slow piano")
        for clip_id, path in zip(["b.mp3", "a", "c.d", "LOUD.WAV", "notes.txt", "gone"], given, strict=True)
    ]


def test_of_a_folder_all_audio_is_taken_in_the_order_of_names():
    touch("m/z.wav", "m/b/x.OGG", "m/b/c/y.Flac", "m/a.mp3", "m/B.WAV")
    touch("m/.hidden.wav", "m/.git/x.wav", "m/b/._x.ogg", "m/list.csv", "m/wav", "m/x.wav.txt")
    Path("m/folder.wav").mkdir()
    assert [(item.id, str(item.path)) for item in items_of_paths([Path("m")], None)] == [
        ("B.WAV", "m/B.WAV"),
        ("a.mp3", "m/a.mp3"),
        ("b/c/y.Flac", "m/b/c/y.Flac"),
        ("b/x.OGG", "m/b/x.OGG"),
        ("z", "m/z.wav"),
    ]


def test_a_folder_gives_every_kind_of_audio_and_tells_what_it_leaves_out(caplog):
    touch(*(f"m/{number}{suffix}" for number, suffix in enumerate(SUFFIXES)), "m/cover.JPG", "m/b/list.csv", "m/c.csv")
    touch("m/README", "m/.DS_Store")
    caplog.set_level("INFO")
    assert len(items_of_paths([Path("m")], None)) == len(SUFFIXES) >= 15
    assert set(SUFFIXES) >= {".opus", ".m4a", ".aac", ".aiff", ".webm", ".mp4", ".oga"}
    assert caplog.messages == ["m: 5 files left out: .csv 2, .jpg 1, hidden 1, no suffix 1"]


def test_a_hidden_folder_that_is_given_is_read():
    touch(".cache/a.wav")
    assert [item.id for item in items_of_paths([Path(".cache")], None)] == ["a"]


def test_a_link_to_a_file_is_taken_and_a_link_to_a_folder_not_followed():
    touch("m/a.wav", "elsewhere/b.wav")
    Path("m/link.wav").symlink_to("../elsewhere/b.wav")
    Path("m/loop").symlink_to("..")
    assert [item.id for item in items_of_paths([Path("m")], None)] == ["a", "link"]


@pytest.mark.parametrize("names", [[], ["m/.hidden.wav", "m/a.txt"]])
def test_a_folder_without_audio_is_refused(names):
    Path("m").mkdir()
    touch(*names)
    with pytest.raises(DataError, match=r"^m: no audio in it, expected files named \.wav, \.flac, \.mp3, \.ogg, "):
        items_of_paths([Path("m")], None)


def test_an_id_twice_is_refused_with_both_files_and_all_at_once():
    touch("x/a.wav", "y/a.wav", "x/b.mp3", "y/b.mp3")
    with pytest.raises(DataError) as caught:
        items_of_paths([Path("x"), Path("y")], None)
    assert str(caught.value) == (
        "'y/a.wav': found the id 'a' again, expected it only of x/a.wav, "
        "'y/b.mp3': found the id 'b.mp3' again, expected it only of x/b.mp3; "
        "give each file once, or ids of their own in a --manifest"
    )


@pytest.mark.parametrize("again", ["a.wav", "./a.wav", "sub/../a.wav", "{here}/a.wav", "link/a.wav"])
def test_a_file_twice_is_refused(again, folder):
    touch("a.wav", "sub/b.wav")
    Path("link").symlink_to(".")
    with pytest.raises(DataError, match=r"a\.wav': given twice; give each file once"):
        items_of_paths([Path("a.wav"), Path(again.format(here=folder))], None)


def test_a_file_twice_under_two_ids_is_refused():
    touch("m/sub/a.wav")
    with pytest.raises(DataError, match=r"^'m/sub/a\.wav': given twice; "):
        items_of_paths([Path("m"), Path("m/sub/a.wav")], None)
    with pytest.raises(DataError, match=r"^'m/sub/a\.wav': given twice; "):
        items_of_paths([Path("m/sub"), Path("m")], None)


def test_an_id_may_hold_what_names_of_music_hold():
    names = ["Blues, slow; 'sad' \"piano\" (v2).mp3", "夜曲.flac", "50% & #1.ogg"]
    touch(*names)
    assert [item.id for item in items_of_paths(map(Path, names), None)] == names


@pytest.mark.parametrize(
    ("name", "clip_id"),
    [
        ("a\nb.wav", r"a\nb"),
        ("a\tb.mp3", r"a\tb.mp3"),
        ("\x7f.wav", r"\x7f"),
        ("a\x1b[31m.wav", r"a\x1b[31m"),
        ("夜\\n\r.wav", r"夜\n\r"),
    ],
)
def test_control_characters_in_a_name_are_escaped_in_its_id_alone(tmp_path, name, clip_id):
    touch(f"m/{name}", "m/é.wav")
    path = Path("m") / name
    expected = sorted([Item(clip_id, path, "x"), Item("é", Path("m/é.wav"), "x")], key=lambda item: item.path)
    assert items_of_paths([Path("m")], "x") == expected
    assert items_of_paths([path], None) == [Item(clip_id, path, None)]
    manifest = jsonl(tmp_path / "m.jsonl", {"path": f"m/{name}", "prompt": "x"})
    if "\\" not in name:  # which leaves the folder on Windows
        assert items_of_manifest(manifest) == [Item(clip_id, tmp_path / "m" / name, "x")]


def test_two_names_of_one_escaped_id_are_told():
    touch("m/a\nb.wav", r"m/a\nb.wav")
    with pytest.raises(DataError) as caught:
        items_of_paths([Path("m")], None)
    assert str(caught.value).startswith(
        r"'m/a\\nb.wav': found the id 'a\\nb' again, expected it only of m/a\nb.wav; give each file once"
    )
    assert str(caught.value).isprintable()


def test_a_file_named_by_its_suffix_alone_has_no_id():
    with pytest.raises(DataError, match=r"^'\.wav': found the id '', expected a name"):
        items_of_paths([Path(".wav")], None)


def test_a_name_that_is_not_utf8_is_kept():
    touch(os.fsdecode(b"caf\xe9.wav"))
    [item] = items_of_paths([Path()], None)
    assert os.fsencode(item.id) == b"caf\xe9"
    assert item.path.exists()


def test_a_path_that_the_system_refuses_is_left_to_scoring():
    Path("loop").symlink_to("loop")
    given = [Path("n" * 300 + ".wav"), Path("loop/a.wav")]
    assert [item.path for item in items_of_paths(given, None)] == given


@pytest.mark.parametrize(("prompt", "kept"), [(None, None), ("", ""), (" \n", ""), (" slow piano\n", "slow piano")])
def test_the_prompt_of_paths_without_outer_blanks(prompt, kept):
    assert [item.prompt for item in items_of_paths([Path("a.wav"), Path("b.wav")], prompt)] == [kept, kept]


def test_a_prompt_that_is_not_utf8_is_refused():
    with pytest.raises(DataError, match=r"^prompt is 'caf\\udce9', expected a string$"):
        items_of_paths([Path("a.wav")], os.fsdecode(b"caf\xe9"))


# Manifests


def jsonl(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_csv_manifest(tmp_path):
    rows = [
        {
            "path": "b.wav",
            "prompt": 'slow, "sad" piano',
            "id": "second.wav",
            "mi": "999",
            "ta": "none",
            "split": "../x",
        },
        {"path": "sub/a.b.mp3", "prompt": " ", "id": "", "mi": "", "ta": "", "split": ""},
        {"path": "sub/c.wav", "prompt": "夜曲\nin two lines", "id": "x, y", "mi": "3", "ta": "", "split": ""},
    ]
    path = tmp_path / "items.CSV"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["mi", "Prompt", "path", "ta", "id", "split"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows({("Prompt" if key == "prompt" else key): value for key, value in row.items()} for row in rows)
    assert items_of_manifest(path) == [
        Item("second", tmp_path / "b.wav", 'slow, "sad" piano', {"mi": "999", "ta": "none", "split": "../x"}),
        Item("a.b.mp3", tmp_path / "sub/a.b.mp3", "", {"mi": "", "ta": "", "split": ""}),
        Item("x, y", tmp_path / "sub/c.wav", "夜曲\nin two lines", {"mi": "3", "ta": "", "split": ""}),
    ]


def test_a_jsonl_manifest_tells_a_blank_prompt_from_none(tmp_path):
    path = jsonl(
        tmp_path / "items.jsonl",
        {"path": "c.wav", "prompt": "slow piano", "id": None, "mi": "?"},
        {"path": "a.wav", "prompt": "", "id": "A"},
        {"path": "b.wav", "prompt": None, "ta": 7},
    )
    assert items_of_manifest(path) == [
        Item("c", tmp_path / "c.wav", "slow piano", {"mi": "?"}),
        Item("A", tmp_path / "a.wav", ""),
        Item("b", tmp_path / "b.wav", None, {"ta": 7}),
    ]


def test_a_file_may_be_scored_with_several_prompts(tmp_path):
    rows = ({"path": "a.wav", "prompt": prompt, "id": prompt} for prompt in ("piano", "drums"))
    assert [item.prompt for item in items_of_manifest(jsonl(tmp_path / "m.jsonl", *rows))] == ["piano", "drums"]


@pytest.mark.parametrize("header", ["path", "prompt,id", "file,words", "path,prompt,path"])
def test_a_manifest_without_a_column_is_refused(tmp_path, header):
    path = tmp_path / "m.csv"
    path.write_text(f"{header}\n")
    with pytest.raises(DataError, match=r"m\.csv: found the columns \[.*\], expected path \(or file_name\) and prompt"):
        items_of_manifest(path)


def test_another_kind_of_file_is_no_manifest(tmp_path):
    with pytest.raises(
        DataError, match=r"a\.wav: a file of another kind, expected a manifest \(\.csv, \.tsv, \.jsonl, \.parquet\)"
    ):
        items_of_manifest(tmp_path / "a.wav")
    with pytest.raises(DataError, match=r"gone\.csv: file not found"):
        items_of_manifest(tmp_path / "gone.csv")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x"}, "found no path, expected one relative to the manifest's folder"),
        ({"path": " ", "prompt": "x"}, "found no path, expected one"),
        ({"path": "b.wav"}, "found no prompt, expected a string, or null for MI alone"),
        ({"path": "b.wav", "prompt": 7}, "prompt is 7, expected a string"),
        ({"path": "b.wav", "prompt": "\ud800"}, r"prompt is '\\ud800', expected a string"),
        ({"path": "b.wav", "prompt": "x", "id": 7}, "id is 7, expected a string"),
        ({"path": "b.wav", "prompt": "x", "id": "a"}, "found 'a' again, expected it only in line 1"),
        ({"path": "sub/a.wav", "prompt": "x"}, "found 'a' again, expected it only in line 1"),
        ({"path": "b.wav", "prompt": "x", "id": "b\0c"}, r"found the id 'b\\x00c', expected a name without control"),
        ({"path": "../b.wav", "prompt": "x"}, r"'\.\./b\.wav' leaves the folder, expected a file inside"),
        ({"path": "b\0.wav", "prompt": "x"}, "leaves the folder"),
        ({"path": "/b\0.wav", "prompt": "x"}, r"'/b\\x00\.wav' leaves "),
        ("b.wav", "expected a JSON object a line"),
    ],
)
def test_bad_rows(tmp_path, row, message):
    path = jsonl(tmp_path / "m.jsonl", {"path": "a.wav", "prompt": "x"}, row)
    with pytest.raises(DataError, match=rf"^m\.jsonl:2: .*{message}.*; correct "):
        items_of_manifest(path)


def test_a_row_that_leaves_a_folder_without_a_name(tmp_path):
    jsonl(Path("m.jsonl"), {"path": "../b.wav", "prompt": "x"}, {"path": "/else/b.wav", "prompt": "x"})
    with pytest.raises(DataError) as caught:
        items_of_manifest(Path("m.jsonl"))
    leaves = f"leaves the folder, expected a file inside {tmp_path}"
    assert str(caught.value) == (
        f"m.jsonl:1: '../b.wav' {leaves}, m.jsonl:2: '/else/b.wav' {leaves}; to allow it, give --audio-root '/else', "
        "or a folder above; correct m.jsonl"
    )


def test_bad_rows_are_told_together(tmp_path):
    path = jsonl(tmp_path / "m.jsonl", *({"path": f"{number}.wav"} for number in range(7)))
    with pytest.raises(DataError, match=r"^m\.jsonl:1: .*, m\.jsonl:5: .*, \.\.\. \(7 in all\); correct"):
        items_of_manifest(path)


def test_absolute_paths_inside_the_folder_of_the_manifest(tmp_path):
    path = jsonl(tmp_path / "m.jsonl", {"path": f"{tmp_path}/sub/a.wav", "prompt": "x"})
    assert items_of_manifest(path) == [Item("a", tmp_path / "sub/a.wav", "x")]


def test_paths_under_an_audio_root(tmp_path):
    music = tmp_path / "music"
    rows = [{"path": str(music / "sub/a.wav"), "prompt": "x"}, {"path": "b.wav", "prompt": "y"}]
    path = jsonl(tmp_path / "lists/m.jsonl", *rows)
    assert items_of_manifest(path, music_of(music)) == [
        Item("a", music / "sub/a.wav", "x"),
        Item("b", music / "b.wav", "y"),
    ]
    with pytest.raises(DataError) as caught:
        items_of_manifest(path)
    assert str(caught.value) == (
        f"m.jsonl:1: '{music}/sub/a.wav' leaves the folder, expected a file inside {tmp_path}/lists; to allow it, give "
        f"--audio-root '{music}/sub', or a folder above; correct {path}"
    )
    with pytest.raises(
        DataError, match=r"^--audio-root .*gone: folder not found, expected the one that the audio is in"
    ):
        items_of_manifest(path, tmp_path / "gone")


def music_of(folder):
    touch(folder / "sub/a.wav", folder / "b.wav")
    return folder


@pytest.mark.parametrize(
    "name", ["music/../secret.wav", "music/link.wav", "music/out/secret.wav", "musical/secret.wav"]
)
def test_nothing_leaves_an_audio_root(tmp_path, name):
    touch(tmp_path / "secret.wav", tmp_path / "music/a.wav", tmp_path / "musical/secret.wav")
    (tmp_path / "music/link.wav").symlink_to("../secret.wav")
    (tmp_path / "music/out").symlink_to("..")
    path = jsonl(tmp_path / "lists/m.jsonl", {"path": f"{tmp_path}/{name}", "prompt": "x"})
    with pytest.raises(DataError, match=r"^m\.jsonl:1: '.*(secret|link)\.wav' leaves .*; to allow it, give "):
        items_of_manifest(path, tmp_path / "music")


def test_an_audio_root_may_be_a_link(tmp_path):
    touch(tmp_path / "disk/a.wav")
    (tmp_path / "music").symlink_to("disk")
    path = jsonl(tmp_path / "lists/m.jsonl", {"path": f"{tmp_path}/music/a.wav", "prompt": "x"})
    assert items_of_manifest(path, tmp_path / "music") == [Item("a", tmp_path / "music/a.wav", "x")]


def test_a_link_out_of_the_manifests_folder_is_refused(tmp_path):
    touch(tmp_path / "secret.wav")
    path = jsonl(tmp_path / "lists/m.jsonl", {"path": "a.wav", "prompt": "x"})
    (tmp_path / "lists/a.wav").symlink_to("../secret.wav")
    with pytest.raises(DataError, match=r"'a\.wav' leaves the folder"):
        items_of_manifest(path)


def test_the_columns_of_a_parquet_manifest_are_what_json_can_hold(tmp_path):
    rows = pa.table(
        {"path": ["a.wav", "b.wav"], "prompt": ["x", None], "mi": [3.5, float("nan")], "system": ["S1", ""]}
    )
    parquet.write_table(rows, tmp_path / "m.parquet")
    found = [item.columns for item in items_of_manifest(tmp_path / "m.parquet")]
    assert [(each["mi"], each["system"]) for each in found] == [(3.5, "S1"), (None, "")]
    assert all(each.keys() <= {"mi", "system", "split"} for each in found)


@pytest.mark.parametrize("name", ["song.csv", "a b.JSONL", "x.parquet"])
def test_a_manifest_in_the_place_of_audio_is_told(name):
    touch("a.wav", name)
    with pytest.raises(DataError) as caught:
        items_of_paths([Path("a.wav"), Path(name)], None)
    assert str(caught.value) == f"{name}: a manifest, expected audio; give it as --manifest {shlex.quote(name)}"
    touch("folder.csv/a.wav")
    assert [item.id for item in items_of_paths([Path("folder.csv")], None)] == ["a"]
