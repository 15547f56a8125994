"""Encoders by name: registered ones, folders, and hub repositories."""

from collections.abc import Callable, Sequence
from pathlib import Path

from audiomos_cache.encoders.base import AudioEncoder, Identity, Precision, TextEncoder, TextFeatures
from audiomos_cache.encoders.muq import HUB_ID, MuQEncoder
from audiomos_cache.encoders.text import ROBERTA_HUB_ID, HuggingFaceTextEncoder
from audiomos_cache.encoders.tiny import load_muq_tiny, load_roberta_tiny
from audiomos_cache.errors import ConfigError

__all__ = [
    "AudioEncoder",
    "Identity",
    "Precision",
    "TextEncoder",
    "TextFeatures",
    "load_audio_encoder",
    "load_text_encoder",
]

UNTRAINED_NOTICE = "untrained: shows that the pipeline works, not how good MuQ is"

# Encoders that need no source: name -> (device, and layers and precision of audio) -> encoder.
BUILT_IN_AUDIO: dict[str, Callable[[str, Sequence[int], Precision], AudioEncoder]] = {"muq-tiny": load_muq_tiny}
BUILT_IN_TEXT: dict[str, Callable[[str], TextEncoder]] = {"roberta-tiny": load_roberta_tiny}
# Names of published weights: name -> hub repository.
PUBLISHED_AUDIO = {"muq": HUB_ID}
PUBLISHED_TEXT = {"roberta": ROBERTA_HUB_ID}


def load_audio_encoder(
    name: str,
    revision: str | None = None,
    device: str = "cpu",
    layers: Sequence[int] = (-1,),
    precision: Precision = "fp32",
) -> AudioEncoder:
    """Load `muq`, `muq-tiny`, or a MuQ from a folder or hub repository.

    Args:
        name: of the encoder, or where it is.
        revision: branch, tag or commit of a hub repository.
        device: where it runs.
        layers: hidden states to give, 0 being what enters the first layer and -1 the last; order does not matter.
        precision: to compute in.
    Raises:
        ConfigError: unknown name, or a layer it does not have. EncoderError: it cannot be loaded.
    """
    if name in BUILT_IN_AUDIO:
        _refuse_revision(name, revision)
        return BUILT_IN_AUDIO[name](device, layers, precision)
    source = _source(name, PUBLISHED_AUDIO, "--audio-encoder", [*PUBLISHED_AUDIO, *BUILT_IN_AUDIO])
    return MuQEncoder.load(source, name=name, revision=revision, device=device, layers=layers, precision=precision)


def load_text_encoder(name: str, revision: str | None = None, device: str = "cpu") -> TextEncoder:
    """Load `roberta`, `roberta-tiny`, or any Hugging Face text encoder from a folder or hub repository.

    Raises:
        ConfigError: unknown name. EncoderError: it cannot be loaded.
    """
    if name in BUILT_IN_TEXT:
        _refuse_revision(name, revision)
        return BUILT_IN_TEXT[name](device)
    source = _source(name, PUBLISHED_TEXT, "--text-encoder", [*PUBLISHED_TEXT, *BUILT_IN_TEXT])
    return HuggingFaceTextEncoder.load(source, name=name, revision=revision, device=device)


def _source(name: str, published: dict[str, str], option: str, known: list[str]) -> str:
    if name in published:
        return published[name]
    if "/" not in name and not (name and Path(name).is_dir()):
        raise ConfigError(
            f"{option} {name}: not one of {', '.join(sorted(known))}, nor a folder or hub id (those have a /)"
        )
    return name


def _refuse_revision(name: str, revision: str | None) -> None:
    if revision is not None:
        raise ConfigError(f"{name} is made by code and has no revision {revision!r} to pin")
