"""Weights of a MuQ that is not built yet, and what they say of it."""

import pytest
import torch

from audiomos_cache.encoders.base import seed_weights
from audiomos_cache.encoders.lookup import load_audio_encoder
from audiomos_cache.encoders.muq import MuQEncoder, build_muq, require_weights
from audiomos_cache.encoders.muq_weights import RELEASED_CONFIG, MuQWeights, weights_without_config
from audiomos_cache.encoders.tiny import TINY_MUQ_CONFIG
from audiomos_cache.errors import ConfigError, EncoderError

FACTS = {"name": "m", "source": "s", "revision": "r"}


@pytest.fixture
def model():
    made = build_muq(TINY_MUQ_CONFIG)
    seed_weights(made, 4)
    return made


@pytest.fixture
def weights(model):
    return weights_without_config(model.state_dict(), "here")


def test_the_widths_are_those_of_the_tensors(weights):
    assert weights.config == TINY_MUQ_CONFIG
    assert weights.config["w2v2_config"].keys() == RELEASED_CONFIG["w2v2_config"].keys()


def test_the_identity_is_that_of_the_encoder_it_makes(model, weights):
    expected = MuQEncoder(model, layers=(0, 2), **FACTS).identity()
    assert weights.identity((0, 2)) == expected
    assert MuQEncoder.of_weights(weights, layers=(0, 2), **FACTS).identity() == expected


def test_an_encoder_of_weights_gives_the_frames_of_its_class(model, weights):
    waveforms = torch.randn(2, 24_000, generator=torch.Generator().manual_seed(1)) * 0.1
    expected = MuQEncoder(model, **FACTS).encode(waveforms)
    assert torch.equal(MuQEncoder.of_weights(weights, **FACTS).encode(waveforms), expected)


def test_other_layers_of_the_same_weights():
    one, several = (load_audio_encoder("muq-tiny", layers=layers) for layers in ((-1,), (0, 1, 2)))
    shared = one.with_layers([2, 0])
    waveforms = torch.randn(1, 24_000, generator=torch.Generator().manual_seed(2)) * 0.1
    assert (shared.layers, one.layers) == ((0, 2), (2,))
    assert shared.identity() == load_audio_encoder("muq-tiny", layers=(0, 2)).identity()
    assert torch.equal(shared.encode(waveforms), several.encode(waveforms)[[0, 2]])
    assert shared._model is one._model
    with pytest.raises(ConfigError, match=r"--layers 3: muq-tiny has layers 0 to 2"):
        one.with_layers([3])


def other(weights, **changes) -> MuQWeights:
    return MuQWeights(weights.config, {**weights.tensors, **changes}, "there")


def test_what_differs_is_named(weights):
    name = "model.conformer.layers.1.conv_module.batch_norm.running_var"
    changed = weights.tensors[name].clone()
    changed[3] += 0.5
    drifted = other(weights, **{name: changed})
    assert weights.differs_from(weights) is None
    assert drifted.differs_from(weights) == f"{name} by up to 0.5 (1 of 106 tensors)"
    unused = {"model.linear.bias": torch.zeros(7), "model.conv.conv.0.bn1.num_batches_tracked": torch.tensor(9)}
    assert other(weights, **unused).differs_from(weights) is None, "these decide no frame"
    shape = other(weights, **{"model.conv.linear.bias": torch.zeros(3)})
    assert shape.differs_from(weights) == "model.conv.linear.bias has the shape (3,), not (128,)"
    more = other(weights, **{"model.conv.more": torch.zeros(3)})
    assert more.differs_from(weights) == "model.conv.more is in one of the two (1 tensors)"
    louder = MuQWeights(
        weights.config | {"stat": {"melspec_2048_mean": 1, "melspec_2048_std": 2}}, weights.tensors, "x"
    )
    assert louder.differs_from(weights) == "mel_mean is 1.0, not 6.768444971712967"


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("model.conv.conv.1.bn2.weight", None, "here: lacks model.conv.conv.1.bn2.weight (1 tensors)"),
        ("model.conformer.layers.1.x", torch.ones(1), "here: holds unknown model.conformer.layers.1.x (1 tensors)"),
        ("model.conv.linear.bias", torch.ones(2), "here: model.conv.linear.bias has the shape (2,), expected (128,)"),
        (
            "model.conv.linear.weight",
            torch.ones(2),
            "here: model.conv.linear.weight is of the shape (2,), expected the",
        ),
        ("model.conv.linear.weight", None, "here: model.conv.linear.weight is missing, expected the weights of a MuQ"),
    ],
)
def test_weights_that_no_muq_can_be_built_with_are_refused(weights, name, tensor, message):
    tensors = {k: v for k, v in weights.tensors.items() if k != name} | ({} if tensor is None else {name: tensor})
    with pytest.raises(EncoderError) as caught:
        require_weights(weights_without_config(tensors, "here"))
    assert str(caught.value).startswith(message)
    require_weights(weights)


FREQUENCIES = "model.conformer.embed_positions.inv_freq"


@pytest.mark.parametrize("base", [100.0, 9_000.0, 500_000.0])
def test_rotary_positions_of_another_base_are_refused(weights, base):
    """They are computed of the config here, so frames would be others than those of the weights."""
    count = len(weights.tensors[FREQUENCIES])
    others = base ** -(torch.arange(count) / count)
    with pytest.raises(EncoderError) as caught:
        require_weights(other(weights, **{FREQUENCIES: others}))
    assert str(caught.value) == (
        f"there: {FREQUENCIES} is not that of rotary positions with the base 10000, expected the weights of a MuQ as "
        "it was released"
    )
    own = weights.config | {"w2v2_config": weights.config["w2v2_config"] | {"rotary_embedding_base": base}}
    require_weights(MuQWeights(own, {**weights.tensors, FREQUENCIES: others}, "there"))


def test_rotary_positions_in_half_precision_are_those_of_the_config(weights):
    require_weights(other(weights, **{FREQUENCIES: weights.tensors[FREQUENCIES].half()}))
