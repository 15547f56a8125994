"""PyTorch as it is when a program starts: what a caller has set around a call changes nothing of what we compute."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock


@contextmanager
def standard_torch() -> Iterator[None]:
    """Give a block, or as a decorator a function, PyTorch's own settings, and restore the caller's afterwards.

    These are: no autocast, new tensors of float32 and on the CPU, gradients on, no inference mode, and the usual
    algorithms, deterministic or not. Two of them hold for all threads of a process: the default dtype and the
    algorithms. They are restored when the last thread leaves its block.
    """
    import torch

    with _OF_ALL_THREADS, ExitStack() as own:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                own.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            own.enter_context(torch.device("cpu"))
        own.enter_context(torch.inference_mode(mode=False))
        own.enter_context(torch.enable_grad())
        yield


class _OfAllThreads:
    """The settings of the process: a block that is left must not change them under another that is not."""

    def __init__(self) -> None:
        self._lock, self._inside, self._restored = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        import torch

        with self._lock:
            self._inside += 1
            if (dtype := torch.get_default_dtype()) != torch.float32:
                self._restored.callback(torch.set_default_dtype, dtype)
                torch.set_default_dtype(torch.float32)
            if torch.are_deterministic_algorithms_enabled():
                warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
                self._restored.callback(torch.use_deterministic_algorithms, mode=True, warn_only=warn_only)
                torch.use_deterministic_algorithms(mode=False)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._restored.close()


_OF_ALL_THREADS = _OfAllThreads()
