from dataclasses import replace
from pathlib import Path

import pytest

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.bundle.load import EncoderSource
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.encoders.lookup import load_audio_encoder
from audiomos_cache.errors import CacheError, EncoderError
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.scoring import encoders
from audiomos_cache.scoring.encoders import load_encoders, options_of, require_same_features
from tests.support.scoring import make_bundle

HASH = "a" * 32


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the encoders that are loaded, which none is."""
    found = []

    def load(name: str, *_: object, **__: object) -> None:
        found.append(name)

    monkeypatch.setattr(encoders, "load_audio_encoder", load)
    monkeypatch.setattr(encoders, "load_text_encoder", load)
    return found


@pytest.mark.parametrize(
    ("source", "given", "expected"),
    [
        (EncoderSource("muq", "OpenMuQ/MuQ", "abc123", HASH), None, "OpenMuQ/MuQ@abc123"),
        (EncoderSource("muq", "OpenMuQ/MuQ", "abc123", HASH), "/here/muq", "/here/muq"),
        (EncoderSource("muq", "OpenMuQ/MuQ", "abc123", HASH), "someone/copy@v2", "someone/copy@v2"),
        (EncoderSource("/there/muq", "/there/muq", "local", HASH), "/here/muq", "/here/muq"),
    ],
)
def test_where_encoders_are_loaded_from(
    source: EncoderSource, given: str | None, expected: str, audio: AudioEncoder, text: TextEncoder,
    asked: list[str],
) -> None:  # fmt: skip
    bundle = make_bundle(audio, text)
    load_encoders(replace(bundle, audio_encoder=source, text_encoder=source), given, given)
    assert asked == [expected, expected]


def test_encoders_made_by_code_are_loaded_by_their_name(
    audio: AudioEncoder, text: TextEncoder, asked: list[str]
) -> None:
    load_encoders(make_bundle(audio, text))
    assert asked == ["muq-tiny", "roberta-tiny"]


@pytest.mark.parametrize("name", ["weights/muq", "muq"])
def test_a_folder_that_is_here_is_loaded_from_where_it_is(
    name: str, audio: AudioEncoder, text: TextEncoder, asked: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Also one of the name of a published encoder, which without its path would be loaded from the hub."""
    (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    source = EncoderSource(name, name, "local", HASH)
    load_encoders(replace(make_bundle(audio, text), audio_encoder=source, text_encoder=source))
    assert asked == [str(tmp_path / name)] * 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            EncoderSource("muq", "weights/muq", "local", HASH),
            f"the folder weights/muq, which is not here; give --audio-encoder a folder with weights of hash {HASH}",
        ),
        (
            EncoderSource("muq", "owner/name", "local", "none"),
            "the folder owner/name, which is not here; give --audio-encoder a folder with the same weights",
        ),
        (
            EncoderSource("muq", "\x1b[31m/evil\nline", "local", HASH),
            r"the folder '\x1b[31m/evil\nline', which is not here; give --audio-encoder a folder with weights of "
            f"hash {HASH}",
        ),
        (
            EncoderSource("owner/name", "seeded random weights", "none", HASH),
            f"owner/name, which no code here makes; give --audio-encoder a folder with weights of hash {HASH}",
        ),
        (
            EncoderSource("muq", "\x1b[31mevil", "abc123", HASH),
            "'\\x1b[31mevil', which is not a repository of the form owner/name; give --audio-encoder a folder with "
            f"weights of hash {HASH}",
        ),
        (
            EncoderSource("muq", "x" * 5000, "local", HASH),
            f"the folder {'x' * 147}...{'x' * 50}, which is not here; give --audio-encoder a folder with "
            f"weights of hash {HASH}",
        ),
    ],
    ids=["relative", "like a repository", "controls", "made by no code", "no repository", "too long a name"],
)
def test_what_is_not_here_is_not_looked_for_elsewhere(
    source: EncoderSource, message: str, audio: AudioEncoder, text: TextEncoder, asked: list[str]
) -> None:
    bundle = make_bundle(audio, text)
    with pytest.raises(EncoderError) as caught:
        load_encoders(replace(bundle, audio_encoder=source))
    assert str(caught.value) == f"the bundle was made with {message}"
    with pytest.raises(EncoderError, match="give --text-encoder a folder with"):
        load_encoders(replace(bundle, text_encoder=source))
    assert asked == ["muq-tiny"], "the audio encoder of the second"


def test_other_features_are_refused_in_one_line(audio: AudioEncoder, text: TextEncoder) -> None:
    bundle = make_bundle(audio, text)
    other = ExtractionOptions(pad_to_s=2.0).input_spec(audio, text).fingerprint
    with pytest.raises(CacheError) as caught:
        require_same_features(bundle, audio, text, ExtractionOptions(pad_to_s=2.0))
    [line] = str(caught.value).splitlines()
    assert line == (
        f"muq-tiny and roberta-tiny: fingerprint {other.digest}, expected {bundle.fingerprint.digest}; first "
        "difference: max_seconds is 2.0, expected 30.0; model scores with features of weights with these hashes "
        f"alone: audio {'a' * 32}, text {'b' * 32}; give --audio-encoder and --text-encoder that have them"
    )


def test_layers_and_precision_are_those_of_the_features(text: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    both = load_audio_encoder("muq-tiny", layers=(1, 2))
    bundle = make_bundle(both, text)
    loaded, _ = load_encoders(bundle)
    assert (loaded.layers, loaded.precision) == ((1, 2), "fp32")
    require_same_features(bundle, loaded, text, ExtractionOptions())
    fields = bundle.fingerprint.fields
    coarse = fields | {"audio_encoder": fields["audio_encoder"] | {"precision": "bf16"}}
    asked = []
    monkeypatch.setattr(encoders, "load_audio_encoder", lambda *_, precision, **__: asked.append(precision))
    monkeypatch.setattr(encoders, "load_text_encoder", lambda *_: None)
    for device in ("cpu", "cuda"):
        load_encoders(replace(bundle, fingerprint=Fingerprint.of(coarse)), device=device)
        load_encoders(bundle, device=device)
    assert asked == ["bf16", "fp32", "bf16", "fp16"]


def test_options_are_those_of_the_features(audio: AudioEncoder, text: TextEncoder) -> None:
    expected = ExtractionOptions(pad_to_s=7.0, dtype="float32", batch_size=9)
    assert options_of(make_bundle(audio, text, pad_to_s=7.0, dtype="float32").input, 9) == expected
    own_lengths = options_of(make_bundle(audio, text, pad_to_s=None).input, 1)
    assert (own_lengths.pad_to_s, own_lengths.max_seconds) == (None, 30.0)
