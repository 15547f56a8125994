"""Parts of a head in a config: a kind by name, with keys of its own; users' parts are found in the registry.

    pooling: attentive
    pooling: {kind: drasp, segment: 50}

Nothing here imports torch for parts that are built in: the command line's help lists their keys.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypeVar

from pydantic import BeforeValidator, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError, to_json

from audiomos_cache.errors import ConfigError, quoted
from audiomos_cache.registry import BUILT_IN, known, lookup, not_one_of
from audiomos_cache.yaml_files import PART_ERROR, Group, readable

PUBLISHED_AUDIO_DIM = 1024

Built = TypeVar("Built")


def scaled(width: int, audio_dim: int, multiple_of: int = 1) -> int:
    """Scale a published width from 1024-dimensional frames to `audio_dim`, to a multiple of `multiple_of`."""
    return max(round(width * audio_dim / PUBLISHED_AUDIO_DIM / multiple_of), 1) * multiple_of


class PartConfig(Group):
    """The keys of one part; its class `Config` derives from this, and adds a field for each of its keys.

    Args:
        kind: the name that the part is registered by.

    >>> class Config(PartConfig):
    ...     segment: int = 25
    >>> Config(kind="drasp", segment=50).arguments(audio_dim=1024)
    {'segment': 50}
    """

    kind: str

    def arguments(self, audio_dim: int) -> dict[str, Any]:
        """Return the keyword arguments that the part is built with: its own keys.

        Args:
            audio_dim: width of the frames, which published widths are scaled to.
        Raises:
            ConfigError: the part cannot be built for frames of this width.
        """
        del audio_dim
        return {key: getattr(self, key) for key in type(self).model_fields if key != "kind"}

    @classmethod
    def own_keys(cls) -> list[str]:
        """Return the names of the part's own keys."""
        return [key for key in cls.model_fields if key != "kind"]


# What kinds are built in, and their configs: of the registry's kinds, and of those that users do not add to.
CONFIGS: dict[str, dict[str, type[PartConfig]]] = {}


def names_of(part: str, output: str | None = None) -> list[str]:
    """Return the known names of a part; of a loss, those for one kind of output if `output` names it."""
    names = known(part) if part in BUILT_IN else list(CONFIGS[part])
    return names if output is None else [name for name in names if output_of_loss(name) == output]


def config_class(part: str, name: str) -> type[PartConfig]:
    """Return the config of a known part; one without a `Config` has no keys."""
    if name in CONFIGS[part]:
        return CONFIGS[part][name]
    found: type[PartConfig] = getattr(lookup(part, name), "Config", PartConfig)  # `register` refuses any other
    return found


def build_part(kind: str, name: str, part: Callable[..., Built], /, *arguments: Any, **keys: Any) -> Built:
    """Build a part of a head.

    Args:
        kind, name: of the part, for the message.
        part: its class.
        arguments, keys: what it is built with.
    Raises:
        ConfigError: its constructor takes other arguments, such as one that its `Config` has no key for.
    """
    try:
        signature(part).bind(*arguments, **keys)
    except TypeError as error:
        given = ", ".join([*map(repr, arguments), *(f"{key}={value!r}" for key, value in keys.items())])
        raise ConfigError(
            f"{kind} {quoted(name)}: its constructor cannot be called with ({given}): {error}; "
            "expected these arguments, and "
            "a key of its Config or a default for any other"
        ) from error
    return part(*arguments, **keys)


def output_of_loss(name: str) -> str:
    """Return the kind of output that a loss is for: scalar, distribution or coral."""
    if name in CONFIGS["loss"]:
        return str(getattr(CONFIGS["loss"][name], "output", "scalar"))
    return str(getattr(lookup("loss", name), "output", "scalar"))


@dataclass(frozen=True)
class Part:
    """The parts that a key of a config may name.

    Attributes:
        part: temporal, pooling, loss, text_audio, output or ranking.
        default: the kind where keys come without one.
        output: the kind of output that a loss is for.
    """

    part: str
    default: str
    output: str | None = None

    def names(self) -> list[str]:
        """Return the names that may be given."""
        return names_of(self.part, self.output)

    def validator(self) -> BeforeValidator:
        """Return what turns a name, or keys, into the config of the part."""
        return BeforeValidator(self._validate)

    def _validate(self, found: object, info: ValidationInfo) -> PartConfig:
        if isinstance(found, PartConfig):
            if found.kind in self.names() and isinstance(found, config_class(self.part, found.kind)):
                return found
            found = found.model_dump()
        keys = dict(found) if isinstance(found, Mapping) else {"kind": found}
        kind = keys.pop("kind", self.default)
        where = ".kind" if isinstance(found, Mapping) else ""
        if kind not in self.names():
            raise _problems([f"{where}: {not_one_of(kind, self.names())}"])
        config = config_class(self.part, kind)
        strict = bool(info.context and info.context.get("strict"))
        try:
            if strict:  # as JSON, which has no tuples
                return config.model_validate_json(to_json(keys | {"kind": kind}), strict=True, context=info.context)
            return config.model_validate(keys | {"kind": kind}, context=info.context)
        except ValidationError as error:
            raise _problems([_relative(each, kind, config.own_keys()) for each in error.errors()]) from error


def _relative(error: ErrorDetails, kind: str, keys: list[str]) -> str:
    """Describe a problem of a part's keys, to follow the name of the part."""
    if error["type"] == "value_error":
        where = "".join(f".{each}" for each in error["loc"])
        return f"{where}: {error['ctx']['error']}"
    message = f".{readable(error, ())}"
    if error["type"] == "extra_forbidden":
        message += f"; {kind} has {', '.join(keys)}" if keys else f"; {kind} has no keys"
    return message


def _problems(relative: list[str]) -> PydanticCustomError:
    """Return one error for all problems of a part, which `yaml_files.readable` turns into a message."""
    return PydanticCustomError(PART_ERROR, "{message}", {"message": "; ".join(relative), "problems": relative})
