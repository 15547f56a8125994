"""PyTorch as it is when a program starts: what a caller has set around a call changes nothing of what we compute.

Some of its settings are a thread's, others the process's. The latter are changed only where they are not as they should
be, and while something is computed: never while the caller's code runs between two results. Whether algorithms are
deterministic is the caller's to say, and left alone.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

Restore = Callable[[], None]


@contextmanager
def standard_torch() -> Iterator[None]:
    """Give a block, or as a decorator a function, PyTorch's own settings, and restore the caller's afterwards.

    These are: those of `standard_thread`, new tensors of float32, and matrix products of full precision.
    """
    with _DTYPE, _PRECISION, standard_thread():
        yield


@contextmanager
def standard_thread() -> Iterator[None]:
    """Give a block or a function the settings that a thread has of its own.

    These are: no autocast, new tensors on the CPU, gradients on, no inference mode. What runs while the caller's code
    does needs no others: its tensors have a dtype that they are given.
    """
    import torch

    with ExitStack() as own:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                own.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            own.enter_context(torch.device("cpu"))
        own.enter_context(torch.inference_mode(mode=False))
        own.enter_context(torch.enable_grad())
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute matrix products, convolutions and recurrent layers of float32 in float32, on any device."""
    with _PRECISION, _CUDNN_PRECISION:
        yield


class ProcessSetting:
    """A setting of the process: a block that is left must not change it under another that is not.

    Args:
        change: sets what is not as it should be, and returns what restores it; None: nothing is to be restored.
    """

    def __init__(self, change: Callable[[], Restore | None]) -> None:
        self._change, self._lock, self._inside = change, Lock(), 0
        self._restores: list[Restore] = []

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if restore := self._change():
                self._restores.append(restore)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            while self._restores and not self._inside:
                self._restores.pop()()


def _change_dtype() -> Restore | None:
    import torch

    if (found := torch.get_default_dtype()) == torch.float32:
        return None
    torch.set_default_dtype(torch.float32)

    def restore() -> None:
        if torch.get_default_dtype() == torch.float32:  # else the caller has set another one meanwhile
            torch.set_default_dtype(found)

    return restore


# Backend and operation, those that others fall back on first. mkldnn is what computes on a CPU.
_PRODUCTS = (
    ("generic", "all"), ("cuda", "all"), ("mkldnn", "all"),
    ("cuda", "matmul"), ("mkldnn", "matmul"), ("mkldnn", "conv"), ("mkldnn", "rnn"),
)  # fmt: skip
_FULL = ("none", "ieee")


def _get(setting: tuple[str, str]) -> str:
    """Return the precision of an operation, its own or what it falls back on; a PyTorch that has none: none.

    `torch.backends` has the same as attributes, but what is set as mkldnn's becomes that of all backends.
    """
    import torch

    get = getattr(torch._C, "_get_fp32_precision_getter", None)
    return str(get(*setting)) if get else "none"


def _set(setting: tuple[str, str], precision: str) -> None:
    import torch

    torch._C._set_fp32_precision_setter(*setting, precision)


def _older() -> str:
    """Return the precision of matrix products by the older interface; none where the newer one contradicts it."""
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "none"


def _change_precision() -> Restore | None:
    import torch

    def found() -> list[str]:
        return [_older(), *map(_get, _PRODUCTS)]

    older, *others = found()
    if older == "highest" and all(precision in _FULL for precision in others):
        return None
    before = [(setting, _clear(setting)) for setting in _PRODUCTS]  # with nothing to fall back on, their own
    older = _older()
    torch.set_float32_matmul_precision("highest")
    ours = found()

    def restore() -> None:
        if found() == ours:
            torch.set_float32_matmul_precision(older)
            for setting, own in before:
                if own != "none" or _get(setting) != own:
                    _set(setting, own)

    return restore


def _clear(setting: tuple[str, str]) -> str:
    """Let an operation fall back on others; returns its precision before."""
    if (found := _get(setting)) != "none":
        _set(setting, "none")
    return found


def _change_cudnn() -> Restore | None:
    from torch.backends import cudnn

    wanted: list[tuple[Any, str, object]] = [(cudnn, "enabled", True), (cudnn, "benchmark", False)]
    if hasattr(cudnn, "conv"):
        wanted += [(each, "fp32_precision", "ieee") for each in (cudnn.conv, cudnn.rnn)]
    else:
        wanted.append((cudnn, "allow_tf32", False))
    before = [(owner, name, value, found) for owner, name, value in wanted if (found := getattr(owner, name)) != value]
    for owner, name, value, _ in before:
        setattr(owner, name, value)

    def restore() -> None:
        for owner, name, value, found in before:
            if getattr(owner, name) == value:
                setattr(owner, name, found)

    return restore


_DTYPE, _PRECISION, _CUDNN_PRECISION = map(ProcessSetting, (_change_dtype, _change_precision, _change_cudnn))
