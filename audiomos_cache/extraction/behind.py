"""Work done behind: by one thread, in the order given, while the giver goes on."""

import threading
from collections.abc import Callable
from queue import Queue
from typing import Generic, TypeVar

T = TypeVar("T")
ITEMS_BEHIND = 8  # batches of a GPU, while the prompts are encoded beside the first of them


class Behind(Generic[T]):
    """Hands items to a function on a thread of its own; at most so many wait.

    What the function raises, an interrupt included, is raised by the next `put`, or by `close`; items that wait then
    are dropped.

    Args:
        work: the function.
        drop: told of each item that is dropped.
        most: that wait.
    """

    def __init__(
        self, work: Callable[[T], None], drop: Callable[[T], None] = lambda _item: None, most: int = ITEMS_BEHIND
    ) -> None:
        self._work, self._drop = work, drop
        self._items: Queue[tuple[T] | None] = Queue(most)
        self._error: BaseException | None = None
        self._hurry = False
        self._thread = threading.Thread(target=self._run, name="behind", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand over an item; waits while too many are waiting."""
        self._items.put((item,))
        self._raise()

    def close(self) -> None:
        """Wait until all items are done. An interrupt meanwhile drops those that wait."""
        try:
            self._items.put(None)
            self._thread.join()
        except BaseException:
            self._hurry = True
            self._items.put(None)
            self._thread.join()
            raise
        self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            self._hurry = True
            raise error

    def _run(self) -> None:
        while (item := self._items.get()) is not None:
            if self._error is not None or self._hurry:
                self._drop(item[0])
            else:
                try:
                    self._work(item[0])
                except BaseException as error:  # given to the other thread
                    self._error = error
