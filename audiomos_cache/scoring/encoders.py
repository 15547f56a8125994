"""The encoders that a bundle's heads were trained on the features of, and how they were used."""

import logging
from os import PathLike, fspath
from pathlib import Path

from audiomos_cache.bundle.load import Bundle, EncoderSource
from audiomos_cache.encoders.base import AudioEncoder, Precision, TextEncoder
from audiomos_cache.encoders.lookup import DEFAULTS, load_audio_encoder, load_text_encoder, loader_of
from audiomos_cache.errors import EncoderError, shown
from audiomos_cache.extraction.options import ExtractionOptions, precision_for
from audiomos_cache.files import is_folder
from audiomos_cache.input_spec import InputSpec
from audiomos_cache.registry import known

log = logging.getLogger(__name__)


def load_encoders(
    bundle: Bundle,
    audio_encoder: str | PathLike[str] | AudioEncoder | None = None,
    text_encoder: str | PathLike[str] | TextEncoder | None = None,
    device: str = "cpu",
    precision: Precision | None = None,
) -> tuple[AudioEncoder, TextEncoder]:
    """Load the encoders that a bundle names, at the revisions that it names.

    Args:
        bundle: whose encoders.
        audio_encoder, text_encoder: where they are, if not where the bundle has them from; `NAME@REVISION`
            pins one. Or encoders that are loaded: the text encoder then runs where the audio encoder does.
        device: where they run.
        precision: of the audio encoder; None: the one the features were made in, where it shows in them; else float16
            on a GPU and float32 on a CPU.
    Raises:
        EncoderError: one cannot be loaded; the message names what to download, and where to put it.
    """
    if audio_encoder is None or isinstance(audio_encoder, str | PathLike):
        features = bundle.input
        asked = precision or features.audio_encoder.precision
        chosen = precision_for(device.partition(":")[0], features.dtype, asked)
        name = _where(bundle.audio_encoder, audio_encoder, "audio_encoder")
        audio_encoder = load_audio_encoder(name, device, layers=features.layers, precision=chosen)
    else:
        device = str(audio_encoder.device)
    if text_encoder is None or isinstance(text_encoder, str | PathLike):
        text_encoder = load_text_encoder(_where(bundle.text_encoder, text_encoder, "text_encoder"), device)
    return audio_encoder, text_encoder


def options_of(features: InputSpec, batch_size: int) -> ExtractionOptions:
    """Return how the clips of a bundle's caches were encoded."""
    return ExtractionOptions(pad_to_s=features.pad_to_s, dtype=features.dtype, batch_size=batch_size)


def require_same_features(bundle: Bundle, audio: AudioEncoder, text: TextEncoder, options: ExtractionOptions) -> None:
    """Refuse encoders whose features are not those that a bundle's heads were trained on.

    Another version of the resampler makes the same features as long as its filter is the same: there is a warning.

    Raises:
        CacheError: naming both fingerprints and the first difference, in one line.
    """
    found, expected = options.input_spec(audio, text), bundle.input
    if found.makes_same_features(expected):
        versions = [shown(each.resampler.version) for each in (found, expected)]
        if versions[0] != versions[1]:
            log.warning(
                "torchaudio %s resamples here, and %s did for what %s was trained on", *versions, shown(bundle.name)
            )
        return
    weights = f"audio {bundle.audio_encoder.weights_hash}, text {bundle.text_encoder.weights_hash}"
    advice = (
        f"{shown(bundle.name)} scores with features of weights with these hashes alone: {weights}; give "
        "--audio-encoder and --text-encoder that have them"
    )
    found.fingerprint.require(expected.fingerprint, f"{audio.name} and {text.name}", advice, readable=False)


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
