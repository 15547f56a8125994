"""What an encoder is given and gives; `tests/bundle/test_load_damaged.py` has records that are refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.audio.resample import resampler_identity
from audiomos_cache.errors import EncoderError
from audiomos_cache.input_spec import InputSpec, longest_s
from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder


def spec(**changes: Any) -> InputSpec:
    options: dict[str, Any] = {"pad_to_s": 30.0, "dtype": "float16"} | changes
    return InputSpec.of(FakeAudioEncoder(layers=(0, 2)), FakeTextEncoder(), **options)


def test_the_fingerprint_is_that_of_all_that_decides_a_value() -> None:
    expected = Fingerprint.of(
        {
            "audio_encoder": {"class": "FakeAudioEncoder", "layers": "0,2", "dim": 4, "sample_rate_hz": 1000},
            "text_encoder": FakeTextEncoder().identity(),
            "resampler": resampler_identity(),
            "pad_to_s": 30.0,
            "max_seconds": 30.0,
            "dtype": "float16",
        }
    )
    assert spec().fingerprint == expected
    assert InputSpec.of_fingerprint(expected) == spec()
    assert spec().layers == (0, 2)


def test_whole_seconds_and_unknown_keys_stay_as_they_are() -> None:
    fields = spec(pad_to_s=7).fingerprint.fields | {"tomorrow": {"a": [1, 2.5, None]}}
    assert repr(InputSpec.of_fingerprint(Fingerprint.of(fields)).pad_to_s) == "7"
    assert InputSpec.of_fingerprint(Fingerprint.of(fields)).fingerprint == Fingerprint.of(fields)


def test_clips_at_their_own_length_are_cut_at_30_s() -> None:
    own = spec(pad_to_s=None)
    assert (own.pad_to_s, own.max_seconds) == (None, 30.0)
    assert (longest_s(None), longest_s(5.0)) == (30.0, 5.0)


def test_another_version_of_the_resampler_makes_the_same_features(monkeypatch: pytest.MonkeyPatch) -> None:
    before = spec()
    identity = resampler_identity()
    monkeypatch.setattr("audiomos_cache.input_spec.resampler_identity", lambda: identity | {"version": "0.0.1"})
    assert spec().fingerprint != before.fingerprint
    assert spec().makes_same_features(before)
    monkeypatch.setattr("audiomos_cache.input_spec.resampler_identity", lambda: identity | {"rolloff": 0.5})
    assert not spec().makes_same_features(before)


def test_an_encoder_that_does_not_say_its_layers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeAudioEncoder, "identity", lambda _: {"class": "Mine", "dim": 0})
    with pytest.raises(EncoderError) as caught:
        spec()
    line = str(caught.value)
    assert line.startswith("fake-audio and fake-text: audio_encoder.")
    assert "audio_encoder.layers: missing" in line
    assert "audio_encoder.dim: 0" in line
    assert line.endswith("; correct what their identity() returns")


def test_a_fingerprint_of_something_else_is_refused() -> None:
    with pytest.raises(ValidationError, match="audio_encoder"):
        InputSpec.of_fingerprint(Fingerprint.of({"dtype": "float16"}))
