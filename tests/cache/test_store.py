import errno
import os
import re
import subprocess
import sys

import pytest

from audiomos_cache.cache import store
from audiomos_cache.errors import CacheError

HOLDER = """
import sys
from pathlib import Path
from audiomos_cache.cache.store import locked
with locked(Path(sys.argv[1]), "train"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_writer_is_refused_with_the_name_of_the_first(tmp_path):
    with store.locked(tmp_path / "cache", "train"):
        message = rf"cache: split 'train' is being written by process {os.getpid()} on \S+ since [-\d]+ [:\d]+; wait"
        with pytest.raises(CacheError, match=message), store.locked(tmp_path / "cache", "train"):
            pytest.fail("two writers")
        with store.locked(tmp_path / "cache", "dev"):
            pass
    with store.locked(tmp_path / "cache", "train"):
        pass


def test_second_process_is_refused_until_the_first_dies(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        written = (tmp_path / "train.lock").read_bytes()
        with pytest.raises(CacheError, match=f"by process {holder.pid} on"), store.locked(tmp_path, "train"):
            pytest.fail("two writers")
        assert (tmp_path / "train.lock").read_bytes() == written
        holder.kill()
    with store.locked(tmp_path, "train"):
        assert f"process {os.getpid()} on" in (tmp_path / "train.lock").read_text()


def test_publish_never_overwrites(tmp_path):
    new, old = tmp_path / "train.h5.part", tmp_path / "train.h5"
    new.write_text("new")
    old.write_text("old")
    with pytest.raises(CacheError, match=r"train\.h5: exists already and is never replaced; is another extraction"):
        store.publish(new, old)
    assert (new.read_text(), old.read_text()) == ("new", "old")
    old.unlink()
    store.publish(new, old)
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
        store.publish(new, old)
    assert (new.read_text(), old.read_text()) == ("new", "old")
    old.unlink()
    store.publish(new, old)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("train.h5", "new")]


def test_what_was_half_written_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "train.parts").mkdir()
    half = ["train.h5.part", "train-00003.h5.part", "train.parts/0123.part"]
    others = [
        "train.h5",
        "train.lock",
        "train2.h5.part",  # of another split, which another process may be writing
        "train-extra.h5.part",
        "train.parts/0123.h5",
        "dev.h5.part",
    ]
    for name in half + others:
        (tmp_path / name).write_text("")
    store.clear_temporaries(tmp_path, "train")
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(others)


def test_files_and_names_of_splits(tmp_path):
    for name in ("train.h5", "dev-00001.h5", "dev-00000.h5", "dev-extra.h5", "test.h5.part", "eval.lock", "notes.txt"):
        (tmp_path / name).write_text("")
    assert store.split_names(tmp_path) == ["dev", "dev-extra", "train"]
    assert [path.name for path in store.split_files(tmp_path, "dev")] == ["dev-00000.h5", "dev-00001.h5"]
    assert [path.name for path in store.split_files(tmp_path, "train")] == ["train.h5"]
    assert store.split_files(tmp_path, "test") == []
    assert store.split_names(tmp_path / "none") == []


def test_remove_split_takes_its_files_and_parts_alone(tmp_path):
    (tmp_path / "train.parts").mkdir()
    others = ["dev.h5", "train-extra.h5", "train.lock"]
    for name in ("train.h5", "train-00000.h5", "train.parts/a.h5", *others):
        (tmp_path / name).write_text("")
    store.remove_split(tmp_path, "train")
    assert {path.name for path in tmp_path.iterdir()} == set(others)


def test_a_cache_that_cannot_be_made(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with (
        pytest.raises(FileExistsError, match=re.escape(str(tmp_path / "cache"))),
        store.locked(tmp_path / "cache", "a"),
    ):
        pytest.fail("locked a file")
