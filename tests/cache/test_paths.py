import errno
import os
import socket

import pytest
import xxhash

from audiomos_cache.cache import paths
from audiomos_cache.cache.paths import Shard
from audiomos_cache.errors import CacheError


def test_publish_never_overwrites(tmp_path):
    new, old = tmp_path / "train.h5.part", tmp_path / "train.h5"
    new.write_text("new")
    old.write_text("old")
    with pytest.raises(CacheError, match=r"train\.h5: exists already and is never replaced; is another extraction"):
        paths.publish(new, old)
    assert (new.read_text(), old.read_text()) == ("new", "old")
    old.unlink()
    paths.publish(new, old)
    assert [path.name for path in tmp_path.iterdir()] == ["train.h5"]
    assert old.read_text() == "new"


def test_publish_where_the_filesystem_has_no_hard_links(tmp_path, monkeypatch):
    def link(_source, _target):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", link)
    new, old = tmp_path / "train.h5.part", tmp_path / "train.h5"
    new.write_text("new")
    old.write_text("old")
    with pytest.raises(CacheError, match="exists already and is never replaced"):
        paths.publish(new, old)
    assert (new.read_text(), old.read_text()) == ("new", "old")
    old.unlink()
    paths.publish(new, old)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("train.h5", "new")]


def files_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def make_files(folder, names):
    (folder / "train.parts").mkdir()
    for name in names:
        (folder / name).write_text("")


def test_a_temporary_is_of_one_process(tmp_path):
    process = f"{socket.gethostname()}-{os.getpid()}"
    final = tmp_path / "train.h5"
    assert paths.temporary_path(final) == tmp_path / f"train.h5.whole.{process}.part"
    assert paths.temporary_path(final, Shard(2, 4)) == tmp_path / f"train.h5.2-of-4.{process}.part"


def test_a_part_of_the_same_clips_has_the_same_name(tmp_path):
    name = xxhash.xxh3_128_hexdigest(b"a\nb")
    assert paths.part_path(tmp_path, "train", ["a", "b"]) == tmp_path / "train.parts" / f"{name}.h5"
    names = {paths.part_path(tmp_path, "train", ids) for ids in (["a", "b"], ["b", "a"], ["a"], [])}
    assert len(names) == 4


def test_what_was_half_written_is_removed_and_nothing_else(tmp_path):
    half = [
        "train.h5.whole.host-12.part",
        "train-00003.h5.whole.host-12.part",
        "train.parts/0123.h5.whole.host-12.part",
        "train.parts/0123.h5.1-of-2.other-7.part",
    ]
    others = [
        "train.h5",
        "train.lock",
        "train.h5.damaged",
        "train2.h5.whole.host-12.part",  # of another split, which another process may be writing
        "train-extra.h5.whole.host-12.part",
        "train.parts/0123.h5",
        "train.parts/0123.h5.damaged",
        "dev.h5.whole.host-12.part",
    ]
    make_files(tmp_path, half + others)
    paths.clear_temporaries(tmp_path, "train")
    assert files_in(tmp_path) == set(others)


def test_a_shard_removes_what_it_left_half_written_itself(tmp_path):
    half = ["train.parts/0123.h5.1-of-2.host-12.part", "train.parts/4567.h5.1-of-2.other-7.part"]
    others = [
        "train.parts/0123.h5.2-of-2.host-13.part",  # being written
        "train.parts/0123.h5.11-of-2.host-13.part",
        "train.parts/0123.h5.1-of-20.host-13.part",
        "train.parts/89ab.h5",
        "train.h5.whole.host-12.part",
    ]
    make_files(tmp_path, half + others)
    paths.clear_temporaries(tmp_path, "train", Shard(1, 2))
    assert files_in(tmp_path) == set(others)


def test_clearing_where_nothing_is(tmp_path):
    for shard in (None, Shard(1, 2)):
        paths.clear_temporaries(tmp_path, "train", shard)
    assert list(tmp_path.iterdir()) == []


def test_a_published_file_becomes_a_part(tmp_path):
    (tmp_path / "train.h5").write_text("content")
    paths.make_part(tmp_path / "train.h5", "train", ["a", "b"])
    name = xxhash.xxh3_128_hexdigest(b"a\nb")
    assert files_in(tmp_path) == {f"train.parts/{name}.h5"}
    assert [path.read_text() for path in paths.part_files(tmp_path, "train")] == ["content"]


def test_what_is_set_aside_is_no_file_of_the_split_any_more(tmp_path):
    make_files(tmp_path, ["train.h5", "train.parts/0123.h5"])
    for path in (tmp_path / "train.h5", tmp_path / "train.parts" / "0123.h5"):
        paths.set_aside(path)
    assert files_in(tmp_path) == {"train.h5.damaged", "train.parts/0123.h5.damaged"}
    assert paths.all_names(tmp_path) == paths.part_files(tmp_path, "train") == paths.every_file(tmp_path, "train") == []
    paths.remove_parts(tmp_path, "train")
    assert list(tmp_path.iterdir()) == []


def test_files_and_names_of_splits(tmp_path):
    for name in ("train.h5", "dev-00001.h5", "dev-00000.h5", "dev-extra.h5", "test.h5.part", "eval.lock", "notes.txt"):
        (tmp_path / name).write_text("")
    assert paths.split_names(tmp_path) == ["dev", "dev-extra", "train"]
    assert [path.name for path in paths.split_files(tmp_path, "dev")] == ["dev-00000.h5", "dev-00001.h5"]
    assert [path.name for path in paths.split_files(tmp_path, "train")] == ["train.h5"]
    assert paths.split_files(tmp_path, "test") == []
    assert paths.split_names(tmp_path / "none") == []


def test_names_of_interrupted_splits(tmp_path):
    make_files(tmp_path, ["dev.h5", "train.parts/0123.h5"])
    for name, content in (("test.parts", "0123.h5.whole.host-12.part"), ("dev.parts", "4567.h5"), ("eval.parts", None)):
        (tmp_path / name).mkdir()
        if content:
            (tmp_path / name / content).write_text("")
    assert paths.interrupted_names(tmp_path) == ["dev", "train"]
    assert paths.split_names(tmp_path) == ["dev"]
    assert paths.all_names(tmp_path) == ["dev", "train"]
    assert paths.all_names(tmp_path / "none") == []


def test_names_of_the_files_of_a_split():
    assert paths.file_names("train", 1) == ["train.h5"]
    assert paths.file_names("train", 3) == ["train-00000.h5", "train-00001.h5", "train-00002.h5"]


def test_remove_split_takes_its_files_and_parts_alone(tmp_path):
    others = ["dev.h5", "train-extra.h5", "train.lock", "train-extra.h5.damaged", "dev.h5.damaged"]
    make_files(tmp_path, ["train.h5", "train-00000.h5", "train.parts/a.h5", "train.parts/b.h5.damaged",
                          "train.h5.damaged", "train-00001.h5.damaged", *others])  # fmt: skip
    paths.remove_split(tmp_path, "train")
    assert {path.name for path in tmp_path.iterdir()} == set(others)
