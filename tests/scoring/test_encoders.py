from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.bundle.bundle import Bundle, EncoderSource
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.encoders.lookup import load_audio_encoder
from audiomos_cache.errors import CacheError, EncoderError
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.input_spec import InputSpec
from audiomos_cache.scoring import encoders
from audiomos_cache.scoring.encoders import Encoders, options_of, require_same_features
from tests.support.scoring import make_bundle

HASH = "a" * 32


def load_encoders(bundle: Bundle, *arguments: Any, **options: Any) -> tuple[AudioEncoder, TextEncoder | None]:
    loaded = Encoders(*arguments, **options)
    audio = loaded.audio_for(bundle)
    return audio, loaded.text_for(bundle, audio)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the encoders that are loaded, which none is."""
    found = []

    def load(name: str, *_: object, **__: object) -> object:
        found.append(name)
        return SimpleNamespace(device="cpu")

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
    fields = bundle.fingerprint.fields
    found = fields["text_encoder"]["weights_xxh3_128"]
    expected = Fingerprint.of(fields | {"text_encoder": fields["text_encoder"] | {"weights_xxh3_128": "f" * 32}})
    with pytest.raises(CacheError) as caught:
        require_same_features(replace(bundle, fingerprint=expected), audio, text)
    [line] = str(caught.value).splitlines()
    assert line == (
        f"muq-tiny and roberta-tiny: fingerprint {bundle.fingerprint.digest}, expected {expected.digest}; first "
        f"difference: text_encoder.weights_xxh3_128 is {found!r}, expected {'f' * 32!r}; model scores with features "
        f"of weights with these hashes alone: audio {'a' * 32}, text {'b' * 32}; give --audio-encoder and "
        "--text-encoder that have them"
    )


def test_other_frames_of_heads_that_hear_no_prompt_are_refused(audio: AudioEncoder, text: TextEncoder) -> None:
    spec = InputSpec.of(audio, None, 5.0, "float16", window="centre")
    bundle = replace(make_bundle(audio, text), fingerprint=spec.fingerprint, text_encoder=None)
    require_same_features(bundle, audio, None)
    fields = spec.fingerprint.fields
    expected = Fingerprint.of(fields | {"audio_encoder": fields["audio_encoder"] | {"weights_xxh3_128": "f" * 32}})
    with pytest.raises(CacheError) as caught:
        require_same_features(replace(bundle, fingerprint=expected), audio, None)
    assert str(caught.value) == (
        f"muq-tiny: fingerprint {spec.fingerprint.digest}, expected {expected.digest}; first difference: "
        f"audio_encoder.weights_xxh3_128 is {fields['audio_encoder']['weights_xxh3_128']!r}, expected {'f' * 32!r}; "
        f"model scores with features of weights with these hashes alone: audio {'a' * 32}; give --audio-encoder that "
        "has them"
    )


def test_layers_and_precision_are_those_of_the_features(text: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    both = load_audio_encoder("muq-tiny", layers=(1, 2))
    bundle = make_bundle(both, text)
    loaded, _ = load_encoders(bundle)
    assert (loaded.layers, loaded.precision) == ((1, 2), "fp32")
    require_same_features(bundle, loaded, text)
    fields = bundle.fingerprint.fields
    coarse = fields | {"audio_encoder": fields["audio_encoder"] | {"precision": "bf16"}}
    asked = []

    def load(*_: object, precision: str, **__: object) -> object:
        asked.append(precision)
        return SimpleNamespace(device="cpu")

    monkeypatch.setattr(encoders, "load_audio_encoder", load)
    monkeypatch.setattr(encoders, "load_text_encoder", lambda *_: None)
    for device in ("cpu", "cuda"):
        load_encoders(replace(bundle, fingerprint=Fingerprint.of(coarse)), device=device)
        load_encoders(bundle, device=device)
    assert asked == ["bf16", "fp32", "bf16", "fp16"]


def test_each_encoder_is_loaded_once_for_all_bundles(
    audio: AudioEncoder, text: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for those that read other layers of it, once too."""
    asked = []
    load_audio, load_text = encoders.load_audio_encoder, encoders.load_text_encoder

    def count(load: Any) -> Any:
        def counted(name: str, *arguments: object, **options: object) -> object:
            asked.append(name)
            return load(name, *arguments, **options)

        return counted

    monkeypatch.setattr(encoders, "load_audio_encoder", count(load_audio))
    monkeypatch.setattr(encoders, "load_text_encoder", count(load_text))
    loaded = Encoders()
    spec = InputSpec.of(audio, None, 5.0, "float32", window="centre")
    no_prompts = replace(make_bundle(audio, text), fingerprint=spec.fingerprint, text_encoder=None)
    other_layers = make_bundle(load_audio_encoder("muq-tiny", layers=(1, 2)), text)
    found = [loaded.audio_for(each) for each in (make_bundle(audio, text), no_prompts, other_layers)]
    assert [each.layers for each in found] == [audio.layers, audio.layers, (1, 2)]
    assert loaded.text_for(no_prompts, found[1]) is None
    first, again = (loaded.text_for(each, found[0]) for each in (other_layers, make_bundle(audio, text)))
    assert first is again
    assert asked == ["muq-tiny", "roberta-tiny"]


def test_options_are_those_of_the_features(audio: AudioEncoder, text: TextEncoder) -> None:
    expected = ExtractionOptions(pad_to_s=7.0, dtype="float32", batch_size=9)
    assert options_of(make_bundle(audio, text, pad_to_s=7.0, dtype="float32").input, 9) == expected
    own_lengths = options_of(make_bundle(audio, text, pad_to_s=None).input, 1)
    assert (own_lengths.pad_to_s, own_lengths.max_seconds) == (None, 30.0)
