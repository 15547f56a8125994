"""Folders that appear whole or not at all, under a name that another may have had."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audiomos_cache.artifacts import hidden, leftovers, sync_folder, writing
from audiomos_cache.errors import OutputExistsError
from audiomos_cache.files import real_path


@contextmanager
def atomic_folder(out: Path, *, replace: bool) -> Iterator[Path]:
    """Yield a hidden folder to write in, which gets the name `out` when the block is done.

    After an error, an interrupt or a kill `out` is as it was; what the latter has left is removed, or brought back, by
    the next call. Two processes never write in the same hidden folder.

    Args:
        out: the folder to make.
        replace: whether a folder of that name is removed for it, once the new one is complete.
    Raises:
        OutputExistsError: `out` is not empty when the block is done, and `replace` is False.
        OutputError: it cannot be made.
    """
    out = real_path(out)
    new, old = hidden(out, "new"), hidden(out, "old")
    clear_leftovers(out)
    with writing(out):
        new.mkdir(parents=True)
    try:
        yield new
        move_folder(new, out, old, replace=replace)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        _remove_replaced(old, out)


def clear_leftovers(out: Path) -> None:
    """Remove what processes that were killed have left next to a folder, and bring back one that they had moved away.

    Raises:
        OutputError: it cannot be brought back.
    """
    out = out.resolve()
    for old in leftovers(out, "old"):
        with writing(out):
            bring_back(old, out)
        _remove_replaced(old, out)
    for new in leftovers(out, "new"):
        shutil.rmtree(new, ignore_errors=True)


def _remove_replaced(old: Path, out: Path) -> None:
    """Remove a folder whose successor has its name."""
    if out.exists():  # otherwise it is the only one
        shutil.rmtree(old, ignore_errors=True)


def move_folder(new: Path, out: Path, old: Path, *, replace: bool) -> None:
    """Give a finished folder its final name, durably.

    Args:
        new: the folder, whose files are synced.
        out: its final name.
        old: the new name of a folder that it replaces; after an error that folder has its old name again, and after a
            kill `bring_back` restores it.
        replace: whether it may replace one that is not empty.
    Raises:
        OutputExistsError: `out` is not empty, and `replace` is False.
        OutputError: it cannot be renamed.
    """
    for folder in (new, *(path for path in new.rglob("*") if path.is_dir())):
        sync_folder(folder)
    with writing(out):
        try:
            if out.exists() and not (out.is_dir() and not any(out.iterdir())):
                if not replace:
                    raise OutputExistsError(f"{out}: another process has made it in the meantime; give another --out")
                out.rename(old)
            new.rename(out)  # also over an empty folder
            sync_folder(out.parent)
        finally:
            bring_back(old, out)


def bring_back(old: Path, out: Path) -> None:
    """Restore the name of a folder that was to be replaced, unless the new one has that name."""
    if old.exists() and not out.exists():
        old.rename(out)
