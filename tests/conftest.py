"""What holds for all tests: one thread, temporary files in memory, and only tests marked `process` start processes."""

import gc
import os
import platform
import sys
from collections.abc import Iterator

import pytest
import torch

from tests.support.registry import fresh_registry

__all__ = ["fresh_registry"]

torch.set_num_threads(1)  # the tensors of the tests are small, and other processes share the cores
if os.access("/dev/shm", os.W_OK):  # in memory, a call of fsync takes microseconds; on a disk ten milliseconds
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")

platform.processor()  # starts `uname`, once; otherwise the first test that imports h5py would start it
STARTS_A_PROCESS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system")
_unmarked: list[str] = []  # the test that runs now, where it has no marker `process`


def _watch(event: str, _arguments: tuple[object, ...]) -> None:
    if event in STARTS_A_PROCESS and _unmarked:
        raise RuntimeError(f"{_unmarked[0]} starts a process ({event}); mark it with @pytest.mark.process")


sys.addaudithook(_watch)


def pytest_collection_finish() -> None:
    gc.freeze()  # what the imports made stays: it need not be looked through again and again


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("process") is None:
        _unmarked.append(item.nodeid)
    try:
        return (yield)
    finally:
        _unmarked.clear()
