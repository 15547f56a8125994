"""The runs that a bundle is made of, and the fusion that blends them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.errors import BundleError, first_five
from audiomos_cache.files import real_path
from audiomos_cache.fusion.averages import MeanFusion
from audiomos_cache.fusion.base import Fusion
from audiomos_cache.fusion.members import expand_runs, run_hash
from audiomos_cache.fusion.record import FusionRecord, read_record
from audiomos_cache.fusion.recorded_members import find_runs
from audiomos_cache.runs import Run, read_run_config


@dataclass(frozen=True)
class Source:
    """A run, one of whose checkpoints becomes a member.

    Attributes:
        name: that the member gets: the run folder's, as far as it can name a file anywhere.
        run: the run.
        best: which of its checkpoints.
        config: the content of the run's config file.
    """

    name: str
    run: Run
    best: str
    config: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """Identifies the run; see `run_hash`."""
        return run_hash(self.run.folder, self.best)


@dataclass(frozen=True)
class Sources:
    """What a bundle is made of.

    Attributes:
        members: in the order that the fusion expects.
        fusion: of their predictions.
        fingerprint: of the features that all of them were trained on.
        folder: of the fusion; None of the mean of one run.
        record: the content of that folder.
    """

    members: tuple[Source, ...]
    fusion: Fusion
    fingerprint: Fingerprint
    folder: Path | None
    record: FusionRecord | None


def find_sources(runs: Sequence[Path], folder: Path | None, best: str) -> Sources:
    """Find the runs of a fusion's members, or take a single one as it is.

    Args:
        runs: run folders, or folders of runs, in any order.
        folder: what `fuse` wrote; None for a single run.
        best: of a single run, which checkpoint.
    Raises:
        BundleError: runs whose scores of a clip depend on other clips, several runs without a fusion,
        predictions files instead of runs. DataError: not a fusion, not a run, or not the members' runs. CacheError:
        runs of several fingerprints.
    """
    if files := [str(run) for run in runs if run.is_file()]:
        raise BundleError(f"files, which have no head to bundle: {first_five(files)}; give the runs that made them")
    record = read_record(folder) if folder else None
    if record:
        _refuse_unfit(record, str(folder))
    found = expand_runs(runs)
    for run in found:
        read_run_config(run)  # refuses what is none
    if record:
        chosen = find_runs(record.members, found)
    elif len(found) == 1:
        chosen = [(found[0], best)]
    else:
        raise BundleError(f"{len(found)} runs and no fusion of them, expected one; fuse them, and give --fusion")
    members = _named(chosen)
    fingerprint = _require_one_fingerprint(members)
    names = [member.name for member in members]
    fusion = type(record.fusion).from_json(names, record.fusion.to_json()) if record else MeanFusion(names)
    return Sources(members, fusion, fingerprint, folder, record)


def _refuse_unfit(record: FusionRecord, folder: str) -> None:
    if bare := [member.name for member in record.members if not member.run]:
        raise BundleError(
            f"{folder}: of files that no run made: {first_five(bare)}, expected members that have a head; fuse runs"
        )


def _named(chosen: Sequence[tuple[Path, str]]) -> tuple[Source, ...]:
    """Name each member by its run's folder; where two are alike, by the checkpoint too, or a number."""
    members: list[Source] = []
    taken: set[str] = set()
    for folder, best in chosen:
        name = re.sub(r"[^\w.+-]", "_", real_path(folder).name).lstrip(".") or "run"
        candidates = chain((name, f"{name}-{best}"), (f"{name}-{number}" for number in count(2)))
        free = next(each for each in candidates if each.casefold() not in taken)  # some disks ignore case
        taken.add(free.casefold())
        members.append(Source(free, Run(folder), best, read_run_config(folder)))
    return tuple(members)


def _require_one_fingerprint(members: Sequence[Source]) -> Fingerprint:
    """Return the fingerprint of the members' features.

    Raises:
        BundleError: a run that does not record it, or whose scores depend on the batch. CacheError: there are several.
    """
    for run in (member.run for member in members):
        if run.config.compat == "upstream":
            raise BundleError(
                f"{run.folder}: computes as the published code does (compat: upstream), where a clip's score depends "
                "on its batch, expected compat: none; train the head again without it"
            )
        if run.fingerprint is None or not run.layers_read:
            raise BundleError(
                f"{run.folder}: does not record which features it was trained on, expected their fingerprint and "
                "layers; train the head again"
            )
    first = members[0].run
    fingerprints = [member.run.fingerprint for member in members if member.run.fingerprint]
    for member, fingerprint in zip(members, fingerprints, strict=True):
        fingerprint.require(
            fingerprints[0], str(member.run.folder), f"bundle runs of one cache only, as {first.folder}"
        )
    return fingerprints[0]
