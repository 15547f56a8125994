import random
import struct

import numpy as np
import pytest
import torch
import xxhash
from torch import nn

from audiomos_cache.encoders.lookup import load_audio_encoder
from audiomos_cache.encoders.weights import hash_tensors, seed_weights


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
