"""`bundle.yaml`: what a bundle is made of, and the hash of each part."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from audiomos_cache.artifacts import atomic_write, hash_bytes, require_format_version
from audiomos_cache.bundle.entries import (
    AudioEncoderEntry,
    EncodersEntry,
    FeaturesEntry,
    FusionEntry,
    IntervalsEntry,
    Licence,
    MemberEntry,
    PartEntry,
    PublishedEntry,
    TargetEntry,
    Targets,
    TrainedFeaturesEntry,
    target_entries,
)
from audiomos_cache.errors import BundleError, ConfigError, first_five, quoted
from audiomos_cache.registry import require_parts
from audiomos_cache.targets import TRAINED_TARGETS
from audiomos_cache.yaml_files import Group, read_mapping, readable

MANIFEST = "bundle.yaml"
FUSION = "fusion.json"
CARD = "README.md"
ENCODER = "encoder"  # the folder of an encoder that came with a published head
ENCODER_FILES = (f"{ENCODER}/config.json", f"{ENCODER}/model.safetensors")
FORMAT = "audiomos-cache bundle"
FORMAT_VERSION = 2
_WITHOUT_TARGETS = 1  # the version before, whose bundles all predict `targets.TRAINED_TARGETS`

_AGAIN = "copy, download or make the bundle again"


def _refuse_twins(members: list[MemberEntry]) -> list[MemberEntry]:
    """Refuse members that have the same name; some disks ignore upper and lower case."""
    for kind, found in (("name", [each.name for each in members]), ("file", [each.file for each in members])):
        folded = [each.casefold() for each in found]
        if twins := sorted({each for each in found if folded.count(each.casefold()) > 1}):
            raise ValueError(f"members: the {kind} {first_five(twins)} is there twice")
    return members


def _require_trained(targets: list[TargetEntry]) -> list[TargetEntry]:
    """Refuse other targets than those of heads that are trained here."""
    if tuple(each.target() for each in targets) != TRAINED_TARGETS:
        raise PydanticCustomError("targets", "expected mi and ta, which heads that are trained here predict")
    return targets


class Manifest(Group):
    """The content of `bundle.yaml`, besides format and digest. `intervals` is None without a calibration."""

    licence: Licence
    targets: Annotated[Targets, AfterValidator(_require_trained)] = Field(
        default_factory=lambda: [TargetEntry(**each) for each in target_entries(TRAINED_TARGETS)]
    )
    fingerprint: TrainedFeaturesEntry
    encoders: EncodersEntry
    members: Annotated[list[MemberEntry], Field(min_length=1), AfterValidator(_refuse_twins)]
    fusion: FusionEntry
    intervals: IntervalsEntry | None
    parts: list[PartEntry]
    versions: dict[str, str]


class PublishedManifest(Group):
    """The content of `bundle.yaml` of a published head, besides format and digest.

    With the encoder of its checkpoint it is the same wherever the files came from: by name, or from a folder.
    """

    licence: Licence
    targets: Targets
    fingerprint: FeaturesEntry
    encoders: AudioEncoderEntry
    published: PublishedEntry


AnyManifest = Manifest | PublishedManifest


def write_manifest(folder: Path, manifest: AnyManifest) -> str:
    """Write `bundle.yaml`, and return its digest: 32 hex digits of xxh3_128 of all that it contains."""
    content = _content(manifest)
    digest = _digest(content)
    first = {"format": content.pop("format"), "format_version": content.pop("format_version"), "digest": digest}
    text = yaml.safe_dump(first | content, sort_keys=False, allow_unicode=True, width=120)
    atomic_write(folder / MANIFEST, text.encode())
    return digest


def digest_of(manifest: AnyManifest) -> str:
    """Return the digest that a bundle of this content has."""
    return _digest(_content(manifest))


def _content(manifest: AnyManifest) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(manifest.model_dump_json(by_alias=True))
    return {"format": FORMAT, "format_version": FORMAT_VERSION} | content


def read_manifest(folder: Path) -> tuple[AnyManifest, str]:
    """Read `bundle.yaml`, and its digest.

    Raises:
        BundleError: there is none, it is of a newer format, damaged or edited; all unknown keys and wrong values in
        one message.
    """
    path = folder / MANIFEST
    content = _read_yaml(path)
    if content.get("format") != FORMAT:
        raise BundleError(
            f"{path}: format is {quoted(content.get('format'))}, expected {quoted(FORMAT)}; give a bundle's folder"
        )
    version = content.get("format_version")
    if type(version) is not int or version != _WITHOUT_TARGETS:
        require_format_version(path, version, FORMAT_VERSION, again="make the bundle again", error=BundleError)
    about = {key: value for key, value in content.items() if key not in ("format", "format_version", "digest")}
    try:
        require_parts(content.get("parts"), str(path))
        kind: type[AnyManifest] = PublishedManifest if "published" in content else Manifest
        manifest = kind.model_validate_json(_canonical(about), strict=True, context={"strict": True})
    except ConfigError as error:
        raise BundleError(str(error)) from error
    except ValidationError as error:
        raise BundleError(f"{path}: {problems_in(error)}; {_AGAIN}") from error
    except (TypeError, ValueError, RecursionError) as error:  # YAML has sets, bytes and numbers that are none
        raise BundleError(f"{path}: holds what no bundle does ({quoted(error)}); make the bundle again") from error
    found, expected = _digest(content), content.get("digest")
    if found != expected:
        raise BundleError(
            f"{path}: its content hashes to {found}, and its digest is {quoted(expected)}, so it was changed; {_AGAIN}"
        )
    return manifest, found


def _read_yaml(path: Path) -> dict[str, Any]:
    """Read the keys of a file that anybody may have written."""
    if not path.is_file():
        raise BundleError(f"{path.parent}: no {MANIFEST} in it, so not a bundle; audiomos-cache bundle makes bundles")
    return read_mapping(path, "keys such as members, fusion, encoders", BundleError, _AGAIN)


def problems_in(error: ValidationError) -> str:
    """Return a sentence: all that is wrong with what should be a `Manifest`."""
    return "; ".join(_short(readable(each, ())) for each in error.errors())


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:80]}...{text[-40:]}"


def _digest(content: Mapping[str, Any]) -> str:
    return hash_bytes(_canonical({k: v for k, v in content.items() if k != "digest"}).encode())


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
