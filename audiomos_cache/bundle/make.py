"""Making a bundle: heads of runs and their fusion as one folder, to be used elsewhere."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from audiomos_cache.bundle.card import model_card
from audiomos_cache.bundle.contents import describe, file_of
from audiomos_cache.bundle.evidence import find_evidence
from audiomos_cache.bundle.format import CARD, FUSION, MANIFEST, Manifest, is_head_file, write_manifest
from audiomos_cache.bundle.sources import find_sources
from audiomos_cache.errors import OutputExistsError, first_five
from audiomos_cache.files import whole_folder, write_whole
from audiomos_cache.training.run import weights_bytes

log = logging.getLogger(__name__)

_OWN = (MANIFEST, FUSION, CARD)


@dataclass(frozen=True)
class MadeBundle:
    """A bundle that was written.

    Attributes:
        folder: where.
        manifest: what its `bundle.yaml` says.
        digest: tells it from all others.
        size_bytes: of all its files.
    """

    folder: Path
    manifest: Manifest
    digest: str
    size_bytes: int


def make_bundle(
    runs: Sequence[Path],
    fusion: Path | None,
    out: Path,
    *,
    labels: Path | None = None,
    fit_split: str | None = None,
    best: str = "loss",
    overwrite: bool = False,
    n_boot: int = 10_000,
) -> MadeBundle:
    """Make one folder of trained heads and their fusion, with all that is needed to score music with them.

    The same runs and fusion give the same bytes.

    Args:
        runs: run folders, or folders of runs, in any order.
        fusion: what `fuse` wrote of them; None: the one run as it is.
        out: the folder to make; it appears complete or not at all.
        labels, fit_split: see `find_evidence`.
        best: of a single run, which checkpoint; a fusion knows its own.
        overwrite: replace the bundle that `out` holds.
        n_boot: resamples of the intervals in the card's table, of a fusion that is not fitted; 0: none.
    Raises:
        BundleError, DataError: see `find_sources` and `find_evidence`. CacheError: runs of several fingerprints.
        OutputExistsError: `out` holds something, and `overwrite` is False or it is not a bundle.
    """
    _refuse_occupied(out, overwrite=overwrite)
    sources = find_sources(runs, fusion, best)
    evidence = find_evidence(sources, labels, fit_split, n_boot)
    names = [member.name for member in sources.members]
    told = {"method": sources.fusion.method, "members": names, "fusion": sources.fusion.to_json()}
    with whole_folder(out, replace=True) as folder:
        hashes = {FUSION: _write(folder / FUSION, f"{json.dumps(told, indent=1, allow_nan=False)}\n".encode())}
        for member in sources.members:
            weights = weights_bytes(member.run.load_head(member.best).state_dict())
            hashes[file_of(member)] = _write(folder / file_of(member), weights)
        manifest = describe(sources, evidence, hashes)
        digest = write_manifest(folder, manifest)
        write_whole(folder / CARD, model_card(manifest, evidence).encode())
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    _tell_of_local_encoders(manifest)
    return MadeBundle(out, manifest, digest, size)


def _write(path: Path, content: bytes) -> str:
    """Write a part, and return its hash."""
    write_whole(path, content)
    return xxhash.xxh3_128_hexdigest(content)


def _tell_of_local_encoders(manifest: Manifest) -> None:
    for kind, encoder in (("audio", manifest.encoders.audio), ("text", manifest.encoders.text)):
        if encoder.revision == "local":
            log.warning(
                "the %s encoder was the folder %s, which others do not have: they need --%s-encoder with its weights",
                kind,
                encoder.source,
                kind,
            )


def _refuse_occupied(out: Path, *, overwrite: bool) -> None:
    """Let a bundle replace nothing but a bundle, and that only when asked to."""
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out}: is a file, expected a folder to make; give another --out")
    inside = out.rglob("*") if out.exists() else ()
    found = sorted(str(path.relative_to(out)) for path in inside if path.is_symlink() or not path.is_dir())
    if found and not overwrite:
        raise OutputExistsError(f"{out}: holds {first_five(found)}; give another --out, or --overwrite")
    foreign = [name for name in found if name not in _OWN and not is_head_file(name)]
    if foreign or (found and MANIFEST not in found):
        lost = first_five(foreign or found)
        raise OutputExistsError(
            f"{out}: holds {lost}, which no bundle has and --overwrite would lose; give another --out"
        )
