import errno
import fcntl
import os
import re
import subprocess
import sys

import pytest

from audiomos_cache.cache.paths import Shard, locked_split, remove_shard_locks
from audiomos_cache.errors import BusyError, CacheError, OutputError

HOLDER = """
import sys
from pathlib import Path
from audiomos_cache.cache.paths import locked_split
with locked_split(Path(sys.argv[1]), "train"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_writer_is_refused_with_the_name_of_the_first(tmp_path):
    with locked_split(tmp_path / "cache", "train") as sure:
        assert sure
        message = rf"cache: split 'train' is being written by process {os.getpid()} on \S+ since [-\d]+ [:\d]+; wait"
        with pytest.raises(BusyError, match=message), locked_split(tmp_path / "cache", "train"):
            pytest.fail("two writers")
        with locked_split(tmp_path / "cache", "dev"):
            pass
    with locked_split(tmp_path / "cache", "train"):
        pass


@pytest.mark.process
def test_second_process_is_refused_until_the_first_dies(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        written = (tmp_path / "train.lock").read_bytes()
        with pytest.raises(BusyError, match=f"by process {holder.pid} on"), locked_split(tmp_path, "train"):
            pytest.fail("two writers")
        assert (tmp_path / "train.lock").read_bytes() == written
        holder.kill()
    with locked_split(tmp_path, "train"):
        assert f"process {os.getpid()} on" in (tmp_path / "train.lock").read_text()
    assert (tmp_path / "train.lock").read_text() == ""  # nobody's any more


def test_a_cache_that_cannot_be_made(tmp_path):
    (tmp_path / "cache").write_text("a file")
    message = re.escape(f"{tmp_path / 'cache'}: is a file, expected a folder for the cache; give another one")
    with pytest.raises(CacheError, match=message), locked_split(tmp_path / "cache", "a"):
        pytest.fail("locked a file")


def test_the_holder_of_the_very_shard_is_named(tmp_path):
    """Two shards are being written; who requests the second gets the name of its process, who requests all of any."""
    with locked_split(tmp_path, "train", Shard(1, 3)), locked_split(tmp_path, "train", Shard(2, 3)):
        for index in (1, 2):
            (tmp_path / f"train.{index}-of-3.lock").write_text(f"process {index}")
        with pytest.raises(BusyError, match="by process 2;"), locked_split(tmp_path, "train", Shard(2, 3)):
            pytest.fail("two writers")
        with pytest.raises(BusyError, match="by process 1;"), locked_split(tmp_path, "train"):
            pytest.fail("two writers")
        with locked_split(tmp_path, "train", Shard(3, 3)):
            pass


def test_who_asks_for_the_holder_keeps_nobody_out(tmp_path, monkeypatch):
    """The lock of the whole split is asked for once, and not to look at its file."""
    calls, flock = [], fcntl.flock

    def watch(file, operation):
        calls.append(os.path.basename(file.name))  # noqa: PTH119
        return flock(file, operation)

    with locked_split(tmp_path, "train"):
        monkeypatch.setattr(fcntl, "flock", watch)
        with pytest.raises(BusyError), locked_split(tmp_path, "train", Shard(1, 2)):
            pytest.fail("two writers")
    assert calls == ["train.lock"]


def test_the_locks_of_shards_may_go_while_one_looks_for_the_holder(tmp_path, monkeypatch):
    (tmp_path / "train.1-of-2.lock").write_text("")
    open_, gone = type(tmp_path).open, []

    def open_too_late(path, *arguments, **options):
        if path.name == "train.1-of-2.lock":
            gone.append(path)
            path.unlink()
        return open_(path, *arguments, **options)

    with locked_split(tmp_path, "train"):
        monkeypatch.setattr(type(tmp_path), "open", open_too_late)
        with pytest.raises(BusyError, match=f"by process {os.getpid()} on"), locked_split(tmp_path, "train"):
            pytest.fail("two writers")
    assert len(gone) == 1


def test_locks_of_shards_are_removed_and_no_others(tmp_path):
    others = ["train.lock", "train-extra.1-of-2.lock", "dev.1-of-2.lock"]
    for name in ("train.1-of-2.lock", "train.2-of-2.lock", *others):
        (tmp_path / name).write_text("")
    remove_shard_locks(tmp_path, "train")
    assert {path.name for path in tmp_path.iterdir()} == set(others)


@pytest.mark.parametrize("shard", [None, Shard(1, 2)])
def test_a_filesystem_without_locks_is_said_to_be_unsure(tmp_path, monkeypatch, caplog, shard):
    def flock(_file, _operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked_split(tmp_path, "train", shard) as sure:
        assert not sure
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: split 'train' is being written without a lock, as this filesystem has none; "
        "make sure that no other process does the same"
    ]


def test_another_error_of_the_lock_is_not_hidden(tmp_path, monkeypatch):
    def flock(_file, _operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OutputError, match="cannot be written: Input/output error"), locked_split(tmp_path, "train"):
        pytest.fail("locked")
