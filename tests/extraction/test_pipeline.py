import threading
import time

import pytest

from audiomos_cache.extraction.pipeline import BackgroundWorker


def test_order_and_thread():
    done = []
    worker = BackgroundWorker(lambda item: done.append((item, threading.current_thread().name)))
    for item in range(50):
        worker.put(item)
    worker.close()
    assert done == [(item, "write") for item in range(50)]


def test_the_giver_waits_while_too_many_wait():
    go, begun = threading.Event(), []

    def work(item):
        begun.append(item)
        go.wait(5)

    worker = BackgroundWorker(work, max_waiting=2)
    giver = threading.Thread(target=lambda: [worker.put(item) for item in range(5)])
    giver.start()
    time.sleep(0.1)
    assert (begun, giver.is_alive()) == ([0], True)  # one in work, two waiting, one in hand
    go.set()
    giver.join()
    worker.close()
    assert begun == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_an_error_of_the_worker_is_raised_here_and_the_rest_is_dropped(failure):
    done, dropped = [], []

    def work(item):
        if item == 1:
            raise failure("failed")
        done.append(item)

    worker = BackgroundWorker(work, drop=dropped.append)
    with pytest.raises(failure, match="failed"):
        for item in range(100):
            worker.put(item)
    worker.close()  # raised once
    assert done == [0]
    assert dropped == list(range(2, 2 + len(dropped)))


def test_a_failure_at_the_last_item_is_raised_by_close():
    def work(item):
        raise ValueError(item)

    worker = BackgroundWorker(work)
    worker.put("last")
    with pytest.raises(ValueError, match="last"):
        worker.close()


def test_an_interrupt_that_loses_a_notification_does_not_hang_it():
    """As between the two lines of `Condition.notify`: the next notification goes to one that waits no longer."""
    done = []
    worker = BackgroundWorker(done.append)
    waiters = worker._items.not_empty._waiters
    end = time.monotonic() + 10
    while not waiters and time.monotonic() < end:
        time.sleep(0.001)
    waiters.appendleft(threading.Lock())
    waiters[0].acquire()
    worker.put(1)
    worker.close()
    assert done == [1]
