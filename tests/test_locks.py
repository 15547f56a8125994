"""The lock that every artefact is written under; `tests/cache/test_locked_split.py` has the shards of a cache."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audiomos_cache.errors import BusyError, OutputError
from audiomos_cache.locks import locked
from tests.support.faults import full_disk

HOLDER = """
import sys
from pathlib import Path
from audiomos_cache.locks import locked
with locked(Path(sys.argv[1]), "x: is being written"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.process
def test_the_holder_is_named_until_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        message = (
            rf"^x: is being written by process {holder.pid} on \S+ since [-\d]+ [:\d]+; wait for it to finish, or stop "
        )
        with pytest.raises(BusyError, match=message), locked(path, "x: is being written"):
            pytest.fail("two writers")
        holder.kill()
    with locked(path, "x: is being written") as held:
        assert held
        assert f"process {os.getpid()} on" in path.read_text()
    assert path.read_text() == "", "nobody's any more"


def test_several_hold_it_together_and_one_of_them_is_named(tmp_path: Path) -> None:
    path, own = tmp_path / "x.lock", tmp_path / "own.lock"
    with locked(path, "x", shared=True), locked(path, "x", shared=True), locked(own, "its share"):
        alone = locked(path, "x: is read", others=[tmp_path / "none", own])
        with pytest.raises(BusyError, match=f"^x: is read by process {os.getpid()} on"), alone:
            pytest.fail("alone with others")
        with pytest.raises(BusyError, match=r"^x: is read by another process; wait"), locked(path, "x: is read"):
            pytest.fail("alone with others")
    with locked(path, "x"), pytest.raises(BusyError), locked(path, "x", shared=True):
        pytest.fail("with one that is alone")


def test_a_folder_that_its_holder_removes_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the lock file and taking the lock: whoever has a file without a name holds nothing."""
    path, flock = tmp_path / "x" / "lock", fcntl.flock

    def remove_once(file: object, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        shutil.rmtree(path.parent)
        flock(file, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", remove_once)
    with locked(path, "x"), pytest.raises(BusyError), locked(path, "x"):
        pytest.fail("two writers")


def test_a_filesystem_without_locks_is_named_in_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(_file: object, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / "lock", "runs/x: is being trained") as held:
        assert not held
    assert caplog.messages == [
        "runs/x: is being trained without a lock, as this filesystem has none; make sure that no other process does "
        "the same"
    ]


def test_another_error_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_file: object, _operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    message = rf"^{tmp_path}/lock: cannot be written: Input/output error; fix that, or write elsewhere$"
    with pytest.raises(OutputError, match=message), locked(tmp_path / "lock", "x"):
        pytest.fail("held")


@pytest.mark.parametrize("name", ["/proc/x.lock", "link"])
def test_a_lock_that_cannot_be_made_is_named_and_not_waited_for(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "link":
        path.symlink_to(tmp_path / "no" / "folder")
    message = rf"^{path}: cannot be written: No such file or directory; fix that, or write elsewhere$"
    with pytest.raises(OutputError, match=message), locked(path, "x"):
        pytest.fail("held")


def test_a_lock_that_is_always_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flock = tmp_path / "lock", fcntl.flock

    def remove(file: object, operation: int) -> None:
        path.unlink()
        flock(file, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", remove)
    message = rf"^{path}: is removed whenever it is made; write elsewhere$"
    with pytest.raises(OutputError, match=message), locked(path, "x"):
        pytest.fail("held")


def test_a_full_disk_is_told_and_no_lock_left(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    message = rf"^{path}: cannot be written: File too large; make room there, or write elsewhere$"
    with full_disk(0), pytest.raises(OutputError, match=message), locked(path, "x"):
        pytest.fail("held")
    assert not path.exists()
