"""A bundle in memory, and loading one: every part is there, unchanged, and fits the others."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from audiomos_cache.artifacts import Fingerprint, hash_bytes
from audiomos_cache.bundle.calibration import Calibration
from audiomos_cache.bundle.manifest import (
    FUSION,
    HEADS,
    MANIFEST,
    EncoderEntry,
    Manifest,
    MemberEntry,
    read_manifest,
)
from audiomos_cache.errors import (
    AudiomosError,
    BundleError,
    ConfigError,
    DataError,
    first_five,
    in_one_line,
    quoted,
    shown,
)
from audiomos_cache.files import MOST_WEIGHTS, parse_json, read_file, read_tensors
from audiomos_cache.fusion.base import Fusion, Members
from audiomos_cache.fusion.record import fusion_of
from audiomos_cache.heads.layers import layers_to_read
from audiomos_cache.heads.model import Head, build_with
from audiomos_cache.hub import resolve_folder, split_revision
from audiomos_cache.input_spec import InputSpec
from audiomos_cache.progress import counted
from audiomos_cache.targets import HIGHEST, LOWEST, TARGETS
from audiomos_cache.torch_settings import standard_torch


@dataclass(frozen=True, slots=True)
class EncoderSource:
    """Where an encoder's weights are to be had.

    Attributes:
        name: by which it was loaded: a registered one, a folder or a hub repository id.
        source: the folder or hub repository; a sentence where the weights are made by code.
        revision: the resolved commit of a hub repository; `local` of a folder, `none` where there is nothing to load.
        weights_hash: xxh3_128 of the weights, 32 hex digits.
    """

    name: str
    source: str
    revision: str
    weights_hash: str


@dataclass(frozen=True, slots=True)
class BundledHead:
    """One member.

    Attributes:
        name: of its run.
        head: in evaluation mode, on the CPU.
        layers: which of the encoder's hidden states it reads, by their numbers.
    """

    name: str
    head: Head
    layers: tuple[int, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Bundle:
    """Heads, their fusion, and what features they take. `load_bundle` makes it.

    Attributes:
        name: the folder or hub repository that it was loaded from.
        digest: 32 hex digits of xxh3_128 of all that `bundle.yaml` contains, which identifies it.
        fingerprint: of the features that its heads were trained on.
        audio_encoder, text_encoder: which make these features.
        members: in the order that the fusion expects.
        fusion: of their predictions.
        calibrations: by target (`mi`, `ta`), how wide an interval is; none of a bundle that was not calibrated.

    >>> from audiomos_cache import load_bundle
    >>> load_bundle("model").to_dict()["method"]
    'mean'
    """

    name: str
    digest: str
    fingerprint: Fingerprint
    audio_encoder: EncoderSource
    text_encoder: EncoderSource
    members: tuple[BundledHead, ...]
    fusion: Fusion
    calibrations: Mapping[str, Calibration]

    @property
    def input(self) -> InputSpec:
        """What the encoders are given and give."""
        return InputSpec.of_fingerprint(self.fingerprint)

    def __repr__(self) -> str:
        names, encoders = [member.name for member in self.members], (self.audio_encoder, self.text_encoder)
        lines = [
            f"Bundle {self.name!r}",
            f"{self.fusion.method} of {counted(len(names), 'head')}: {first_five(names)}",
            f"encoders: {', '.join(f'{each.name} ({each.source}, {each.revision})' for each in encoders)}",
            f"intervals: {'80 % of MI and TA' if self.calibrations else 'none, it was not calibrated'}",
            f"digest: {self.digest}",
        ]
        return "\n  ".join(lines)

    def about(self) -> list[str]:
        """Return what its scores mean, and what makes them, a sentence each."""
        known = ", ".join(
            f"{100 * each.coverage:.0f} % of {each.clips} clips for {target.upper()}"
            for target, each in self.calibrations.items()
        )
        brackets = f"In brackets: where that is for 80 % of clips like those of the calibration (measured: {known})."
        encoders = f"{self.audio_encoder.name} and {self.text_encoder.name}"
        windows = f"in windows of {self.input.max_seconds:g} s, whose mean by length is the score"
        return [
            f"MI: music impression, TA: text alignment, {LOWEST:g} to {HIGHEST:g}: the mean opinion of listeners.",
            brackets if known else "There are no intervals, as the bundle was not calibrated.",
            f"Scored by {shown(self.name)}: {self.fusion.method} of {counted(len(self.members), 'head')} on features "
            f"of {shown(encoders)}; heard {windows}.",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without the weights."""
        calibrations = {target: asdict(each) for target, each in self.calibrations.items()}
        for each in calibrations.values():
            each["coverage_ci"] = each["coverage_ci"] and list(each["coverage_ci"])
        return {
            "name": self.name,
            "digest": self.digest,
            "fingerprint": self.fingerprint.digest,
            "encoders": {"audio": asdict(self.audio_encoder), "text": asdict(self.text_encoder)},
            "members": [{"name": member.name, "layers": list(member.layers)} for member in self.members],
            "method": self.fusion.method,
            "calibrations": calibrations,
        }


_PATTERNS = (MANIFEST, FUSION, f"{HEADS}/*.safetensors")
_MOST_BYTES = {"fusion": 2**26, "head": MOST_WEIGHTS}  # some have 1 MB
_AGAIN = "copy, download or make the bundle again"


@standard_torch()
def load_bundle(source: str | PathLike[str]) -> Bundle:
    """Load a bundle from a folder or a repository of the Hugging Face hub. Nothing in it is executed.

    Args:
        source: the folder, or the hub id, such as `owner/name`; `owner/name@REVISION` pins a branch, tag or commit.
    Raises:
        BundleError: no folder or repository of this name; a part that is missing or was changed, a newer format, or
        parts that do not belong together.

    >>> bundle = load_bundle("model")
    >>> bundle
    Bundle 'model'
      mean of 2 heads: pooling-dist-seed1, pooling-dist-seed2
      encoders: muq-tiny (seeded random weights 2025, none), roberta-tiny (...)
      intervals: 80 % of MI and TA
      digest: ...
    """
    given = fspath(source)
    folder, _ = resolve_folder(*split_revision(given), _PATTERNS, "--bundle", BundleError, [(MANIFEST,)])
    manifest, digest = read_manifest(folder)
    fingerprint = _fingerprint(manifest, folder)
    files = [manifest.fusion.file, *(member.file for member in manifest.members)]
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise BundleError(f"{folder}: missing {first_five(missing)}, which {MANIFEST} lists; {_AGAIN}")
    members = tuple(_member(folder, entry, manifest.fingerprint.fields) for entry in manifest.members)
    intervals = manifest.intervals
    return Bundle(
        name=given,
        digest=digest,
        fingerprint=fingerprint,
        audio_encoder=_source(manifest.encoders.audio),
        text_encoder=_source(manifest.encoders.text),
        members=members,
        fusion=_fusion(folder, manifest),
        calibrations={target: getattr(intervals, target).calibration() for target in TARGETS} if intervals else {},
    )


def _fingerprint(manifest: Manifest, folder: Path) -> Fingerprint:
    """Return the fingerprint of the features, after checking that it is every member's."""
    fingerprint = manifest.fingerprint.fields.fingerprint
    stated = {"fingerprint": manifest.fingerprint.xxh3_128} | {
        f"member {member.name}": member.fingerprint for member in manifest.members
    }
    if other := [f"{name} has {digest}" for name, digest in stated.items() if digest != fingerprint.digest]:
        raise BundleError(
            f"{folder / MANIFEST}: {first_five(other)}, expected {fingerprint.digest} of its own fingerprint.fields; "
            "bundle heads of one cache"
        )
    return fingerprint


def _source(entry: EncoderEntry) -> EncoderSource:
    return EncoderSource(entry.name, entry.source, entry.revision, entry.weights_xxh3_128)


def _read_part(path: Path, expected: str, kind: str) -> bytes:
    """Read a file of a bundle, and compare it with its hash."""
    content = read_file(path, f"the {kind} of a bundle", BundleError, _MOST_BYTES[kind])
    if (found := hash_bytes(content)) != expected:
        raise BundleError(f"{path}: hash {found}, expected {expected}, so it was changed or is damaged; {_AGAIN}")
    return content


def _fusion(folder: Path, manifest: Manifest) -> Fusion:
    path = folder / manifest.fusion.file
    content = _read_part(path, manifest.fusion.xxh3_128, "fusion")
    try:
        read = parse_json(content)
        if read["method"] != manifest.fusion.method:
            raise ValueError(f"method {quoted(read['method'])}, expected {quoted(manifest.fusion.method)}")
        names = [member.name for member in manifest.members]
        if read["members"] != names:
            raise ValueError(f"members {quoted(read['members'])}, expected {quoted(names)}")
        fusion = fusion_of(read, names)
    except (DataError, ConfigError) as error:
        raise BundleError(str(error)) from error
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        count = len(manifest.members)
        raise BundleError(f"{path}: not a fusion of the {count} members ({quoted(error)}); {_AGAIN}") from error
    _try_out(fusion, manifest.members, path)
    return fusion


def _try_out(fusion: Fusion, members: Sequence[MemberEntry], path: Path) -> None:
    """Apply a fusion to predictions that its members could make: what does not fit would fail for every clip."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            fusion.apply(_made_up(members))
    except (AudiomosError, ValueError) as error:
        reason = in_one_line(error)
        raise BundleError(f"{path}: does not fit the {len(members)} heads: {reason}; {_AGAIN}") from error


def _made_up(members: Sequence[MemberEntry]) -> Members:
    """Return predictions of one clip, of the kind that heads with these outputs make."""
    bins = [member.head.output.predicted_bins for member in members]
    dists = [np.full((1, count), 1 / count) if count else None for count in bins]
    scores = np.full((len(members), 1), 3.0)
    return Members(
        tuple(member.name for member in members), dict.fromkeys(TARGETS, scores), dict.fromkeys(TARGETS, dists)
    )


def _refuse_other_features(entry: MemberEntry, features: InputSpec) -> None:
    """Refuse a head of other features than those of the fingerprint, or of another number of bins than its output has.

    Raises:
        ValueError: what differs.
    """
    stored = list(features.layers)
    for name, found, expected in (
        ("audio_layers", entry.audio_layers, stored),
        ("audio_dim", entry.audio_dim, features.audio_encoder.dim or entry.audio_dim),
        ("text_dim", entry.text_dim, (features.text_encoder and features.text_encoder.dim) or entry.text_dim),
        ("bins", entry.bins, entry.head.output.predicted_bins),
    ):
        if found != expected:
            raise ValueError(f"{name} {found}, expected {expected}")


def _member(folder: Path, entry: MemberEntry, features: InputSpec) -> BundledHead:
    path = folder / entry.file
    content = _read_part(path, entry.xxh3_128, "head")
    try:
        if entry.head.compat == "upstream":
            raise ValueError("it computes as the published code does, where a clip's score depends on its batch")
        _refuse_other_features(entry, features)
        layers = layers_to_read(entry.head.layers, entry.audio_layers)
        if layers != tuple(entry.layers_read):
            raise ValueError(f"reads layers {entry.layers_read}, and its config has {quoted(entry.head.layers)}")
        weights, sizes = read_tensors(content), (entry.audio_dim, entry.text_dim)
        head = build_with(weights, entry.head, *sizes, layers=len(entry.audio_layers)).eval().requires_grad_(False)
    except (AudiomosError, ValueError, RuntimeError, TypeError, OverflowError) as error:
        reason = in_one_line(error)
        raise BundleError(f"{path}: not a head that can be used, {entry.name}: {reason}; {_AGAIN}") from error
    return BundledHead(entry.name, head, layers)
