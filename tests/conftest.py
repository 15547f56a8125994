"""What holds for all tests: one thread, temporary files in memory, and only tests marked `process` start processes."""

import _posixsubprocess
import functools
import gc
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.hub import offline
from tests.support.registry import fresh_registry

__all__ = ["fresh_registry", "offline"]

if os.access("/dev/shm", os.W_OK):  # in memory, a call of fsync takes microseconds; on a disk ten milliseconds
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")

platform.processor()  # starts `uname`, once; otherwise the first test that imports h5py would start it
STARTS_A_PROCESS = (
    *((os, name) for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system")),
    (subprocess, "_fork_exec"),
    (_posixsubprocess, "fork_exec"),  # of multiprocessing
)
_unmarked: list[str] = []  # the test that runs now, where it has no marker `process`


def _watched(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def watched(*arguments: Any, **keywords: Any) -> Any:
        if _unmarked:
            raise RuntimeError(f"{_unmarked[0]} starts a process ({function.__name__}); use @pytest.mark.process")
        return function(*arguments, **keywords)

    return watched


for _module, _name in STARTS_A_PROCESS:  # not an audit hook, which would be called a million times
    setattr(_module, _name, _watched(getattr(_module, _name)))


def pytest_collection_finish() -> None:
    import torch  # here: the process that hands out the tests needs none

    torch.set_num_threads(1)  # the tensors of the tests are small, and other processes share the cores
    gc.freeze()  # what the imports made stays: it need not be looked through again and again


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("process") is None:
        _unmarked.append(item.nodeid)
    try:
        return (yield)
    finally:
        _unmarked.clear()
