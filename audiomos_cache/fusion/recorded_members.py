"""The members of a fusion as `fusion.json` describes them, and finding them again among runs or files."""

import hashlib
import logging
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from audiomos_cache.errors import DataError, first_five
from audiomos_cache.files import opened
from audiomos_cache.fusion.members import Member, members_of_files, members_of_runs, refuse_unreadable, run_hash

log = logging.getLogger(__name__)


def identity(path: Path) -> dict[str, str]:
    """Return what identifies a file: its path, and 32 hex digits of xxh3_128 of its bytes."""
    with opened(path, "a list or predictions") as file:  # labels in Parquet have their audio next to them
        return {"path": str(path), "xxh3_128": hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()}


@dataclass(frozen=True)
class RecordedMember:
    """One member, as `fusion.json` describes it.

    Attributes:
        name: the run or the file, as it was given.
        run: the hash of the run (`run_hash`), where it is one's.
        best: which of the run's checkpoints.
        files: the files that were read of it, by split (`fit`, `apply`): path and hash.
    """

    name: str
    run: str | None
    best: str | None
    files: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, member: Member) -> "RecordedMember":
        """Describe a member, and hash its files."""
        return cls(
            name=member.name,
            run=run_hash(member.run, member.best) if member.run and member.best else None,
            best=member.best,
            files={split: identity(path) for split, path in (("fit", member.fit), ("apply", member.apply)) if path},
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RecordedMember":
        """Read what `to_json` returned."""
        files = {split: content[split] for split in ("fit", "apply") if content[split]}
        return cls(content["name"], content["run_xxh3_128"], content["best"], files)

    def with_apply(self, other: "RecordedMember") -> "RecordedMember":
        """Return the member with another one's name, and with its file of the apply split."""
        return replace(self, name=other.name, files={**self.files, "apply": other.files["apply"]})

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        files = {split: self.files.get(split) for split in ("fit", "apply")}
        return {"name": self.name, "run_xxh3_128": self.run, "best": self.best, **files}


def match_runs(recorded: Sequence[RecordedMember], runs: Sequence[Path], split: str) -> list[Member]:
    """Find each member's run among `runs`, which may be in any order and have other names.

    Args:
        recorded: the members of a fusion, in order.
        runs: run folders.
        split: the split that is to be blended.
    Returns:
        The members in their order.
    Raises:
        DataError: a run that is missing or is no member's, members that were no runs, or a run without predictions.
    """
    if bare := [member.name for member in recorded if not member.run]:
        raise DataError(
            f"members that were given as files of no run: {first_five(bare)}; give a file for each, in their order"
        )
    found = find_runs(recorded, runs)
    return [member for run, best in found for member in members_of_runs([run], None, split, best)]


def find_runs(recorded: Sequence[RecordedMember], runs: Sequence[Path]) -> list[tuple[Path, str]]:
    """Find each member's run among `runs`, which may be in any order and have other names.

    Args:
        recorded: the members of a fusion, in order, which all are runs.
        runs: run folders.
    Returns:
        The run of each member in their order, and which of its checkpoints.
    Raises:
        DataError: a run that is missing or is no member's.
    """
    given = {(run_hash(run, best), best): run for run in runs for best in {str(member.best) for member in recorded}}
    keys = _keys(recorded)
    used = {given[key] for key in keys if key in given}
    _refuse_others(recorded, given, extra=[str(run) for run in runs if run not in used])
    return [(given[key], key[1]) for key in keys]


def match_files(recorded: Sequence[RecordedMember], files: Sequence[Path]) -> list[Member]:
    """Pair each member with a file: by the run that holds the file, or else by the order, which a warning states.

    Args:
        recorded: the members of a fusion, in order.
        files: predictions files.
    Returns:
        The members in their order.
    Raises:
        DataError: another number of files than of members, or a file that is known to be another member's.
    """
    members = members_of_files(files, (), fitted=False)
    if all(member.run for member in recorded):
        given = {(run_hash(m.run, m.best), m.best): m for m in members if m.run and m.best}
        if len(given) == len(members):
            keys = _keys(recorded)
            _refuse_others(recorded, given, extra=[given[key].name for key in given if key not in keys])
            return [given[key] for key in keys]
    if len(members) != len(recorded):
        refuse_unreadable(files)
        names = first_five([member.name for member in recorded])
        raise DataError(f"{len(members)} files, expected one for each of {len(recorded)} members, in the order {names}")
    for index, file in enumerate(files):
        if other := _known_as_another(recorded, index, file):
            raise DataError(f"{file}: is of the member {other}, expected {recorded[index].name}; keep the order")
    pairs = [f"{file} as {member.name}" for file, member in zip(files, recorded, strict=True)]
    log.warning("files without a run, so their members are taken in the order given: %s", "; ".join(pairs))
    return members


def _keys(recorded: Sequence[RecordedMember]) -> list[tuple[str, str]]:
    return [(str(member.run), str(member.best)) for member in recorded]


def _known_as_another(recorded: Sequence[RecordedMember], index: int, file: Path) -> str | None:
    """Return the member that a file belongs to by its name or its bytes, where that is another than the indexed one."""
    content = identity(file)["xxh3_128"] if file.is_file() else None

    def knows(member: RecordedMember) -> bool:
        files = member.files.values()
        return any(Path(known["path"]).name == file.name or known["xxh3_128"] == content for known in files)

    owners = [each for each, member in enumerate(recorded) if knows(member)]
    return recorded[owners[0]].name if owners and index not in owners else None


def _refuse_others(
    recorded: Sequence[RecordedMember], given: Container[tuple[str, str]], *, extra: Sequence[str]
) -> None:
    keys = zip(recorded, _keys(recorded), strict=True)
    problems = {"missing": [member.name for member, key in keys if key not in given], "not among them": list(extra)}
    if found := [f"{problem}: {first_five(names)}" for problem, names in problems.items() if names]:
        raise DataError(f"not the members that were fused: {'; '.join(found)}; give those that the fusion was made of")
