"""MuQ's network arranged for a GPU, on the CPU: the same function as the class's own modules."""

import copy

import pytest
import torch

from audiomos_cache.encoders.lookup import load_audio_encoder
from audiomos_cache.encoders.muq import MuQEncoder, build_muq
from audiomos_cache.encoders.tiny import TINY_MUQ_CONFIG, load_muq_tiny
from audiomos_cache.errors import EncoderError


@pytest.fixture(scope="module")
def model():
    """A small MuQ whose norms, frozen in the arrangement, are far from doing nothing."""
    model = build_muq(TINY_MUQ_CONFIG | {"encoder_depth": 3})
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + 0.7)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.2)
            if name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model


def encoder_of(model, precision, layers=(0, 1, 2, 3)):
    model = copy.deepcopy(model)
    return MuQEncoder(model, name="muq", source="x", revision="x", layers=layers, precision=precision)


def arranged(model, dtype, layers=(0, 1, 2, 3)):
    """The arrangement in any precision, float32 among them, for which the encoder has no use."""
    encoder = encoder_of(model, "fp16", layers)
    encoder._fast = type(encoder._fast)(encoder._model, encoder.layers).convert(dtype, torch.device("cpu"))
    return encoder


def distances(found, expected):
    """Of each layer and clip: the norm of the difference over the norm."""
    return (found - expected).flatten(2).norm(dim=2) / expected.flatten(2).norm(dim=2)


@pytest.mark.parametrize("samples", [2048, 24_000, 30_001])
def test_in_float32_it_is_the_class(model, samples):
    noise = torch.randn(2, samples, generator=torch.Generator().manual_seed(1)) * 0.1
    expected = encoder_of(model, "fp32").encode(noise)
    found = arranged(model, torch.float32).encode(noise)
    assert found.dtype == torch.float32
    assert expected.std() > 0.1
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert distances(found, expected).max() < 1e-6


@pytest.mark.parametrize(("precision", "most"), [("fp16", 1.5e-3), ("bf16", 1.5e-2)])
def test_half_precision_is_near_and_not_the_same(model, noise, precision, most):
    expected = encoder_of(model, "fp32").encode(noise)
    encoder = encoder_of(model, precision)
    found = distances(encoder.encode(noise), expected)
    assert 1e-5 < found.max() < most
    assert torch.equal(encoder.encode_fp32(noise), expected)  # bit for bit


@pytest.mark.parametrize("layers", [(0,), (2,), (1, 3)])
def test_only_the_layers_asked_for(model, noise, layers):
    every = arranged(model, torch.float32).encode(noise)
    assert torch.equal(arranged(model, torch.float32, layers).encode(noise), every[list(layers)])


def test_a_clip_alone_and_in_a_batch(model, noise):
    encoder = encoder_of(model, "fp16")
    alone = torch.cat([encoder.encode(clip[None]) for clip in noise], dim=1)
    assert distances(encoder.encode(noise), alone).max() < 1e-3


def test_the_model_stays_as_it_is(model, noise):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    encoder_of(model, "fp16").encode(noise)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_overflows_in_half_precision_does_not_in_float32(noise):
    """The narrow layer of a feed-forward gives 2 million; the norm after it brings that back to 1."""
    encoder = load_muq_tiny(precision="fp16")
    dense = encoder._model.conformer.layers[0].ffn1.output_dense
    with torch.no_grad():
        dense.bias[0] = 2e6
    encoder._fast = encoder._arranged("fp16")
    assert not encoder.encode(noise).isfinite().all()
    assert encoder.encode_fp32(noise).isfinite().all()


def test_other_positions_are_refused_in_half_precision():
    config = TINY_MUQ_CONFIG | {"w2v2_config": TINY_MUQ_CONFIG["w2v2_config"] | {"position_embeddings_type": None}}
    model = build_muq(config)
    facts = {"name": "odd", "source": "x", "revision": "x"}
    with pytest.raises(EncoderError, match="--precision bf16: odd has no rotary positions; give --precision fp32"):
        MuQEncoder(model, precision="bf16", **facts)
    MuQEncoder(model, **facts)


def test_compiled_gives_the_same(model, noise):
    """By the tracing of torch.compile without its code generator, which would want a C++ compiler here."""
    plain, compiled = encoder_of(model, "fp16"), encoder_of(model, "fp16")
    assert compiled.compile(3, noise.shape[1], backend="aot_eager") > 0
    assert torch.equal(compiled.encode(noise), plain.encode(noise))
    assert distances(compiled.encode(noise[:2]), plain.encode(noise[:2])).max() < 1e-3
    assert compiled.encode(noise[:2]).shape[1] == 2


def test_compiling_sees_one_shape(model, noise):
    shapes = []

    def backend(graph, _inputs):
        shapes.append(None)
        return graph

    encoder = encoder_of(model, "fp16")
    torch.compiler.reset()
    encoder.compile(3, noise.shape[1], backend=backend)
    compilations = len(shapes)
    assert compilations == 1  # for three layers
    for clips in (3, 2, 1):
        encoder.encode(noise[:clips])
    assert len(shapes) == compilations


def test_where_compiling_fails_it_goes_on_without(model, noise, caplog):
    def backend(_graph, _inputs):
        raise RuntimeError("no compiler\nhere")

    encoder = encoder_of(model, "fp16")
    torch.compiler.reset()
    assert encoder.compile(3, noise.shape[1], backend=backend) is None
    assert "muq: cannot be compiled" in caplog.text
    assert "no compiler here" in caplog.text
    assert torch.equal(encoder.encode(noise[:2]), encoder_of(model, "fp16").encode(noise[:2]))


def test_float32_is_not_compiled():
    assert load_audio_encoder("muq-tiny").compile(1, 24_000) is None


def test_working_memory_grows_with_length_and_precision():
    half, full = load_muq_tiny(precision="fp16"), load_muq_tiny()
    assert half.working_bytes(48_000) == 2 * half.working_bytes(24_000) < full.working_bytes(48_000)
