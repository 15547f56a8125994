"""Files and folders that appear whole or not at all, on disks and in folders that take nothing."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from audiomos_cache.artifacts import atomic_write, require_writable
from audiomos_cache.cli import main
from audiomos_cache.errors import OutputError
from tests.support.faults import full_disk


def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    atomic_write(path, b"old")
    with full_disk(1000), pytest.raises(OutputError) as caught:
        atomic_write(path, bytes(100_000))
    assert str(caught.value) == f"{path}: cannot be written: File too large; make room there, or give another --out"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("file/a.bin", ".*/file is not a folder"), ("n" * 250, "File name too long"), ("folder", "Is a directory")],
)
def test_a_place_that_takes_no_file_is_named(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=rf"{name[-20:]}: cannot be written: {reason}; fix that, or give an"):
        atomic_write(tmp_path / name, b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    require_writable(tmp_path)
    require_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for folder, reason in (
        ("file", "Not a directory"),
        ("file/runs", "Not a directory"),
        ("link/runs", "No such file"),
    ):
        with pytest.raises(OutputError, match=rf"^{tmp_path / folder}: cannot be written: {reason}"):
            require_writable(tmp_path / folder)
    with full_disk(0), pytest.raises(OutputError, match=rf"^{tmp_path}: cannot be written: File too large; make room "):
        require_writable(tmp_path)


def test_the_command_line_names_the_file_in_one_line(tmp_path: Path) -> None:
    predictions, listed, out = (tmp_path / name for name in ("p.jsonl", "list.txt", "answer.zip"))
    predictions.write_text("".join(f'{{"id": "S001_P{i:03d}", "mi": 3.0, "ta": 2.0}}\n' for i in range(100)))
    listed.write_text("".join(f"S001_P{i:03d}\n" for i in range(100)))
    with full_disk(100):
        result = CliRunner().invoke(main, ["submit", str(predictions), "--list", str(listed), "--out", str(out)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {out}: cannot be written: File too large; make room there, or give another --out\n"
