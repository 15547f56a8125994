import time

import pytest
import torch

from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder


def test_audio_frames_are_those_of_the_docstring():
    encoder = FakeAudioEncoder()
    waveforms = torch.stack((torch.arange(250.0), torch.full((250,), -2.0)))  # the last 50 samples make no frame
    expected = [
        [[49.5, 49.5**2, -49.5, 50.5], [149.5, 149.5**2, -149.5, 150.5]],
        [[-2, 4, 2, -1], [-2, 4, 2, -1]],
    ]
    assert encoder.encode(waveforms).tolist() == [expected]
    assert encoder.encoded == 2
    assert encoder.frames_for(250) == 2
    assert encoder.frames_for(encoder.min_samples) == 1


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
def test_width_of_audio_frames(dim):
    encoder = FakeAudioEncoder(dim=dim)
    frames = encoder.encode(torch.ones(1, 100))
    assert frames.tolist() == [[[[1, 1, -1, 2][:dim]]]]
    assert encoder.identity()["dim"] == dim


def test_each_layer_adds_its_index_to_the_frames():
    encoder = FakeAudioEncoder(layers=(0, 2, 5))
    assert encoder.encode(torch.ones(1, 100)).tolist() == [[[[1, 1, -1, 2]]], [[[3, 3, 1, 4]]], [[[6, 6, 4, 7]]]]
    assert encoder.encoded == 1
    assert encoder.identity()["layers"] == "0,2,5"
    assert FakeAudioEncoder().identity()["layers"] == "0"


def test_a_clip_does_not_depend_on_its_batch():
    waveforms = torch.rand(5, 1234, generator=torch.manual_seed(0))
    [together] = FakeAudioEncoder().encode(waveforms)
    for waveform, frames in zip(waveforms, together, strict=True):
        torch.testing.assert_close(FakeAudioEncoder().encode(waveform[None])[0, 0], frames, rtol=0, atol=0)


def test_it_can_pretend_to_work():
    start = time.monotonic()
    FakeAudioEncoder(seconds_per_batch=0.05).encode(torch.ones(1, 100))
    assert time.monotonic() - start >= 0.05


@pytest.mark.parametrize("dim", [1, 2])
def test_tokens_are_those_of_the_docstring(dim):
    encoder = FakeTextEncoder(dim=dim)
    first, second = encoder.encode(["a slow organ", "sad flute  solo"])
    assert first.tokens.tolist() == [row[:dim] for row in ([1, 0], [4, 1], [5, 2])]
    assert second.tokens.tolist() == [row[:dim] for row in ([3, 0], [5, 1], [4, 2])]
    assert first.pad_vector.tolist() == second.pad_vector.tolist() == [3, 3][:dim]
    assert not first.cut
    assert encoder.encoded == ["a slow organ", "sad flute  solo"]


def test_a_long_prompt_is_cut():
    encoder = FakeTextEncoder(max_tokens=2)
    assert encoder.count_tokens("a slow organ") == 2
    (features,) = encoder.encode(["a slow organ"])
    assert features.tokens.tolist() == [[1, 0], [4, 1]]
    assert features.pad_vector.tolist() == [2, 2]
    assert features.cut


def test_an_empty_prompt_has_a_token():
    encoder = FakeTextEncoder()
    assert encoder.count_tokens("") == 1
    assert encoder.encode([""])[0].tokens.tolist() == [[0, 0]]


def test_prompts_of_different_lengths_are_refused():
    encoder = FakeTextEncoder()
    with pytest.raises(ValueError, match="prompts of one batch must have the same number of tokens"):
        encoder.encode(["slow", "a slow organ"])
    assert encoder.encoded == []
