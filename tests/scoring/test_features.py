from dataclasses import replace

import pytest

from audiomos_cache.bundle import EncoderSource
from audiomos_cache.cache import Fingerprint
from audiomos_cache.encoders import AudioEncoder, TextEncoder, load_audio_encoder
from audiomos_cache.extraction import ExtractionOptions
from audiomos_cache.scoring import features
from audiomos_cache.scoring.features import load_encoders, options_of, require_same_features
from tests.scoring.conftest import make_bundle


@pytest.mark.parametrize(
    ("source", "given", "expected"),
    [
        (EncoderSource("muq", "OpenMuQ/MuQ", "abc123", "0"), None, ("OpenMuQ/MuQ", "abc123")),
        (EncoderSource("/weights/muq", "/weights/muq", "local", "0"), None, ("/weights/muq", None)),
        (EncoderSource("muq-tiny", "seeded random weights 2025", "none", "0"), None, ("muq-tiny", None)),
        (EncoderSource("muq", "OpenMuQ/MuQ", "abc123", "0"), "/here/muq", ("/here/muq", None)),
    ],
)
def test_where_encoders_are_loaded_from(
    source: EncoderSource, given: str | None, expected: tuple[str, str | None], audio: AudioEncoder, text: TextEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked = []

    def load(name: str, revision: str | None, *_: object, **__: object) -> None:
        asked.append((name, revision))

    monkeypatch.setattr(features, "load_audio_encoder", load)
    monkeypatch.setattr(features, "load_text_encoder", load)
    bundle = make_bundle(audio, text)
    load_encoders(replace(bundle, audio_encoder=source, text_encoder=source), given, given)
    assert asked == [expected, expected]


def test_layers_and_precision_are_those_of_the_features(text: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    both = load_audio_encoder("muq-tiny", layers=(1, 2))
    bundle = make_bundle(both, text)
    loaded, _ = load_encoders(bundle)
    assert (loaded.layers, loaded.precision) == ((1, 2), "fp32")
    require_same_features(bundle, loaded, text, ExtractionOptions())
    fields = bundle.fingerprint.fields
    coarse = fields | {"audio_encoder": fields["audio_encoder"] | {"precision": "bf16"}}
    asked = []
    monkeypatch.setattr(features, "load_audio_encoder", lambda *_, precision, **__: asked.append(precision))
    monkeypatch.setattr(features, "load_text_encoder", lambda *_: None)
    for device in ("cpu", "cuda"):
        load_encoders(replace(bundle, fingerprint=Fingerprint.of(coarse)), device=device)
        load_encoders(bundle, device=device)
    assert asked == ["bf16", "fp32", "bf16", "fp16"]


def test_options_are_those_of_the_features(audio: AudioEncoder, text: TextEncoder) -> None:
    wanted = ExtractionOptions(pad_to_s=7.0, dtype="float32", batch_size=9)
    assert options_of(make_bundle(audio, text, pad_to_s=7.0, dtype="float32").fingerprint, 9) == wanted
    own_lengths = options_of(make_bundle(audio, text, pad_to_s=None).fingerprint, 1)
    assert (own_lengths.pad_to_s, own_lengths.max_seconds) == (None, 30.0)
