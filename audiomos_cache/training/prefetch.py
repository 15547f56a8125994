"""The next thing is made while the one before is used."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from audiomos_cache.training.gpu_batches import Features

T = TypeVar("T")
S = TypeVar("S")


def ahead(make: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """Make something of each item, in order, in a thread, one ahead of what is used.

    Raises:
        Exception: what `make` raises, in the place of what it would have made. The thread has ended then.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    coming: Future[T] | None = None
    try:
        for item in items:
            made, coming = coming, pool.submit(make, item)
            if made is not None:
                yield made.result()
        if coming is not None:
            yield coming.result()
    finally:
        pool.shutdown(cancel_futures=True)


def features_ahead(
    gather: Callable[[list[int]], Features], batches: Iterable[list[int]], device: torch.device
) -> Iterator[Features]:
    """Gather batches for a GPU in a thread, which brings them there on a stream of its own."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def bring(indices: list[int]) -> Features:
        with torch.cuda.stream(stream):
            features = gather(indices)
        stream.synchronize()  # here, where nothing waits for it
        return features

    for features in ahead(bring, batches):
        used_on = torch.cuda.current_stream(device)
        for tensor in (features.frames, features.frame_mask, features.tokens, features.token_mask):
            tensor.record_stream(used_on)  # so that the memory is not given to the next batch before that
        yield features
