"""PyTorch as it is when a program starts: what a caller has set around a call changes nothing of what we compute."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock


@contextmanager
def standard_torch() -> Iterator[None]:
    """Give a block, or as a decorator a function, PyTorch's own settings, and restore the caller's afterwards.

    These are: no autocast, new tensors of float32 and on the CPU, gradients on, no inference mode, the usual
    algorithms, deterministic or not, and matrix products of full precision. The default dtype, the algorithms and the
    precision hold for all threads of a process: they are restored when the last thread leaves its block.
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
            if (precision := _matmul_precision()) != "highest":
                self._restored.callback(torch.set_float32_matmul_precision, precision)
                torch.set_float32_matmul_precision("highest")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._restored.close()


def _matmul_precision() -> str:
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # it was set by PyTorch's newer interface, for each backend: left as it is
        return "highest"


_OF_ALL_THREADS = _OfAllThreads()
