"""What an encoder is given, and what it gives: one record that caches, bundles and the scorer share."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, Unpack

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.audio.resample import resampler_identity
from audiomos_cache.errors import EncoderError
from audiomos_cache.yaml_files import Group, readable

# torch is imported where it is needed: a bundle's manifest is read without it.
if TYPE_CHECKING:
    from audiomos_cache.encoders.base import AudioEncoder, TextEncoder

MAX_SECONDS = 30.0

_WIDEST = 2**16  # frames and tokens: many times as wide as any encoder's
_LONGEST_S = 3600

Window = Literal["first", "centre", "whole"]
"""What an encoder is given of a clip that is longer than `InputSpec.max_seconds`.

`first`: its beginning (in a cache), or all of it in windows one after the other (in a score); `centre`: its middle, as
some published heads do; `whole`: all of it at once, and a longer one is refused.
"""
Padding = Literal["masked", "heard"]


class Rule(TypedDict, total=False):
    """What of a clip is encoded, where it is not as in every cache; the keys are those of `InputSpec`."""

    max_seconds: float
    window: Window
    padding: Padding


Width = Annotated[int, Field(ge=1, le=_WIDEST)]
Precision = Literal["fp32", "fp16", "bf16"]
StoredDtype = Literal["float16", "float32"]


def longest_s(pad_to_s: float | None) -> float:
    """Return where clips are cut, in seconds: the length that they are padded to, or 30 s."""
    return MAX_SECONDS if pad_to_s is None else pad_to_s


def _seconds(found: object) -> int | float:
    """Return a valid length unchanged: 30 and 30.0 make different fingerprints."""
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= _LONGEST_S:
        raise PydanticCustomError("seconds", "expected seconds above 0, at most {most}", {"most": _LONGEST_S})
    return found


def _seconds_or_none(found: object) -> int | float | None:
    return None if found is None else _seconds(found)


def _ascending(found: str) -> str:
    if re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", found):
        numbers = _numbers(found)
        if numbers == tuple(sorted(set(numbers))):
            return found
    raise PydanticCustomError("layers", "expected numbers of layers such as '6' or '4,6', ascending")


def _numbers(layers: str) -> tuple[int, ...]:
    return tuple(int(number) for number in layers.split(","))


class _AsGiven(Group):
    """Keys of which some are known; all are written as they were read, and no others."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    @model_serializer(mode="wrap")
    def _only_given(self, handler: SerializerFunctionWrapHandler) -> Mapping[str, Any]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}


class AudioIdentity(_AsGiven):
    """What decides the frames that an audio encoder gives, see `AudioEncoder.identity`.

    Attributes:
        layers: numbers of the hidden states that are stored, ascending, such as "4,6".
        dim: width of a frame; None where the encoder does not report it.
        precision: of the computation, where it differs by more than the rounding of the stored features.
    """

    layers: Annotated[str, AfterValidator(_ascending)]
    dim: Width | None = None
    precision: Precision | None = None


class TextIdentity(_AsGiven):
    """What decides the tokens that a text encoder gives, see `TextEncoder.identity`."""

    dim: Width | None = None


class ResamplerIdentity(_AsGiven):
    """What decides the samples that resampling gives."""

    version: str


class InputSpec(_AsGiven):
    """What an encoder is given and gives, which is all that decides a feature's value.

    Attributes:
        audio_encoder, text_encoder, resampler: what makes the features; no text encoder where no head hears a prompt.
        pad_to_s: the length that clips are padded to, in seconds; None: they are encoded at their own.
        max_seconds: where longer clips are cut.
        dtype: of the stored features.
        window: what is encoded of a longer clip, see `Window`.
        padding: whether the frames of padding are masked, or heard as if they were music, as in some published code.
    """

    audio_encoder: AudioIdentity
    text_encoder: TextIdentity | None = None
    resampler: ResamplerIdentity
    pad_to_s: Annotated[int | float | None, BeforeValidator(_seconds_or_none)]
    max_seconds: Annotated[int | float, BeforeValidator(_seconds)]
    dtype: StoredDtype
    window: Window = "first"
    padding: Padding = "masked"

    @classmethod
    def of(
        cls,
        audio: "AudioEncoder",
        text: "TextEncoder | None",
        pad_to_s: float | None,
        dtype: StoredDtype,
        **rule: Unpack[Rule],
    ) -> "InputSpec":
        """Describe the features that encoders give for clips padded to a length, as they are stored.

        What is as in every cache is not written, so that their fingerprints are as they were.

        The precision of the computation is part of it only where it changes features by more than the rounding of the
        stored ones. float16 arithmetic moves a clip's features by 0.7e-3 of their size, storing them as float16 by
        0.3e-3: a cache made so on a GPU and a clip scored in float32 on a laptop belong together, as two GPUs do.
        bfloat16 moves them by ten times as much, and features are stored as float32 for their digits.

        Raises:
            EncoderError: an encoder's identity, or a length, is not valid; names every problem.
        """
        coarse = audio.precision == "bf16" or (audio.precision == "fp16" and dtype == "float32")
        identity = audio.identity() | ({"precision": audio.precision} if coarse else {})
        try:
            return cls.of_identities(identity, text.identity() if text else None, pad_to_s, dtype, **rule)
        except ValidationError as error:
            problems = "; ".join(readable(each, ()) for each in error.errors())
            names = " and ".join(encoder.name for encoder in (audio, text) if encoder)
            raise EncoderError(f"{names}: {problems}; correct what their identity() returns") from error

    @classmethod
    def of_identities(
        cls,
        audio: Mapping[str, Any],
        text: Mapping[str, Any] | None,
        pad_to_s: float | None,
        dtype: StoredDtype,
        **rule: Unpack[Rule],
    ) -> "InputSpec":
        """Do what `of` does, for encoders that are not loaded.

        Raises:
            ValidationError: an identity, or a length, is not valid.
        """
        fields = {
            "audio_encoder": audio,
            **({"text_encoder": text} if text else {}),
            "resampler": resampler_identity(),
            "pad_to_s": pad_to_s,
            "dtype": dtype,
            "max_seconds": rule.pop("max_seconds", longest_s(pad_to_s)),
            **{key: value for key, value in rule.items() if value != cls.model_fields[key].default},
        }
        return cls.model_validate(fields)

    @classmethod
    def of_fingerprint(cls, fingerprint: Fingerprint) -> "InputSpec":
        """Read the record that a fingerprint was made of.

        Raises:
            ValidationError: it was not made of features.
        """
        return cls.model_validate(fingerprint.fields)

    @property
    def fingerprint(self) -> Fingerprint:
        """What distinguishes these features from all others."""
        return Fingerprint.of(self.model_dump())

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the stored hidden states of the audio encoder, ascending."""
        return _numbers(self.audio_encoder.layers)

    def with_encoders(self, audio: "AudioEncoder", text: "TextEncoder | None") -> "InputSpec":
        """Return what this would be of other encoders.

        Raises:
            EncoderError: see `of`.
        """
        rule = Rule(max_seconds=self.max_seconds, window=self.window, padding=self.padding)
        return InputSpec.of(audio, text, self.pad_to_s, self.dtype, **rule)

    @property
    def of_audio(self) -> "InputSpec":
        """What decides the frames alone: bundles for which it is equal are given the same ones."""
        return InputSpec.model_validate({k: v for k, v in self.model_dump().items() if k != "text_encoder"})

    def makes_same_features(self, other: "InputSpec") -> bool:
        """Return whether the features are the same: another version of the resampler has the same filter."""
        return self._without_version() == other._without_version()

    def _without_version(self) -> dict[str, Any]:
        content = self.model_dump()
        return content | {"resampler": {key: value for key, value in content["resampler"].items() if key != "version"}}
