"""Loading a bundle: every part is there, unchanged, and fits the others."""

from collections.abc import Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from audiomos_cache.artifacts import Fingerprint, hash_bytes
from audiomos_cache.bundle.bundle import Bundle, BundledHead, EncoderSource
from audiomos_cache.bundle.entries import HEADS, EncoderEntry, MemberEntry
from audiomos_cache.bundle.manifest import (
    ENCODER,
    ENCODER_FILES,
    FUSION,
    MANIFEST,
    Manifest,
    PublishedManifest,
    read_manifest,
)
from audiomos_cache.bundle.published import OWN, bundle_of, open_published
from audiomos_cache.encoders.muq import MuQEncoder
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
from audiomos_cache.files import MOST_WEIGHTS, is_folder, parse_json, read_file, read_tensors
from audiomos_cache.fusion.base import Fusion, Members
from audiomos_cache.fusion.record import fusion_of
from audiomos_cache.heads.layers import layers_to_read
from audiomos_cache.heads.model import build_with
from audiomos_cache.hub import resolve_folder, split_revision
from audiomos_cache.input_spec import InputSpec
from audiomos_cache.published.catalogue import PUBLISHED, find_revision
from audiomos_cache.registry import not_one_of
from audiomos_cache.targets import TARGETS
from audiomos_cache.torch_settings import standard_torch

_PATTERNS = (MANIFEST, FUSION, f"{HEADS}/*.safetensors", *ENCODER_FILES)
_MOST_BYTES = {"fusion": 2**26, "head": MOST_WEIGHTS}  # some have 1 MB
_AGAIN = "copy, download or make the bundle again"


@standard_torch()
def load_bundle(source: str | PathLike[str]) -> Bundle:
    """Load a bundle from a folder or a repository of the Hugging Face hub. Nothing in it is executed.

    Args:
        source: the folder, or the hub id, such as `owner/name`; `owner/name@REVISION` pins a branch, tag or commit.
            Or the name of a published bundle, see `published.catalogue`, whose files are fetched from the hub; a folder
            of such a name is `./NAME`.
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
    known, revision = find_revision(given)
    if known:
        return open_published(known, revision)
    name, revision = split_revision(given)
    if not name or ("/" not in name and not is_folder(given)):
        raise BundleError(
            f"--bundle {shown(given)}: {not_one_of(name, list(PUBLISHED))}, nor a folder, nor a hub id of the form "
            "owner/name"
        )
    folder, _ = resolve_folder(name, revision, _PATTERNS, "--bundle", BundleError, [(MANIFEST,)])
    manifest, digest = read_manifest(folder)
    if isinstance(manifest, PublishedManifest):
        return _published(given, folder, manifest, digest)
    fingerprint = _fingerprint(manifest, folder)
    _require_files(folder, [manifest.fusion.file, *(member.file for member in manifest.members)])
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
        targets=tuple(each.target() for each in manifest.targets),
        licence=_terms(manifest.licence.id),
    )


def _terms(licence_id: str) -> str:
    """Return what may be done with scores of heads that were trained here."""
    if licence_id == "other":
        return "as of the encoders and the training data"
    return f"{licence_id}: non-commercial use only" if "-nc" in licence_id else licence_id


def _published(given: str, folder: Path, manifest: PublishedManifest, digest: str) -> Bundle:
    entry = manifest.published
    own = manifest.encoders.audio.revision == OWN
    _require_files(folder, [entry.file, *(ENCODER_FILES if own else ())])
    content = _read_part(folder / entry.file, entry.xxh3_128, "head")
    try:
        tensors = read_tensors(content)
    except ValueError as error:
        raise BundleError(f"{folder / entry.file}: {error}; {_AGAIN}") from error
    load_own = partial(MuQEncoder.load, str(folder / ENCODER), name="muq") if own else None
    return bundle_of(manifest, digest, tensors, given, load_own)


def _require_files(folder: Path, files: Sequence[str]) -> None:
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise BundleError(f"{folder}: missing {first_five(missing)}, which {MANIFEST} lists; {_AGAIN}")


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
