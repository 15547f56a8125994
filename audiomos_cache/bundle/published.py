"""Bundles of heads that others published: from the files that they published, by name or as a folder of ours."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from torch import Tensor, nn

from audiomos_cache.artifacts import atomic_write, hash_bytes
from audiomos_cache.bundle.bundle import Bundle, BundledHead, EncoderSource, LoadOwnEncoder
from audiomos_cache.bundle.entries import HEADS, target_entries
from audiomos_cache.bundle.made import MadeBundle, refuse_replacing, warn_of_local_encoders
from audiomos_cache.bundle.manifest import (
    CARD,
    ENCODER,
    PublishedManifest,
    digest_of,
    problems_in,
    write_manifest,
)
from audiomos_cache.bundle.published_card import published_card
from audiomos_cache.encoders.base import AudioEncoder, Identity, resolve_layers
from audiomos_cache.encoders.lookup import load_audio_encoder
from audiomos_cache.encoders.muq import MuQEncoder, require_weights
from audiomos_cache.encoders.muq_weights import CONFIG, LICENCE, WEIGHTS, MuQWeights
from audiomos_cache.errors import BundleError, DataError, EncoderError, shown
from audiomos_cache.folders import atomic_folder, clear_leftovers
from audiomos_cache.hub import download_command, resolve_folder
from audiomos_cache.input_spec import InputSpec
from audiomos_cache.progress import Progress
from audiomos_cache.published.catalogue import Checkpoint, PublishedBundle, published
from audiomos_cache.run_writer import weights_bytes
from audiomos_cache.torch_settings import standard_torch

if TYPE_CHECKING:
    from audiomos_cache.scoring.check import CheckBy

log = logging.getLogger(__name__)

OWN = "bundle"  # the revision of an encoder whose weights are in the bundle


@dataclass(frozen=True, slots=True)
class Assembled:
    """A published head and its encoder, as a bundle has them.

    Attributes:
        manifest: the content of its `bundle.yaml`.
        head: tensors.
        encoder: the MuQ that came with the head, where the bundle has its own.
    """

    manifest: PublishedManifest
    head: Mapping[str, Tensor]
    encoder: MuQWeights | None


def open_published(entry: PublishedBundle, revision: str | None = None) -> Bundle:
    """Fetch a published head, and make a bundle of it in memory.

    Args:
        entry: which.
        revision: branch, tag or commit of its repository on the hub.
    Raises:
        BundleError: it cannot be fetched; names what to fetch, from where, and what to do with it. See `assemble`.
    """
    make = f"audiomos-cache bundle --published {entry.name} --weights FOLDER_OR_FILE --out {entry.name}"
    if entry.repository is None:
        raise BundleError(
            f"--bundle {entry.name}: its weights are not on the Hugging Face hub; fetch them from {entry.address}, run "
            f"`{make}`, and give --bundle ./{entry.name}"
        )
    advice = (
        f"On a machine with a network run `{download_command(entry.repository, revision, files=entry.files)}` "
        f"({entry.size}), copy the folder here, run `{make}` with it, and give --bundle ./{entry.name}"
    )
    source = f"{entry.name} ({entry.repository})"
    needed = [(file,) for file in entry.files]
    folder, _ = resolve_folder(
        *(entry.repository, revision, entry.files, "--bundle", BundleError, needed),
        named=source,
        advice=advice,
        fetching=f"fetching {entry.repository} ({entry.size}), once ...",
    )
    if not any((folder / file).is_file() for file in entry.files):
        raise BundleError(f"{source}: the repository has none of {', '.join(entry.files)}; {make} takes a copy of them")
    try:
        made = assemble(entry, folder)
    except (BundleError, EncoderError) as error:
        whole = folder.parent.parent  # the hub's client fetches again what is not there
        raise BundleError(f"{error}; if it was damaged on the way, remove {whole} and run it again") from error
    own = partial(MuQEncoder.of_weights, made.encoder, name="muq", source=OWN, revision=OWN) if made.encoder else None
    name = entry.name if revision is None else f"{entry.name}@{revision}"
    return bundle_of(made.manifest, digest_of(made.manifest), made.head, name, own)


def assemble(entry: PublishedBundle, weights: Path, audio_encoder: "str | AudioEncoder | None" = None) -> Assembled:
    """Put a published head and its encoder together.

    Args:
        entry: which.
        weights: its files: a folder, or the one file.
        audio_encoder: a name, folder or hub id, or one that is loaded; None: the one that came with the head, else MuQ
            as it was released. Where one came with the head and the given one differs in what decides a frame, a
            warning says in what, and the one that came with it is taken.
    Raises:
        BundleError: the weights are not those that were published: a tensor is missing, unknown, or of another shape.
        EncoderError, ConfigError: the encoder cannot be loaded, or lacks the layer that the head takes.
    """
    if not weights.exists():
        raise BundleError(f"--weights {weights}: not found, expected the files of {entry.name} ({entry.address})")
    try:
        checkpoint: Checkpoint = entry.code().read(weights)
    except DataError as error:
        raise BundleError(str(error)) from error
    try:
        head: nn.Module = entry.code().build(checkpoint.head)
    except BundleError as error:
        raise BundleError(f"{weights}: {error}") from error
    encoder, own = _choose_encoder(entry, checkpoint, audio_encoder)
    source: Identity
    if own:
        require_weights(own)
        layers = resolve_layers([entry.layer], own.depth, "the encoder of the checkpoint")
        identity, source = own.identity(layers), {"name": "muq", "source": ENCODER, "revision": OWN}
    else:
        assert encoder is not None, "one of the two is there"
        identity, source = encoder.identity(), {"name": encoder.name, **encoder.provenance()}
    try:
        spec = InputSpec.of_identities(identity, None, entry.pad_to_s, "float32", **entry.rule)
        content = {
            "licence": {"id": licence_id(entry, carries_encoder=own is not None), "notice": notice(entry)},
            "targets": target_entries(entry.targets),
            "fingerprint": {"xxh3_128": spec.fingerprint.digest, "fields": spec.fingerprint.fields},
            "encoders": {
                "audio": {
                    **source,
                    "weights_xxh3_128": identity.get("weights_xxh3_128", "none"),
                    "precision": "fp32",
                    "notice": None,
                }
            },
            "published": {
                "name": entry.name,
                "file": f"{HEADS}/{entry.name}.safetensors",
                "xxh3_128": hash_bytes(weights_bytes(head.state_dict())),
            },
        }
        manifest = PublishedManifest.model_validate(content)
    except ValidationError as error:
        raise BundleError(f"{weights}: {problems_in(error)}; give another encoder") from error
    _require_width(entry, head, identity.get("dim"))
    return Assembled(manifest, head.state_dict(), own)


def licence_id(entry: PublishedBundle, *, carries_encoder: bool) -> str:
    """Return the licence of a bundle, as the hub has it: MuQ's, where its weights are in it and the head's is freer."""
    return LICENCE.lower() if carries_encoder and not entry.is_non_commercial else entry.licence_id


def notice(entry: PublishedBundle) -> str:
    """Return what may be done with scores of a published bundle, and who published the head."""
    return f"{entry.name} ({entry.paper}; {entry.address}): {entry.terms}."


def bundle_of(
    manifest: PublishedManifest,
    digest: str,
    tensors: Mapping[str, Tensor],
    name: str,
    own_encoder: LoadOwnEncoder | None,
) -> Bundle:
    """Make a bundle in memory of what a manifest says.

    Raises:
        BundleError: the head is not known here, its tensors are not its own, or it has other targets.
    """
    entry = published(manifest.published.name)
    targets = tuple(each.target() for each in manifest.targets)
    if targets != entry.targets:
        raise BundleError(f"{shown(name)}: its targets are not those of {entry.name} here; make the bundle again")
    spec = manifest.fingerprint.fields
    layers = resolve_layers([entry.layer], int(spec.audio_encoder.model_dump().get("depth", -1)), entry.name)
    found = (spec.layers, spec.window, spec.max_seconds, spec.pad_to_s, spec.padding, spec.dtype)
    if found != (layers, entry.window, entry.seconds, entry.pad_to_s, "heard", "float32"):
        raise BundleError(
            f"{shown(name)}: its head is given {found}, expected layer {layers[0]} of {entry.heard}, with padding "
            f"heard, in float32, as {entry.name} was released with; make the bundle again"
        )
    audio = manifest.encoders.audio
    return Bundle(
        name=name,
        digest=digest,
        fingerprint=spec.fingerprint,
        audio_encoder=EncoderSource(audio.name, audio.source, audio.revision, audio.weights_xxh3_128),
        text_encoder=None,
        members=(BundledHead(entry.name, entry.code().build(tensors), spec.layers),),
        fusion=None,
        calibrations={},
        targets=targets,
        licence=entry.terms,
        own_encoder=own_encoder,
        published=entry.name,
    )


@standard_torch()
def make_published_bundle(
    name: str,
    weights: str | PathLike[str],
    out: str | PathLike[str],
    audio_encoder: "str | PathLike[str] | AudioEncoder | None" = None,
    *,
    overwrite: bool = False,
    check: "CheckBy" = True,
    progress: Progress | None = None,
) -> MadeBundle:
    """Make one folder of a head that others published, to score with it here or elsewhere, without a network.

    The same files give the same bytes. The card has the outcome of `check_bundle`.

    Args:
        name: of a published bundle, see `audiomos-cache info bundles`.
        weights: the files that were published: their folder, or the one file.
        out: the folder to make; it appears complete or not at all.
        audio_encoder: see `assemble`.
        overwrite: replace the bundle that `out` holds.
        check, progress: see `make_bundle`.
    Raises:
        BundleError: an unknown name; see `assemble`. DataError: see `clips_to_check`. OutputExistsError: `out` holds
        something, and `overwrite` is False or it is not a bundle.

    >>> from audiomos_cache.testing import make_muq_eval
    >>> made = make_published_bundle("muq-eval-a1", make_muq_eval("published"), "model-published", check="song.wav")
    >>> made.manifest.published.name
    'muq-eval-a1'
    """
    from audiomos_cache.scoring.check import check_made, clips_to_check  # here alone: scoring is built on bundles

    entry, out = published(name), Path(out)
    clips = clips_to_check(check)
    clear_leftovers(out)
    refuse_replacing(out, overwrite=overwrite)
    given = fspath(audio_encoder) if isinstance(audio_encoder, PathLike) else audio_encoder
    made = assemble(entry, Path(weights), given)
    with atomic_folder(out, replace=True) as folder:
        atomic_write(folder / made.manifest.published.file, weights_bytes(made.head))
        if made.encoder:
            _write_encoder(made.encoder, folder / ENCODER)
        digest = write_manifest(folder, made.manifest)
        checked = check_made(folder, str(out), clips, progress, audio_encoder=None if made.encoder else given)
        atomic_write(folder / CARD, published_card(entry, made.manifest, checked).encode())
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    warn_of_local_encoders({"audio": made.manifest.encoders.audio})
    return MadeBundle(out, made.manifest, digest, size, checked)


def _choose_encoder(
    entry: PublishedBundle, checkpoint: Checkpoint, given: "str | AudioEncoder | None"
) -> tuple[MuQEncoder | None, MuQWeights | None]:
    """Return the encoder that makes the head's features; or, as the second, the weights that came with the head."""
    if given is None and checkpoint.encoder:
        return None, checkpoint.encoder
    encoder = load_audio_encoder(given or "muq", layers=[entry.layer]) if isinstance(given, str | None) else given
    if not isinstance(encoder, MuQEncoder):
        raise BundleError(f"--audio-encoder {encoder.name}: not a MuQ, which {entry.name} is for; give one, or none")
    encoder = encoder.with_layers([entry.layer])
    if checkpoint.encoder is None:
        return encoder, None
    if difference := checkpoint.encoder.differs_from(encoder.weights()):
        log.warning(
            "the MuQ of %s is not %s: %s; the bundle has the checkpoint's own encoder",
            entry.name,
            shown(encoder.name),
            difference,
        )
        return None, checkpoint.encoder
    return encoder, None


def _require_width(entry: PublishedBundle, head: nn.Module, dim: object) -> None:
    """Refuse an encoder whose frames are not as wide as the head takes."""
    width = next(each.in_features for each in head.modules() if isinstance(each, nn.Linear))
    if dim is not None and width != dim:
        raise BundleError(f"{entry.name} takes frames of {width} dimensions, and the encoder gives {dim}; give another")


def _write_encoder(encoder: MuQWeights, folder: Path) -> None:
    """Write what decides a frame, in the format of a folder of MuQ."""
    atomic_write(folder / CONFIG, f"{json.dumps(encoder.config, indent=1)}\n".encode())
    atomic_write(folder / WEIGHTS, weights_bytes({name: each.float() for name, each in encoder.deciding().items()}))
