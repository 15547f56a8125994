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
        return found | ({"list": [1]} if self.broken == "plain" else {})

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
        ("plain", "identity holds strings and numbers"),
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


def test_layers_must_ascend():
    with pytest.raises(AssertionError, match="layers ascend"):
        check_encoder(replace(FakeAudioEncoder(), layers=(3, 0)))


class OddText(FakeTextEncoder):
    """Says that a prompt has a token more than it has."""

    def count_tokens(self, prompt):
        return min(super().count_tokens(prompt) + 1, self.max_tokens)


def test_tokens_are_as_many_as_counted():
    with pytest.raises(AssertionError, match=r"tokens are \(count_tokens, dim\): found \(2, 2\), expected \(3, 2\)"):
        check_encoder(OddText())
