"""Folders that appear whole or not at all."""

from pathlib import Path

import pytest

from audiomos_cache.errors import OutputError, OutputExistsError
from audiomos_cache.folders import atomic_folder
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
