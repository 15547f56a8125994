"""What the benchmarks count is right."""

import threading

import torch

from audiomos_cache.batch import collate, pad_sequences
from audiomos_cache.encoders.tiny import load_muq_tiny
from benchmarks.flows import files_that_call, repeated_names, traced
from benchmarks.limits import muq_flops


def test_operations_of_a_clip() -> None:
    """By hand: two blocks of 3 x 3 convolutions with 32 channels, a linear layer, two layers of width 128."""
    encoder, frames = load_muq_tiny(), 25
    first = 50 * 64 * 9 * (32 + 32 * 32 + 32)
    second = 25 * 32 * 9 * 3 * 32 * 32
    linear = frames * 32 * 32 * 128
    attention = 4 * 128 * 128 + 2 * frames * 128
    layer = frames * (4 * 128 * 256 + attention + 3 * 128 * 128 + 31 * 128)
    assert muq_flops(encoder, 24_000) == 2 * (first + second + linear + 2 * layer)


def test_a_trace_holds_the_files_and_records_of_all_threads_while_it_is_on() -> None:
    def work() -> None:
        tokens, counts = pad_sequences([torch.ones(1, 2)])
        collate(torch.ones(1, 3, 4), torch.tensor([3]), tokens, counts)

    with traced() as trace:
        work()
        assert not trace.files
        trace.on = True
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert (trace.files, trace.records) == ({"batch.py"}, {"Batch"})


def test_functions_are_found_by_what_they_call() -> None:
    assert "batch.py" in files_that_call({"pad_sequence"}) and not files_that_call({"no_such_function"})
    assert "__init__.py" not in repeated_names()
