"""Paths in manifests: of Windows, absolute ones, and that none leaves the folder."""

import json
from pathlib import Path

import pytest

from audiomos_cache import extract
from audiomos_cache.audio.source import EncodedAudio, read_source
from audiomos_cache.dataset.loading import load_dataset
from audiomos_cache.errors import DataError
from audiomos_cache.scoring.inputs import items_of_manifest


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def manifest(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"path": name, "prompt": "x"}) + "\n" for name in names))
    return path


def test_a_path_of_windows_is_the_file_that_it_means(tmp_path: Path) -> None:
    touch(tmp_path / "wav/deep/a.wav")
    path = manifest(tmp_path / "m.jsonl", "wav\\deep\\a.wav")
    [clip] = load_dataset(path)["all"]
    [item] = items_of_manifest(path)
    assert (clip.id, item.id) == ("a", "a")
    assert clip.path == item.path == tmp_path / "wav/deep/a.wav"


def test_a_file_with_a_backslash_in_its_name_goes_first(tmp_path: Path) -> None:
    touch(tmp_path / "wav/a.wav")
    literal = touch(tmp_path / "wav\\a.wav")
    path = manifest(tmp_path / "m.jsonl", "wav\\a.wav")
    assert load_dataset(path)["all"][0].path == literal
    literal.unlink()
    assert load_dataset(path)["all"][0].path == tmp_path / "wav/a.wav"


@pytest.mark.parametrize("name", ["n" * 6000 + ".wav", "n\\" * 3000 + "a.wav", "n/" * 3000 + "a.wav"])
def test_a_name_that_is_too_long_for_any_file_is_missing(tmp_path: Path, name: str) -> None:
    path = manifest(tmp_path / "m.jsonl", "b.wav", name)
    clips = load_dataset(path)["all"]
    assert items_of_manifest(path)[1].path == clips[1].path == tmp_path / name.replace("\\", "/")
    with pytest.raises(DataError) as caught:
        extract(path, tmp_path / "cache", pad_to=None, audio_encoder="muq-tiny", text_encoder="roberta-tiny")
    assert str(caught.value).startswith(f"split 'all': audio files that the list names are missing: {tmp_path}/b.wav, ")
    with pytest.raises(DataError, match=r": cannot be read \(File name too long\), expected an audio file"):
        read_source(clips[1].path)
    with pytest.raises(DataError, match=r"^--audio-root nnn.*: folder not found"):
        load_dataset(path, audio_root=Path("n" * 6000))


def test_a_pointer_of_git_lfs_is_called_so(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n"
    path = tmp_path / "a.wav"
    path.write_bytes(pointer)
    for source in (path, EncodedAudio("a row", pointer)):
        with pytest.raises(DataError) as caught:
            read_source(source)
        assert str(caught.value) == f"{source}: a pointer of Git LFS, not the data; run git lfs pull in its folder"
    path.write_bytes(b"version 1 of a text")
    assert read_source(path) == b"version 1 of a text"


def test_a_missing_one_is_named_as_it_would_be_here(tmp_path: Path) -> None:
    assert load_dataset(manifest(tmp_path / "m.jsonl", "wav\\a.wav"))["all"][0].path == tmp_path / "wav/a.wav"


@pytest.mark.parametrize("name", ["C:\\music\\a.wav", "c:/music/a.wav", "C:a.wav", "\\\\host\\share\\a.wav", "\\a.wav"])
def test_an_absolute_path_of_windows_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    touch(tmp_path / name) if "/" not in name else None
    for read in (load_dataset, items_of_manifest):
        with pytest.raises(DataError) as caught:
            read(manifest(tmp_path / "m.jsonl", name))
        assert str(caught.value) == (
            f"m.jsonl:1: {name!r} leaves the folder: an absolute path of Windows, expected one relative to {tmp_path}, "
            f"such as 'a.wav'; write it so, with the folders in there that it is in; correct {tmp_path}/m.jsonl"
        )


@pytest.mark.parametrize(
    "name", ["..\\x.wav", "wav\\..\\..\\x.wav", "wav/..\\../x.wav", "../x.wav", "link\\x.wav", "link/x.wav"]
)
def test_nothing_leaves_the_folder(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    touch(tmp_path / "x.wav")
    touch(data / "wav/a.wav")
    (data / "link").symlink_to("..")
    for read in (load_dataset, items_of_manifest):
        with pytest.raises(DataError, match=r"^m\.jsonl:1: '.*x\.wav' leaves the folder, expected a file inside"):
            read(manifest(data / "m.jsonl", name))


def test_an_audio_root_is_where_extraction_looks(tmp_path: Path) -> None:
    music = touch(tmp_path / "music/sub/a.wav").parent.parent
    path = manifest(tmp_path / "lists/m.jsonl", "sub\\a.wav", f"{music}/b.wav")
    clips = load_dataset(path, audio_root=music)["all"]
    assert [clip.path for clip in clips] == [music / "sub/a.wav", music / "b.wav"]
    with pytest.raises(DataError, match=rf"to allow it, give --audio-root '{music}', or a folder above; correct"):
        load_dataset(path)
    with pytest.raises(DataError, match=r"^--audio-root .*gone: folder not found"):
        load_dataset(path, audio_root=tmp_path / "gone")
    with pytest.raises(DataError, match=r"m\.jsonl:1: '/etc/passwd' leaves the folder"):
        load_dataset(manifest(path, "/etc/passwd"), audio_root=music)
