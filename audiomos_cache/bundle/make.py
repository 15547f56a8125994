"""`make_bundle`: heads of runs and their fusion as one folder, to be used elsewhere."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from audiomos_cache.artifacts import Fingerprint, atomic_write
from audiomos_cache.bundle.calibration import LEVEL
from audiomos_cache.bundle.card import model_card
from audiomos_cache.bundle.entries import HEADS, target_entries
from audiomos_cache.bundle.evidence import Calibrated, Evidence, find_evidence
from audiomos_cache.bundle.made import MadeBundle, refuse_replacing, warn_of_local_encoders
from audiomos_cache.bundle.manifest import (
    CARD,
    FUSION,
    Manifest,
    problems_in,
    write_manifest,
)
from audiomos_cache.bundle.sources import Source, Sources, find_sources
from audiomos_cache.encoders.lookup import loader_of
from audiomos_cache.encoders.muq_weights import HUB_ID
from audiomos_cache.errors import (
    BundleError,
    first_five,
    one_of,
    paths_of,
    quoted,
)
from audiomos_cache.folders import atomic_folder, clear_leftovers
from audiomos_cache.heads.config import parts_of
from audiomos_cache.progress import Progress
from audiomos_cache.registry import not_built_in, warn_of_scripts
from audiomos_cache.run_writer import weights_bytes
from audiomos_cache.runs import BESTS, CONFIG, versions
from audiomos_cache.targets import TRAINED_TARGETS
from audiomos_cache.torch_settings import standard_torch

if TYPE_CHECKING:
    from audiomos_cache.scoring.check import CheckBy

log = logging.getLogger(__name__)


_NON_COMMERCIAL = (
    "cc-by-nc-4.0",
    "The weights of MuQ (CC-BY-NC-4.0) and the MusicEval dataset (CC-BY-NC-4.0) are non-commercial, and so is what is "
    "trained on them.",
)
_OTHER = (
    "other",
    "See the licences of the encoders and of the training data; those of the published weights of MuQ and of the "
    "MusicEval dataset are CC-BY-NC-4.0, non-commercial.",
)


def describe(sources: Sources, evidence: Evidence, hashes: Mapping[str, str]) -> Manifest:
    """Put together the content of `bundle.yaml`.

    Args:
        sources: the members and their fusion.
        evidence: what is known of their scores.
        hashes: of the parts, by file name.
    Raises:
        BundleError: a run's config lacks something, or has other values than a run has.
    """
    fingerprint = sources.fingerprint
    encoders = _encoders(sources.members, fingerprint)
    parts = not_built_in(_parts(sources, encoders))
    warn_of_scripts(parts)
    licence_id, notice = _NON_COMMERCIAL if encoders["audio"]["source"] == HUB_ID else _OTHER
    content = {
        "licence": {"id": licence_id, "notice": notice},
        "targets": target_entries(TRAINED_TARGETS),
        "fingerprint": {"xxh3_128": fingerprint.digest, "fields": fingerprint.fields},
        "encoders": encoders,
        "members": [_member(each, fingerprint, hashes[file_of(each)]) for each in sources.members],
        "fusion": {"method": sources.fusion.method, "file": FUSION, "xxh3_128": hashes[FUSION]},
        "intervals": evidence.calibrated and _intervals(evidence.calibrated),
        "parts": parts,
        "versions": versions(),
    }
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        runs = first_five([str(member.run.folder) for member in sources.members])
        raise BundleError(f"{runs}: {problems_in(error)}; train the heads again") from error


def _parts(sources: Sources, encoders: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return kind and name of all registered parts that the bundle scores with."""
    heads = [part for member in sources.members for part in parts_of(member.run.config)]
    loaders = [(f"{kind}_encoder", loader_of(f"{kind}_encoder", entry["name"])) for kind, entry in encoders.items()]
    return [*heads, ("fusion", sources.fusion.method), *((kind, name) for kind, name in loaders if name)]


def file_of(source: Source) -> str:
    """Return the name of a member's file in the bundle."""
    return f"{HEADS}/{source.name}.safetensors"


def _member(source: Source, fingerprint: Fingerprint, file_hash: str) -> dict[str, Any]:
    run = source.run
    try:
        data = {role: _clips(source.config["data"][role]) for role in ("train", "dev")}
        made_with = dict(source.config["versions"])
    except (LookupError, TypeError, ValueError) as error:
        raise BundleError(
            f"{run.folder / CONFIG}: does not record what it was trained on and with "
            f"({quoted(error)}); train the head again"
        ) from error
    return {
        "name": source.name,
        "run_xxh3_128": source.hash,
        "best": source.best,
        "seed": run.seed,
        "fingerprint": fingerprint.digest,
        "head": run.config,
        "audio_dim": run.audio_dim,
        "text_dim": run.text_dim,
        "audio_layers": list(run.audio_layers),
        "layers_read": list(run.layers_read),
        "bins": run.config.output.predicted_bins,
        **data,
        "versions": made_with,
        "file": file_of(source),
        "xxh3_128": file_hash,
    }


def _clips(data: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the hashes of a run's labels, not the paths of their files."""
    return {
        "clips": data["clips"],
        "labels_xxh3_128": data["labels_xxh3_128"],
        "ratings_xxh3_128": data.get("ratings_xxh3_128"),
    }


def _encoders(members: Sequence[Source], fingerprint: Fingerprint) -> dict[str, dict[str, Any]]:
    """Return where the encoders' weights can be had: on the hub, if a member has them from there."""
    found = {}
    for kind in ("audio", "text"):
        key = f"{kind}_encoder"
        try:
            recorded = [dict(member.config["encoders"][key]) for member in members]
            chosen = min(recorded, key=lambda encoder: encoder["revision"] == "local")
            found[kind] = {
                **{name: str(chosen[name]) for name in ("name", "source", "revision")},
                "weights_xxh3_128": fingerprint.fields[key].get("weights_xxh3_128", "none"),
                "precision": chosen.get("precision", "fp32"),
                "notice": chosen.get("notice"),
            }
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                f"{members[0].run.folder / CONFIG}: does not record which {kind} encoder it was trained with "
                f"({quoted(error)}); train the head again"
            ) from error
    return found


def _intervals(calibrated: Calibrated) -> dict[str, Any]:
    folds = calibrated.folds
    return {
        "level": LEVEL,
        "labels": dict(calibrated.labels),
        "split": calibrated.split,
        "folds": folds.count,
        "group": folds.group,
        "seed": folds.seed,
        **{target: asdict(calibration) for target, calibration in calibrated.targets.items()},
    }


@standard_torch()
def make_bundle(
    runs: str | PathLike[str] | Sequence[str | PathLike[str]],
    out: str | PathLike[str],
    fusion: str | PathLike[str] | None = None,
    *,
    labels: str | PathLike[str] | None = None,
    fit_split: str | None = None,
    best: str = "loss",
    overwrite: bool = False,
    n_boot: int = 10_000,
    check: "CheckBy" = True,
    progress: Progress | None = None,
) -> MadeBundle:
    """Make one folder of trained heads and their fusion, with all that is needed to score music with them.

    The same runs and fusion give the same bytes. The card has the outcome of `check_bundle`; where the encoders cannot
    be loaded, it says so.

    Args:
        runs: run folders, or folders of runs, in any order; or one.
        out: the folder to make; it appears complete or not at all.
        fusion: what `fuse` wrote of them; None: the one run as it is.
        labels: the list that the fusion was fitted on, if it was moved since; of one run or a mean, labels of
            `fit_split`, for the card's table and the intervals.
        fit_split: of one run or a mean, the split of `labels`; None: dev.
        best: of a single run, which checkpoint; a fusion knows its own.
        overwrite: replace the bundle that `out` holds.
        n_boot: resamples of the intervals in the card's table, of a fusion that is not fitted; 0: none.
        check: clips to check the bundle by: files, folders of them, or manifests with their prompts. True: music that
            is made up. False: it is not checked.
        progress: of the check, called as `progress("check", done, total)`.
    Raises:
        BundleError, DataError: see `find_sources`, `find_evidence` and `clips_to_check`. CacheError: runs of several
        fingerprints. ArgumentError: an unknown `best`. OutputExistsError: `out` holds something, and `overwrite` is
        False or it is not a bundle.

    >>> made = make_bundle("runs/pooling-dist-seed1", "model-example", check="song.wav")
    >>> made.manifest.fusion.method, len(made.digest)
    ('mean', 32)
    """
    from audiomos_cache.scoring.check import check_made, clips_to_check  # here alone: scoring is built on bundles

    one_of("best", best, BESTS)
    out = Path(out)
    folders = paths_of("runs", runs)
    clips = clips_to_check(check)
    clear_leftovers(out)
    refuse_replacing(out, overwrite=overwrite)
    sources = find_sources(folders, Path(fusion) if fusion is not None else None, best)
    evidence = find_evidence(sources, Path(labels) if labels is not None else None, fit_split, n_boot)
    names = [member.name for member in sources.members]
    blend = {"method": sources.fusion.method, "members": names, "fusion": sources.fusion.to_json()}
    with atomic_folder(out, replace=True) as folder:
        hashes = {FUSION: atomic_write(folder / FUSION, f"{json.dumps(blend, indent=1, allow_nan=False)}\n".encode())}
        for member in sources.members:
            weights = weights_bytes(member.run.load_head(member.best).state_dict())
            hashes[file_of(member)] = atomic_write(folder / file_of(member), weights)
        manifest = describe(sources, evidence, hashes)
        digest = write_manifest(folder, manifest)
        checked = check_made(folder, str(out), clips, progress)
        atomic_write(folder / CARD, model_card(manifest, evidence, checked).encode())
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    warn_of_local_encoders({"audio": manifest.encoders.audio, "text": manifest.encoders.text})
    return MadeBundle(out, manifest, digest, size, checked)
