"""check_encoder: our own encoders pass it, and each promise has an encoder that breaks it."""

from dataclasses import dataclass, replace

import pytest
import torch

from audiomos_cache.encoders.lookup import load_audio_encoder, load_text_encoder
from audiomos_cache.testing import FakeAudioEncoder, FakeTextEncoder, check_encoder


def test_the_tiny_encoders_pass():
    check_encoder(
        load_audio_encoder("muq-tiny", layers=(0, 2)), lambda layers: load_audio_encoder("muq-tiny", layers=layers)
    )
    check_encoder(load_audio_encoder("muq-tiny", precision="fp16"))
    check_encoder(load_text_encoder("roberta-tiny"))


def test_the_fakes_pass():
    check_encoder(FakeAudioEncoder(layers=(0, 3)), lambda layers: FakeAudioEncoder(layers=tuple(layers)))
    check_encoder(FakeTextEncoder())


@dataclass
class Odd(FakeAudioEncoder):
    """Breaks the promise that is named."""

    broken: str = ""

    def identity(self):
        found = super().identity()
        if self.broken == "identity":
            found["at"] = torch.rand(()).item()
        return found | ({"list": [1]} if self.broken == "list" else {})

    def frames_for(self, samples):
        return super().frames_for(samples) + (self.broken == "frames")

    def encode(self, waveforms):
        frames = super().encode(waveforms)
        changed = {
            "batch": frames + 0.1 * len(waveforms),
            "dtype": frames.double(),
            "order": frames.flip(0),
            "gradient": frames.requires_grad_() if self.broken == "gradient" else frames,
            "silence": frames / waveforms.abs().max(),
            "chance": frames + torch.rand(()),
        }
        return changed.get(self.broken, frames)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        ("identity", "identity is the same each time"),
        ("list", "identity holds strings and numbers"),
        ("frames", r"100 samples give \(layers, B, frames_for, dim\)"),
        ("batch", "a waveform has the same frames alone and in a batch"),
        ("dtype", "frames are float32"),
        ("order", "layer 0 is the same alone and with others"),
        ("gradient", "frames have no gradient"),
        ("silence", "are finite"),
        ("chance", "the same waveforms twice give the same frames"),
    ],
)
def test_a_broken_promise_is_named(broken, promise):
    with pytest.raises(AssertionError, match=promise):
        check_encoder(Odd(layers=(0, 3), broken=broken), lambda layers: FakeAudioEncoder(layers=tuple(layers)))


def odd(base, **members):
    """An encoder of a subclass of `base` with other members; a value of the class may be a method."""
    return type("Odd", (base,), members)()


def with_values(encoder, **values):
    for name, value in values.items():
        setattr(encoder, name, value)
    return encoder


@pytest.mark.parametrize(
    ("values", "promise"),
    [
        ({"name": ""}, "name is a string that is not empty"),
        ({"dim": 0}, "dim is a positive int: found 0"),
        ({"untrained": "no"}, "untrained is True or False: found 'no'"),
        ({"layers": [0]}, r"layers is a tuple of at least one: found \[0\]"),
        ({"layers": (3, 0)}, r"layers ascend, each once, from 0: found \(3, 0\)"),
        ({"precision": "int8"}, "precision is one of fp16, bf16, fp32: found 'int8'"),
        ({"sample_rate_hz": 0}, "sample_rate_hz is a positive int: found 0"),
        ({"min_samples": 0.5}, "min_samples is a positive int: found 0.5"),
    ],
)
def test_a_wrong_attribute_is_named(values, promise):
    with pytest.raises(AssertionError, match=promise):
        check_encoder(with_values(FakeAudioEncoder(), **values))


@pytest.mark.parametrize(
    ("members", "promise"),
    [
        ({"identity": lambda _: {"x": float("nan")}}, "identity is the same after JSON"),
        ({"provenance": lambda _: {"source": "none"}}, "provenance has source and revision: found {'source': 'none'}"),
        ({"device": "cpu"}, "device is a torch.device: found 'cpu'"),
        ({"device": torch.device("meta")}, "frames are on meta: found cpu"),
        (
            {
                "frames_for": lambda _, samples: samples // 100 - 1,
                "encode": lambda self, waveforms: FakeAudioEncoder.encode(self, waveforms)[:, :, 1:],
            },
            "100 samples, min_samples or more, give at least one frame",
        ),
        ({"working_bytes": lambda *_: -1}, "working_bytes is 0 or more"),
        (
            {"encode_fp32": lambda self, waveforms: self.encode(waveforms) + 1},
            "encode_fp32 gives the same frames: they differ by 1, allowed",
        ),
    ],
)
def test_a_promise_that_a_method_breaks_is_named(members, promise):
    with pytest.raises(AssertionError, match=promise):
        check_encoder(odd(FakeAudioEncoder, **members))


@pytest.mark.parametrize(
    ("load", "promise"),
    [
        (lambda _: FakeAudioEncoder(layers=(0, 3)), "layers are those asked for"),
        (lambda layers: Same(layers=tuple(layers)), "other layers are another identity"),
    ],
)
def test_layers_that_are_not_loaded_as_asked_for_are_named(load, promise):
    with pytest.raises(AssertionError, match=promise):
        check_encoder(Same(layers=(0, 3)), load)


class Same(FakeAudioEncoder):
    """Has one identity, whatever its layers are."""

    def identity(self):
        return {"class": "Same"}


def changed(**functions):
    """A text encoder with other features: each function is given the features and the size of their batch."""

    def encode(self, prompts):
        found = FakeTextEncoder.encode(self, prompts)
        return [replace(each, **{k: f(each, len(prompts)) for k, f in functions.items()}) for each in found]

    return odd(FakeTextEncoder, encode=encode)


@pytest.mark.parametrize(
    ("encoder", "promise"),
    [
        (FakeTextEncoder(max_tokens=0), "max_tokens is a positive int"),
        (odd(FakeTextEncoder, count_tokens=lambda *_: 0), "a prompt has 1 to max_tokens tokens: found 0"),
        (
            odd(FakeTextEncoder, count_tokens=lambda self, prompt: min(len(prompt.split()) + 1, self.max_tokens)),
            r"tokens are \(count_tokens, dim\): found \(2, 2\), expected \(3, 2\)",
        ),
        (changed(pad_vector=lambda *_: torch.zeros(3)), r"pad_vector is \(dim,\): \(3,\)"),
        (changed(tokens=lambda each, _: each.tokens.double()), "tokens are float32, on the CPU"),
        (changed(tokens=lambda each, _: each.tokens / 0), "tokens are finite, without gradient"),
        (
            changed(tokens=lambda each, _: each.tokens + torch.rand(())),
            "the same prompt twice gives the same tokens",
        ),
        (changed(tokens=lambda each, prompts: each.tokens + prompts), "a prompt has the same tokens in a batch"),
        (changed(cut=lambda *_: True), "cut is True for a prompt longer than max_tokens alone: found True"),
    ],
)
def test_a_promise_that_a_text_encoder_breaks_is_named(encoder, promise):
    with pytest.raises(AssertionError, match=promise):
        check_encoder(encoder)
