"""What is made ahead comes in order, and so does what goes wrong."""

import threading
import time

import pytest

from audiomos_cache.training.batches import ahead


def test_things_come_in_order_and_one_ahead() -> None:
    made: list[int] = []

    def make(item: int) -> int:
        made.append(item)
        return 10 * item

    used = []
    for thing in ahead(make, range(5)):
        deadline = time.monotonic() + 5
        while len(made) < min(len(used) + 2, 5) and time.monotonic() < deadline:
            time.sleep(0.001)
        used.append(thing)
        assert made == list(range(min(len(used) + 1, 5))), "the next one, and no more"
    assert used == [0, 10, 20, 30, 40]
    assert list(ahead(make, [])) == []


def test_they_are_made_in_another_thread_which_ends() -> None:
    before = threading.active_count()
    assert set(ahead(lambda _item: threading.current_thread().name, range(3))) != {threading.current_thread().name}
    assert threading.active_count() == before


def test_an_error_comes_in_its_place() -> None:
    def make(item: int) -> int:
        if item == 2:
            raise ValueError("item 2")
        return item

    used = []
    with pytest.raises(ValueError, match="item 2"):
        for thing in ahead(make, range(5)):
            used.append(thing)
    assert used == [0, 1]


def test_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    for _ in ahead(lambda item: item, range(100)):
        break
    assert threading.active_count() == before
