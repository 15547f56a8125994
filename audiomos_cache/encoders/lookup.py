"""Encoders by name: `NAME`, `FOLDER` or `OWNER/REPOSITORY`, each with `@REVISION` where it is of a hub.

    muq                        a registered encoder, at the newest revision of its repository
    muq@6a5cd8e                at one revision
    models/my-muq              a folder, for the first encoder of its kind (muq, roberta)
    someone/model@main         a repository of the Hugging Face hub, for the same
    wavlm:models/my-wavlm      a folder or repository, for the registered encoder whose name comes first

A user's encoder is registered as ours are: a class or function with the signature of `AudioLoader` or `TextLoader`.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from audiomos_cache.encoders.base import AudioEncoder, Identity, Precision, TextEncoder, TextFeatures
from audiomos_cache.errors import ConfigError, shown
from audiomos_cache.files import is_folder
from audiomos_cache.hub import split_revision
from audiomos_cache.registry import known, lookup, not_one_of, summary
from audiomos_cache.torch_settings import standard_torch

log = logging.getLogger(__name__)

__all__ = [
    "DEFAULTS",
    "AudioEncoder",
    "AudioLoader",
    "Identity",
    "Precision",
    "TextEncoder",
    "TextFeatures",
    "TextLoader",
    "known_encoders",
    "load_audio_encoder",
    "load_text_encoder",
    "loader_of",
]

UNTRAINED_NOTICE = "untrained: shows that the pipeline works, nothing more"

# What loads a folder or repository that comes without a name.
DEFAULTS = {"audio_encoder": "muq", "text_encoder": "roberta"}


class AudioLoader(Protocol):
    """What is registered as an "audio_encoder"."""

    def __call__(
        self,
        source: str | None,
        *,
        name: str,
        revision: str | None,
        device: str,
        layers: Sequence[int],
        precision: Precision,
    ) -> AudioEncoder:
        """Load an encoder.

        Args:
            source: folder or hub repository; None: the encoder's own.
            name: as the user gave it, which becomes the encoder's.
            revision: branch, tag or commit of a hub repository; None: the newest.
            device: where it runs.
            layers: hidden states to give, see `encoders.base.resolve_layers`.
            precision: to compute in.
        Raises:
            ConfigError, EncoderError: it cannot be loaded.
        """


class TextLoader(Protocol):
    """What is registered as a "text_encoder"; the arguments are those of `AudioLoader`."""

    def __call__(self, source: str | None, *, name: str, revision: str | None, device: str) -> TextEncoder:
        """Load an encoder."""


class _Requested(NamedTuple):
    """What a user requested: which loader, and with which source and revision."""

    loader: str
    source: str | None
    revision: str | None


@standard_torch()
def load_audio_encoder(
    name: str,
    device: str = "cpu",
    layers: Sequence[int] = (-1,),
    precision: Precision = "fp32",
) -> AudioEncoder:
    """Load an audio encoder.

    Args:
        name: as at the top of this module: `muq`, `muq@main`, a folder, `wavlm:FOLDER`.
        device: where it runs.
        layers: hidden states to give, 0 being what enters the first layer and -1 the last; order does not matter.
        precision: to compute in.
    Raises:
        ConfigError: unknown name, or a layer it does not have. EncoderError: it cannot be loaded.
    """
    requested = _parse("audio_encoder", name)
    load: AudioLoader = lookup("audio_encoder", requested.loader)
    log.info("loading %s ...", shown(name))
    return load(
        requested.source,
        name=_without_revision(name, requested),
        revision=requested.revision,
        device=device,
        layers=layers,
        precision=precision,
    )


@standard_torch()
def load_text_encoder(name: str, device: str = "cpu") -> TextEncoder:
    """Load a text encoder: `roberta`, `roberta@main`, any Hugging Face text encoder from a folder or hub repository.

    Raises:
        ConfigError: unknown name. EncoderError: it cannot be loaded.
    """
    requested = _parse("text_encoder", name)
    load: TextLoader = lookup("text_encoder", requested.loader)
    log.info("loading %s ...", shown(name))
    return load(requested.source, name=_without_revision(name, requested), revision=requested.revision, device=device)


def known_encoders(kind: str) -> list[tuple[str, str]]:
    """Return the names of the registered encoders of a kind ("audio_encoder", "text_encoder"), each with a summary."""
    return [(name, summary(kind, name)) for name in known(kind)]


def loader_of(kind: str, name: str) -> str:
    """Return the name of the registered encoder that loads what a user requested by `name`."""
    loader, colon, _ = name.partition(":")
    names = known(kind)
    loader = loader if colon else split_revision(name)[0]
    return next((each for each in (name, loader) if each in names), DEFAULTS[kind])


def _parse(kind: str, name: str) -> _Requested:
    """Split what a user requested into loader, source and revision; folders that exist win, also those with an @.

    Raises:
        ConfigError: neither a known name nor what may be a folder or repository.
    """
    option = f"--{kind.replace('_', '-')}"
    if name in known(kind):
        return _Requested(name, None, None)
    loader = loader_of(kind, name)
    source = name.removeprefix(f"{loader}:")
    source, revision = split_revision(source)
    if revision is not None and source in known(kind) and ":" not in name:
        return _Requested(source, None, revision)
    if "/" not in source and not (source and is_folder(source)):
        raise ConfigError(
            f"{option} {name}: {not_one_of(source, known(kind))}, nor a folder or hub id (those have a /); is an "
            "--import missing?"
        )
    return _Requested(loader, source, revision)


def _without_revision(name: str, requested: _Requested) -> str:
    return name if requested.revision is None else name.removesuffix(f"@{requested.revision}")
