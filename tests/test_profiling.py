"""Times per stage: summed over threads, shares of the wall time, nothing where it is off, no torch."""

import subprocess
import sys
import threading
import time

import pytest

from audiomos_cache import profiling
from audiomos_cache.profiling import OFF, Profile


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand; a sleep sets it forward."""
    now = [100.0]
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_seconds_and_shares_of_stages(clock):
    profile = Profile()
    for seconds in (1.0, 2.0):
        with profile.stage("decode"):
            clock(seconds)
    with profile.stage("encode"):
        clock(5.0)
    profile.add("write", 6.0)  # of another thread, at the same time
    clock(2.0)
    profile.stop()
    clock(100.0)
    assert profile.wall == 10.0
    assert [(s.name, s.seconds, s.share) for s in profile.stages] == [
        ("decode", 3.0, 0.3),
        ("encode", 5.0, 0.5),
        ("write", 6.0, 0.6),
    ]
    assert profile.lines()[:5] == [
        "stage          seconds   share",
        "decode            3.00   30.0%",
        "encode            5.00   50.0%",
        "write             6.00   60.0%",
        "wall             10.00",
    ]
    found = profile.as_json()
    assert found["wall_s"] == 10.0
    assert found["stages"][1] == {"name": "encode", "seconds": 5.0, "share": 0.5}


def test_threads_add_up_and_a_failing_block_counts():
    profile = Profile()

    def work():
        with pytest.raises(KeyError), profile.stage("work"):
            time.sleep(0.05)
            raise KeyError

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    profile.stop()
    (stage,) = profile.stages
    assert stage.seconds >= 0.2
    assert stage.share == stage.seconds / profile.wall


def test_off_keeps_nothing():
    with OFF.stage("decode"), OFF.stage("encode", "cuda"):
        pass
    OFF.add("write", 1.0)
    assert OFF.stages == []


@pytest.mark.process
def test_neither_torch_nor_numpy_is_imported():
    code = (
        "import sys; from audiomos_cache.profiling import Profile\n"
        "p = Profile()\nwith p.stage('a'): pass\np.stop(); p.lines(); p.as_json()\n"
        "print({'torch', 'numpy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
