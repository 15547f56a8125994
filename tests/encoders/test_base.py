import random
import struct
from contextlib import ExitStack

import numpy as np
import pytest
import torch
import xxhash
from torch import nn
from transformers.utils import logging as transformers_logging

from audiomos_cache.encoders.base import QUIET_TRANSFORMERS, hash_tensors, resolve_layers, seed_weights
from audiomos_cache.encoders.lookup import load_audio_encoder
from audiomos_cache.errors import ConfigError


@pytest.mark.parametrize(
    ("asked", "resolved"),
    [
        ((-1,), (12,)),
        ((12,), (12,)),
        ((-1, 12), (12,)),
        ((0,), (0,)),
        ((-13,), (0,)),
        ((-2,), (11,)),
        ((12, 6, 9), (6, 9, 12)),
        ((-1, 3, -10, 3), (3, 12)),
        (range(13), tuple(range(13))),
    ],
)
def test_layers_are_counted_from_the_start_sorted_and_taken_once(asked, resolved):
    assert resolve_layers(asked, depth=12, name="muq") == resolved


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((13,), "--layers 13: muq has layers 0 to 12 (or -13 to -1)"),
        ((-14,), "--layers -14: muq has layers 0 to 12 (or -13 to -1)"),
        ((99, 6, -20), "--layers 99,-20: muq has layers 0 to 12 (or -13 to -1)"),
        ((), "--layers: none given; muq has layers 0 to 12 (or -13 to -1)"),
    ],
)
def test_layers_that_there_are_not_are_refused(asked, message):
    with pytest.raises(ConfigError) as caught:
        resolve_layers(asked, depth=12, name="muq")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("asked", "message"), [((0, 3), "--layers 3: muq-tiny has layers 0 to 2 (or -3 to -1)"), ((), "--layers: none")]
)
def test_a_built_in_encoder_refuses_layers_it_does_not_have(asked, message):
    with pytest.raises(ConfigError) as caught:
        load_audio_encoder("muq-tiny", layers=asked)
    assert str(caught.value).startswith(message)


def tensors():
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}


def test_the_hash_is_of_these_bytes():
    a = b"a torch.float32 (2, 3)\n" + struct.pack("<6f", 0, 1, 2, 3, 4, 5)
    b = b"b torch.float32 (2,)\n" + struct.pack("<2f", 1, 1)
    assert hash_tensors(tensors()) == xxhash.xxh3_128_hexdigest(a + b)


def test_the_hash_does_not_depend_on_order_or_memory_layout():
    transposed = torch.arange(6.0).reshape(2, 3).T.contiguous().T
    assert not transposed.is_contiguous()
    assert hash_tensors({"b": torch.ones(2), "a": transposed}) == hash_tensors(tensors())


@pytest.mark.parametrize(
    "changed",
    [
        {"a": torch.arange(6.0).reshape(2, 3), "c": torch.ones(2)},
        {"a": torch.arange(6.0).reshape(3, 2), "b": torch.ones(2)},
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float64)},
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1.0, 1.0000001])},
        {"a": torch.arange(6.0).reshape(2, 3)},
    ],
    ids=["name", "shape", "dtype", "last bit", "fewer"],
)
def test_the_hash_changes_with(changed):
    assert hash_tensors(changed) != hash_tensors(tensors())


def test_counters_are_not_hashed():
    assert hash_tensors({**tensors(), "num_batches_tracked": torch.tensor(7)}) == hash_tensors(tensors())


def test_half_precision_is_hashed_by_its_own_bytes():
    halves = {"a": torch.tensor([1.0, 2.0], dtype=torch.bfloat16)}
    assert hash_tensors(halves) != hash_tensors({"a": torch.tensor([1.0, 2.0], dtype=torch.float16)})


def seeded(seed):
    model = nn.Sequential(nn.Linear(16, 400), nn.LayerNorm(400), nn.Conv1d(8, 50, 2), nn.BatchNorm1d(50))
    seed_weights(model, seed)
    return model


def test_seeded_weights_are_uniform_on_one_over_root_fan_in():
    linear, _, convolution, _ = seeded(1)
    for values in (linear.weight, linear.bias, convolution.weight):  # both have 16 inputs
        assert values.abs().max() <= 0.25
        assert values.abs().max() > 0.24
        assert abs(values.mean()) < 0.03
        assert values.std().item() == pytest.approx(0.25 / np.sqrt(3), rel=0.1)


def test_seeded_norms_are_one_and_zero():
    _, layer_norm, _, batch_norm = seeded(1)
    for norm in (layer_norm, batch_norm):
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))
        assert torch.equal(norm.bias, torch.zeros_like(norm.bias))


def test_seeded_weights_depend_on_the_seed_and_the_name_alone():
    same, other = seeded(1), seeded(2)
    assert hash_tensors(seeded(1).state_dict()) == hash_tensors(same.state_dict())
    assert not torch.equal(same[0].weight, other[0].weight)
    renamed = nn.Sequential(nn.Identity(), nn.Linear(16, 400))
    seed_weights(renamed, 1)
    assert not torch.equal(renamed[1].weight, same[0].weight)
    alone = nn.Sequential(nn.Linear(16, 400))
    seed_weights(alone, 1)
    assert torch.equal(alone[0].weight, same[0].weight) and torch.equal(alone[0].bias, same[0].bias)


def test_loading_an_encoder_leaves_the_global_generators_alone():
    torch.manual_seed(1984)
    random.seed(1984)
    expected = torch.rand(3).tolist(), random.random()
    torch.manual_seed(1984)
    random.seed(1984)
    load_audio_encoder("muq-tiny")
    assert (torch.rand(3).tolist(), random.random()) == expected


def test_transformers_speaks_again_after_two_loads_at_once() -> None:
    def speaks() -> tuple[int, bool]:
        return transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()

    before = speaks()
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(QUIET_TRANSFORMERS)
        second.enter_context(QUIET_TRANSFORMERS)
        first.close()
        assert speaks() == (transformers_logging.ERROR, False), "the second load is not done"
    assert speaks() == before
