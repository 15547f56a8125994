"""Folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audiomos_cache.errors import OutputExistsError


@contextmanager
def whole_folder(out: Path, *, replace: bool) -> Iterator[Path]:
    """Give a hidden folder beside `out` to write in, which takes the place of `out` when the block is done.

    After an error or an interrupt `out` is as it was. Two processes never write in the same hidden folder.

    Args:
        out: the folder to make.
        replace: whether a folder of that name is removed for it, once the new one is whole.
    Raises:
        OutputExistsError: `out` exists when the block is done, and `replace` is False.
    """
    out = out.resolve()
    new, old = (out.with_name(f".{out.name}.{os.getpid()}.{age}") for age in ("new", "old"))
    new.mkdir(parents=True)
    try:
        yield new
        if out.exists():
            if not replace:
                raise OutputExistsError(f"{out}: was made by another process meanwhile; give another --out")
            out.rename(old)
        new.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
