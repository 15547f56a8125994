"""Folders that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from audiomos_cache.artifacts import atomic_write
from audiomos_cache.errors import OutputError, OutputExistsError
from audiomos_cache.folders import atomic_folder, clear_leftovers
from audiomos_cache.locks import locked


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    out = tmp_path / "file" / "out"
    for making in (atomic_folder(out, replace=False), locked(out / "lock", "out: is being written")):
        with pytest.raises(OutputError, match=rf"^{out}: cannot be written: .*ot a (folder|directory); "), making:
            pytest.fail("written")


def test_what_another_process_made_in_the_meantime_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    message = r"out: another process has made it in the meantime; give another --out$"
    with pytest.raises(OutputExistsError, match=message), atomic_folder(out, replace=False) as folder:
        (folder / "a").write_text("new")
        out.mkdir()
        (out / "a").write_text("another's")
    assert (out / "a").read_text() == "another's"
    assert list(tmp_path.iterdir()) == [out]


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with atomic_folder(out, replace=False) as folder:
        (folder / "a").write_text("new")
    assert (out / "a").read_text() == "new"


def ended_process() -> int:
    """The number of a process that has ended."""
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


@pytest.mark.process
def test_what_a_killed_process_has_left_is_removed_or_brought_back(tmp_path: Path) -> None:
    """Killed between the two renames; and what a process that lives is writing is left alone."""
    out, pid = tmp_path / "a[1]", ended_process()
    for name in (f".a[1].{pid}.old", f".a[1].{pid}.new", f".a[1].{os.getppid()}.new", f".b.{pid}.new", ".a[1].x.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    kept = {f".a[1].{os.getppid()}.new", f".b.{pid}.new", ".a[1].x.new", "a[1]"}
    clear_leftovers(out)
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert (out / "file").read_text() == f".a[1].{pid}.old"
    (tmp_path / f".a[1].{pid}.old").mkdir()
    with atomic_folder(out, replace=True) as folder:
        (folder / "file").write_text("new")
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert (out / "file").read_text() == "new"


@pytest.mark.process
def test_the_part_of_a_file_that_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / f".a.bin.{ended_process()}.part").write_bytes(b"half")
    (tmp_path / f".a.bin.{os.getppid()}.part").write_bytes(b"being written")
    atomic_write(tmp_path / "a.bin", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".a.bin.{os.getppid()}.part", "a.bin"]
