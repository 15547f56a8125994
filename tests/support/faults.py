"""Failures on request: a process that dies, a disk that fails."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Killed(BaseException):
    """In place of SIGKILL: nothing catches it, and whatever runs on the way out changes nothing on the disk."""


CHANGES = ("open", "pwrite", "fsync", "link", "rename", "unlink", "rmdir", "posix_fallocate")


@contextmanager
def killed_at(call: str, number: int) -> Iterator[list[str]]:
    """Let the process die at its so-manieth `os.CALL`; a write is torn. Does nothing where it has fewer.

    Yields:
        A list that is not empty once it died.
    """
    died: list[str] = []
    calls: list[str] = []

    def dying(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(*arguments: Any, **others: Any) -> Any:
            if died:
                raise Killed
            if name == call:
                calls.append(name)
                if len(calls) == number:
                    died.append(name)
                    if name == "pwrite":
                        descriptor, data, position = arguments
                        original(descriptor, bytes(data)[: len(data) // 2], position)
                    raise Killed
            return original(*arguments, **others)

        return replacement

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, dying(name, getattr(os, name)))
        yield died


def content(folder: Path) -> dict[str, bytes]:
    """Name and bytes of every file in a folder, without locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@contextmanager
def full_disk(bytes_left: int) -> Iterator[None]:
    """Let no file grow past so many bytes, as on a disk or in a quota that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
