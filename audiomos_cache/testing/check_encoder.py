"""The promises that every encoder keeps, checked on one: for users' encoders, and for ours.

check_encoder(load_audio_encoder("wavlm-tiny"))
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard, cast

import torch
from torch import Tensor

from audiomos_cache.encoders.base import DTYPES, AudioEncoder, TextEncoder, TextFeatures

# The largest difference between features alone and in a batch, relative to the largest feature, by precision.
TOLERANCES = {"fp32": 1e-5, "fp16": 1e-2, "bf16": 8e-2}
_PROMPTS = ("slow piano", "a loud and happy song with drums", "")


def check_encoder(
    encoder: AudioEncoder | TextEncoder, load: Callable[[Sequence[int]], AudioEncoder] | None = None
) -> None:
    """Check that an audio or text encoder keeps our promises.

    Of audio: there are `frames_for` frames; a waveform's frames are the same alone and in a batch; they
    are float32, finite, without gradient, and on the encoder's device; layers are ascending. Of text: there
    are `count_tokens` tokens; a prompt's tokens are the same alone and in a batch. Of both: the identity is stable, of
    strings and numbers, and the weights' source is recorded.

    Args:
        encoder: loaded.
        load: loads the same audio encoder with other layers; checks that layers come in their order.
    Raises:
        AssertionError: names the promise that is broken.
    """
    _check_identity(encoder)
    if _is_audio(encoder):
        _check_audio(encoder)
        if load is not None:
            _check_layers(encoder, load)
    else:
        _check_text(cast(TextEncoder, encoder))


def _is_audio(encoder: AudioEncoder | TextEncoder) -> TypeGuard[AudioEncoder]:
    return hasattr(encoder, "sample_rate_hz")


def _check_identity(encoder: AudioEncoder | TextEncoder) -> None:
    assert isinstance(encoder.name, str) and encoder.name, "name is a string that is not empty"
    assert isinstance(encoder.dim, int) and encoder.dim > 0, f"dim is a positive int: found {encoder.dim!r}"
    untrained = getattr(encoder, "untrained", False)
    assert isinstance(untrained, bool), f"untrained is True or False: found {untrained!r}"
    identity, provenance = dict(encoder.identity()), dict(encoder.provenance())
    for what, values in (("identity", identity), ("provenance", provenance)):
        _check_values(what, values)
    assert encoder.identity() == identity, "identity is the same each time"
    assert {"source", "revision"} <= provenance.keys(), f"provenance has source and revision: found {provenance}"


def _check_values(what: str, values: Mapping[str, object]) -> None:
    for key, value in values.items():
        allowed = isinstance(value, str | int | float) and not isinstance(value, bool)
        assert isinstance(key, str) and allowed, f"{what} holds strings and numbers: found {key!r}: {value!r}"
    assert json.loads(json.dumps(values)) == values, f"{what} is the same after JSON: found {values}"


def _check_audio(encoder: AudioEncoder) -> None:
    layers, precision = encoder.layers, encoder.precision
    assert isinstance(layers, tuple) and layers, f"layers is a tuple of at least one: found {layers!r}"
    assert list(layers) == sorted(set(layers)) and layers[0] >= 0, f"layers ascend, each once, from 0: found {layers}"
    assert precision in DTYPES, f"precision is one of {', '.join(DTYPES)}: found {precision!r}"
    assert isinstance(encoder.device, torch.device), f"device is a torch.device: found {encoder.device!r}"
    rate, shortest = encoder.sample_rate_hz, encoder.min_samples
    assert isinstance(rate, int) and rate > 0, f"sample_rate_hz is a positive int: found {rate!r}"
    assert isinstance(shortest, int) and shortest > 0, f"min_samples is a positive int: found {shortest!r}"
    for samples in sorted({shortest, shortest + 1, max(rate, shortest), max(3 * rate // 2 + 7, shortest)}):
        waveforms = _noise(3, samples)
        frames = encoder.encode(waveforms)
        _check_frames(encoder, frames, 3, samples)
        _check_frames(encoder, encoder.encode(torch.zeros(1, samples)), 1, samples)
        assert encoder.working_bytes(samples) >= 0, "working_bytes is 0 or more"
    _check_close(encoder.encode(waveforms), frames, 0.0, "the same waveforms twice give the same frames")
    alone = torch.cat([encoder.encode(waveform[None]) for waveform in waveforms], dim=1)
    _check_close(alone, frames, TOLERANCES[precision], "a waveform has the same frames alone and in a batch")
    _check_frames(encoder, encoder.encode_fp32(waveforms), 3, samples)
    _check_close(encoder.encode_fp32(waveforms), frames, TOLERANCES[precision], "encode_fp32 gives the same frames")


def _check_frames(encoder: AudioEncoder, frames: Tensor, clips: int, samples: int) -> None:
    expected = (len(encoder.layers), clips, encoder.frames_for(samples), encoder.dim)
    found = tuple(frames.shape)
    assert found == expected, f"{samples} samples give (layers, B, frames_for, dim): found {found}, expected {expected}"
    assert expected[2] > 0, f"{samples} samples, min_samples or more, give at least one frame"
    assert frames.dtype == torch.float32, f"frames are float32: found {frames.dtype}"
    assert frames.device == encoder.device, f"frames are on {encoder.device}: found {frames.device}"
    assert not frames.requires_grad, "frames have no gradient: an encoder is frozen"
    assert frames.isfinite().all(), f"frames of {samples} samples are finite"


def _check_layers(encoder: AudioEncoder, load: Callable[[Sequence[int]], AudioEncoder]) -> None:
    """Compare each layer with the frames of an encoder that gives it alone."""
    waveforms = _noise(1, max(encoder.sample_rate_hz, encoder.min_samples))
    together, tolerance = encoder.encode(waveforms), TOLERANCES[encoder.precision]
    for index, layer in enumerate(encoder.layers):
        alone = load([layer])
        assert alone.layers == (layer,), f"layers are those asked for: found {alone.layers}, asked for {layer}"
        promise = f"layer {layer} is the same alone and with others, in the order of `layers`"
        _check_close(alone.encode(waveforms)[0], together[index], tolerance, promise)
        if len(encoder.layers) > 1:
            assert alone.identity() != encoder.identity(), "other layers are another identity"


def _check_text(encoder: TextEncoder) -> None:
    assert isinstance(encoder.max_tokens, int) and encoder.max_tokens > 0, "max_tokens is a positive int"
    long = "music " * 2 * encoder.max_tokens
    for prompt in (*_PROMPTS, long):
        count = encoder.count_tokens(prompt)
        assert 0 < count <= encoder.max_tokens, f"a prompt has 1 to max_tokens tokens: found {count}"
        [features] = encoder.encode([prompt])
        _check_tokens(encoder, features, count)
        [again] = encoder.encode([prompt])
        _check_close(again.tokens, features.tokens, 0.0, "the same prompt twice gives the same tokens")
        for together in encoder.encode([prompt, prompt, prompt]):
            _check_close(
                together.tokens, features.tokens, TOLERANCES["fp32"], "a prompt has the same tokens in a batch"
            )
        longer = {"": False, long: True}.get(prompt, features.cut)
        assert features.cut == longer, f"cut is True for a prompt longer than max_tokens alone: found {features.cut}"


def _check_tokens(encoder: TextEncoder, features: TextFeatures, count: int) -> None:
    found, expected = tuple(features.tokens.shape), (count, encoder.dim)
    assert found == expected, f"tokens are (count_tokens, dim): found {found}, expected {expected}"
    assert features.pad_vector.shape == (encoder.dim,), f"pad_vector is (dim,): {tuple(features.pad_vector.shape)}"
    for tensor in (features.tokens, features.pad_vector):
        assert tensor.dtype == torch.float32 and tensor.device.type == "cpu", "tokens are float32, on the CPU"
        assert tensor.isfinite().all() and not tensor.requires_grad, "tokens are finite, without gradient"


def _noise(clips: int, samples: int) -> Tensor:
    return torch.randn(clips, samples, generator=torch.Generator().manual_seed(0)) * 0.1


def _check_close(found: Tensor, expected: Tensor, tolerance: float, promise: str) -> None:
    """Compare features, up to a tolerance relative to the largest of them."""
    allowed = tolerance * max(float(expected.abs().max()), 1.0)
    difference = float((found - expected).abs().max())
    assert difference <= allowed, f"{promise}: they differ by {difference:.2g}, allowed {allowed:.2g}"
