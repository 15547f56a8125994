"""The encoders that make the features of bundles' heads, each loaded once, and how they were used."""

import logging
from os import PathLike, fspath
from pathlib import Path

from audiomos_cache.bundle.bundle import Bundle, EncoderSource
from audiomos_cache.encoders.base import AudioEncoder, Precision, TextEncoder
from audiomos_cache.encoders.lookup import DEFAULTS, load_audio_encoder, load_text_encoder, loader_of
from audiomos_cache.encoders.muq import MuQEncoder
from audiomos_cache.errors import EncoderError, shown
from audiomos_cache.extraction.options import ExtractionOptions, precision_for
from audiomos_cache.files import is_folder
from audiomos_cache.input_spec import InputSpec
from audiomos_cache.registry import known

log = logging.getLogger(__name__)


class Encoders:
    """The encoders of some bundles, each loaded once.

    Args:
        audio_encoder, text_encoder: where they are, if not where the bundles have them from; `NAME@REVISION` pins one.
            Or encoders that are loaded: the text encoder then runs where the audio encoder does.
        device: where they run.
        precision: of audio encoders; None: the one the features were made in, where it shows in them; else float16 on a
            GPU for features that are stored in it, and float32.
    """

    def __init__(
        self,
        audio_encoder: str | PathLike[str] | AudioEncoder | None = None,
        text_encoder: str | PathLike[str] | TextEncoder | None = None,
        device: str = "cpu",
        precision: Precision | None = None,
    ) -> None:
        self._given_audio, self._given_text = audio_encoder, text_encoder
        self._device, self._precision = device, precision
        self._audio: list[AudioEncoder] = []
        self._text: list[TextEncoder] = []

    def audio_for(self, bundle: Bundle) -> AudioEncoder:
        """Return the encoder that makes a bundle's frames.

        Raises:
            EncoderError: it cannot be loaded; the message names what to download, and where to put it. CacheError: it
            makes other frames.
        """
        features, given = bundle.input, self._given_audio
        chosen = precision_for(
            self._device.partition(":")[0], features.dtype, self._precision or features.audio_encoder.precision
        )
        encoder = self._loaded_audio(features, chosen)
        if encoder is None:
            if given is not None and not isinstance(given, str | PathLike):
                encoder = _with_layers(given, features.layers)
            elif given is None and bundle.own_encoder:
                encoder = bundle.own_encoder(device=self._device, layers=features.layers, precision=chosen)
            else:
                name = _where(bundle.audio_encoder, given, "audio_encoder")
                encoder = load_audio_encoder(name, self._device, layers=features.layers, precision=chosen)
            self._audio.append(encoder)
        return encoder

    def text_for(self, bundle: Bundle, audio: AudioEncoder) -> TextEncoder | None:
        """Return the encoder that makes a bundle's tokens; None where its heads hear no prompt."""
        identity = bundle.input.text_encoder
        if bundle.text_encoder is None or identity is None:
            return None
        found = next((each for each in self._text if each.identity() == identity.model_dump()), None)
        if found is None:
            given = self._given_text
            if given is None or isinstance(given, str | PathLike):
                name = _where(bundle.text_encoder, given, "text_encoder")
                given = load_text_encoder(name, str(audio.device))
            self._text.append(found := given)
        return found

    def _loaded_audio(self, features: InputSpec, precision: Precision) -> AudioEncoder | None:
        """Return an encoder that is loaded already and makes these frames, or shares its weights with one that does."""
        wanted = features.audio_encoder.model_dump(exclude={"layers", "precision"})
        for each in self._audio:
            same_weights = {k: v for k, v in each.identity().items() if k != "layers"} == wanted
            if same_weights and each.precision == precision:
                found = _with_layers(each, features.layers)
                if found.layers == features.layers:
                    return found
        return None


def _with_layers(encoder: AudioEncoder, layers: tuple[int, ...]) -> AudioEncoder:
    if encoder.layers != layers and isinstance(encoder, MuQEncoder):
        return encoder.with_layers(layers)
    return encoder


def options_of(features: InputSpec, batch_size: int) -> ExtractionOptions:
    """Return how the clips of a bundle's caches were encoded."""
    return ExtractionOptions(pad_to_s=features.pad_to_s, dtype=features.dtype, batch_size=batch_size)


def require_same_features(bundle: Bundle, audio: AudioEncoder, text: TextEncoder | None) -> None:
    """Refuse encoders whose features are not those that a bundle's heads take.

    Another version of the resampler makes the same features as long as its filter is the same: there is a warning.

    Raises:
        CacheError: naming both fingerprints and the first difference, in one line.
    """
    found, expected = bundle.input.with_encoders(audio, text), bundle.input
    if found.makes_same_features(expected):
        versions = [shown(each.resampler.version) for each in (found, expected)]
        if versions[0] != versions[1]:
            log.warning(
                "torchaudio %s resamples here, and %s did for what %s was trained on", *versions, shown(bundle.name)
            )
        return
    weights, options, names = f"audio {bundle.audio_encoder.weights_hash}", "--audio-encoder", audio.name
    if text and bundle.text_encoder:
        weights += f", text {bundle.text_encoder.weights_hash}"
        options, names = f"{options} and --text-encoder", f"{names} and {text.name}"
    advice = (
        f"{shown(bundle.name)} scores with features of weights with these hashes alone: {weights}; give {options} that "
        f"ha{'ve' if text else 's'} them"
    )
    found.fingerprint.require(expected.fingerprint, names, advice, readable=False)


def _where(recorded: EncoderSource, given: str | PathLike[str] | None, kind: str) -> str:
    """Return what to load an encoder by: a name, a folder, or a repository with its revision.

    Raises:
        EncoderError: the bundle has them from where they cannot be loaded here.
    """
    if given is not None:
        return fspath(given)
    option, loader = f"--{kind.replace('_', '-')}", loader_of(kind, recorded.name)
    prefix = "" if loader == DEFAULTS[kind] else f"{loader}:"
    found = recorded.weights_hash
    weights = "the same weights" if found == "none" else f"weights of hash {found}"
    if recorded.revision == "none":
        if recorded.name not in known(kind):
            raise EncoderError(
                f"the bundle was made with {shown(recorded.name)}, which no code here makes; give {option} a folder "
                f"with {weights}"
            )
        return recorded.name
    if recorded.revision == "local":
        if not is_folder(recorded.source):
            raise EncoderError(
                f"the bundle was made with the folder {shown(recorded.source)}, which is not here; give {option} a "
                f"folder with {weights}"
            )
        return f"{prefix}{Path(recorded.source).absolute()}"  # a published encoder is never named so
    if "/" not in recorded.source:
        raise EncoderError(
            f"the bundle was made with {shown(recorded.source)}, which is not a repository of the form owner/name; "
            f"give {option} a folder with {weights}"
        )
    return f"{prefix}{recorded.source}@{recorded.revision}"
