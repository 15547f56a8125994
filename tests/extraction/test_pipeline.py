import threading
import time

import pytest

from audiomos_cache.extraction.pipeline import Behind


def test_order_and_thread():
    done = []
    behind = Behind(lambda item: done.append((item, threading.current_thread().name)))
    for item in range(50):
        behind.put(item)
    behind.close()
    assert done == [(item, "behind") for item in range(50)]


def test_the_giver_waits_while_too_many_wait():
    go, begun = threading.Event(), []

    def work(item):
        begun.append(item)
        go.wait(5)

    behind = Behind(work, most=2)
    giver = threading.Thread(target=lambda: [behind.put(item) for item in range(5)])
    giver.start()
    time.sleep(0.1)
    assert (begun, giver.is_alive()) == ([0], True)  # one in work, two waiting, one in hand
    go.set()
    giver.join()
    behind.close()
    assert begun == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_what_fails_behind_is_raised_here_and_the_rest_is_dropped(failure):
    done, dropped = [], []

    def work(item):
        if item == 1:
            raise failure("behind")
        done.append(item)

    behind = Behind(work, drop=dropped.append)
    with pytest.raises(failure, match="behind"):
        for item in range(100):
            behind.put(item)
    behind.close()  # said once
    assert done == [0]
    assert dropped == list(range(2, 2 + len(dropped)))


def test_a_failure_at_the_last_item_is_raised_by_close():
    def work(item):
        raise ValueError(item)

    behind = Behind(work)
    behind.put("last")
    with pytest.raises(ValueError, match="last"):
        behind.close()
