"""The readable form of a fingerprint, as far as scoring reads it."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, SerializerFunctionWrapHandler, model_serializer
from pydantic_core import PydanticCustomError

from audiomos_cache.yaml_files import Group

_WIDEST = 2**16  # frames and tokens: many times as wide as any encoder's
_LONGEST_S = 3600

Width = Annotated[int, Field(ge=1, le=_WIDEST)]


def _seconds(found: JsonValue) -> JsonValue:
    """Let pass what is a length, as it is: 30 and 30.0 make different fingerprints."""
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= _LONGEST_S:
        raise PydanticCustomError("seconds", "expected seconds above 0, at most {most}", {"most": _LONGEST_S})
    return found


def _seconds_or_none(found: JsonValue) -> JsonValue:
    return None if found is None else _seconds(found)


def _ascending(found: str) -> str:
    if not re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", found) or (n := layer_numbers(found)) != tuple(sorted(set(n))):
        raise PydanticCustomError("layers", "expected numbers of layers such as '6' or '4,6', ascending")
    return found


def layer_numbers(told: str) -> tuple[int, ...]:
    """Return the numbers of layers that a fingerprint tells as text."""
    return tuple(int(number) for number in told.split(","))


class _AsGiven(Group):
    """Keys of which some are known; they are written as they were read, others included, and none more."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    @model_serializer(mode="wrap")
    def _only_given(self, handler: SerializerFunctionWrapHandler) -> Mapping[str, Any]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}


class AudioFields(_AsGiven):
    """Of the audio encoder. `precision` is there where it shows in the features."""

    layers: Annotated[str, AfterValidator(_ascending)]
    dim: Width | None = None
    precision: Literal["fp32", "fp16", "bf16"] | None = None


class TextFields(_AsGiven):
    """Of the text encoder."""

    dim: Width | None = None


class ResamplerFields(_AsGiven):
    """Of the resampler."""

    version: str


class Fields(_AsGiven):
    """Encoders, resampler, padding, limit and dtype."""

    audio_encoder: AudioFields
    text_encoder: TextFields
    resampler: ResamplerFields
    pad_to_s: Annotated[JsonValue, AfterValidator(_seconds_or_none)]
    max_seconds: Annotated[JsonValue, AfterValidator(_seconds)]
    dtype: Literal["float16", "float32"]
