"""`fusion.json`: what a fusion is, what it was made of, how well it does; and finding its members again."""

import json
import logging
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any

import xxhash

from audiomos_cache import registry
from audiomos_cache.errors import DataError, first_five
from audiomos_cache.files import write_whole
from audiomos_cache.fusion.base import Fusion, fusion_class
from audiomos_cache.fusion.members import Member, members_of_files, members_of_runs, run_hash

log = logging.getLogger(__name__)


RECORD_NAME = "fusion.json"
FORMAT = "audiomos-cache fusion"
FORMAT_VERSION = 1

_OWN = ("format", "format_version", "method", "part", "members", "fusion", "versions")
_VERSIONED = ("audiomos-cache", "numpy", "scipy", "scikit-learn", "lightgbm")


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
        for each in files.values():
            if not all(isinstance(each[key], str) for key in ("path", "xxh3_128")):
                raise TypeError("a file's path and hash are not strings")
        return cls(str(content["name"]), content["run_xxh3_128"], content["best"], files)

    def with_apply(self, other: "RecordedMember") -> "RecordedMember":
        """Return the member with another one's name, and with its file of the apply split."""
        return replace(self, name=other.name, files={**self.files, "apply": other.files["apply"]})

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        files = {split: self.files.get(split) for split in ("fit", "apply")}
        return {"name": self.name, "run_xxh3_128": self.run, "best": self.best, **files}


@dataclass(frozen=True)
class FusionRecord:
    """A fusion and its members, as `fusion.json` keeps them.

    Attributes:
        fusion: ready to be applied.
        members: its members, in order.
        fit_clips: ids of the clips it was fitted on; none for a method that is not fitted.
        content: all that the file contains.
    """

    fusion: Fusion
    members: tuple[RecordedMember, ...]
    fit_clips: frozenset[str]
    content: Mapping[str, Any]

    def about(self) -> dict[str, Any]:
        """Return what the file contains besides what `write_record` adds."""
        return {key: value for key, value in self.content.items() if key not in _OWN}


def write_record(folder: Path, fusion: Fusion, members: Sequence[RecordedMember], about: Mapping[str, Any]) -> None:
    """Write `fusion.json`; `about` is what else it contains, as `FusionRecord.about` returns it."""
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **method_json(fusion),
        "members": [member.to_json() for member in members],
        "fusion": fusion.to_json(),
        **about,
        "versions": _versions(),
    }
    write_whole(folder / RECORD_NAME, f"{json.dumps(content, indent=1, allow_nan=False)}\n".encode())


def read_record(folder: Path) -> FusionRecord:
    """Read the fusion that a folder holds.

    Raises:
        DataError: there is none, or it is damaged, or of another version of the format.
    """
    path = folder / RECORD_NAME
    content = _read_content(path)
    try:
        members = tuple(RecordedMember.from_json(member) for member in content["members"])
        if not members:
            raise ValueError("no members")
        fusion = fusion_of(content, [member.name for member in members], path)
        return FusionRecord(fusion, members, _fit_clips(content), content)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not the record of a fusion ({error!r}); fuse again") from error


def read_fit_clips(folder: Path) -> frozenset[str]:
    """Read the ids of the clips that a folder's fusion was fitted on; its method need not be known.

    Raises:
        DataError: there is no fusion, or its record is damaged, or of another version of the format.
    """
    path = folder / RECORD_NAME
    content = _read_content(path)
    try:
        return _fit_clips(content)
    except (LookupError, TypeError) as error:
        raise DataError(f"{path}: not the record of a fusion ({error!r}); fuse again") from error


def _read_content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path.parent}: no {RECORD_NAME} in it, so not a fusion; fuse makes fusions")
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        found = (content["format"], content["format_version"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: not the record of a fusion ({error!r}); fuse again") from error
    if found != (FORMAT, FORMAT_VERSION):
        raise DataError(f"{path}: is {found}, expected {(FORMAT, FORMAT_VERSION)}; fuse again with this version")
    return content


def _fit_clips(content: Mapping[str, Any]) -> frozenset[str]:
    clips = content["fit_clips"]
    if not isinstance(clips, list):
        raise TypeError("fit_clips is not a list of ids")
    return frozenset(clips)


def load_fusion(folder: str | PathLike[str]) -> Fusion:
    """Return the fusion that a folder holds, to be applied to what its members predict, in the order of its `names`.

    Raises:
        DataError: there is none, or it is damaged, of another version of the format, or of a method that is not known.
    """
    return read_record(Path(folder)).fusion


def method_json(fusion: Fusion) -> dict[str, Any]:
    """Describe the method of a fusion: its name, and for one that is not built in where it comes from."""
    method, own = fusion.method, type(fusion)
    if method in registry.BUILT_IN["fusion"]:
        return {"method": method}
    return {"method": method, "part": {"module": own.__module__, "class": own.__qualname__}}


def fusion_of(content: Mapping[str, Any], names: Sequence[str], path: Path) -> Fusion:
    """Make the fusion that a file describes.

    Args:
        content: what `method_json` returned, and what the fusion's `to_json` did under "fusion".
        names: of its members.
        path: the file, for messages.
    Raises:
        DataError: its method is not known, as nothing registered it yet. LookupError, TypeError, ValueError: `content`
        describes no fusion of these members.
    """
    method = content["method"]
    if method in registry.known("fusion"):
        return fusion_class(method).from_json(names, content["fusion"])
    if "part" not in content:
        raise ValueError(f"method {registry.unknown('fusion', method)}")
    module, name = (str(content["part"][key]) for key in ("module", "class"))
    raise DataError(
        f"{path}: its method {method!r} is not built in, but the class {name} of {module}; give --import {module}"
    )


def identity(path: Path) -> dict[str, str]:
    """Return what identifies a file: its path, and 32 hex digits of xxh3_128 of its bytes."""
    return {"path": str(path), "xxh3_128": xxhash.xxh3_128_hexdigest(path.read_bytes())}


def _versions() -> dict[str, str]:
    known = {}
    for package in _VERSIONED:
        try:
            known[package] = version(package)
        except PackageNotFoundError:  # an extra
            continue
    return known


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
    members = members_of_files(files, (), learns=False)
    if all(member.run for member in recorded):
        given = {(run_hash(m.run, m.best), m.best): m for m in members if m.run and m.best}
        if len(given) == len(members):
            keys = _keys(recorded)
            _refuse_others(recorded, given, extra=[given[key].name for key in given if key not in keys])
            return [given[key] for key in keys]
    if len(members) != len(recorded):
        names = first_five([member.name for member in recorded])
        raise DataError(f"{len(members)} files, expected one for each of {len(recorded)} members, in the order {names}")
    for index, file in enumerate(files):
        if other := _known_as_another(recorded, index, file):
            raise DataError(
                f"{file}: is of the member {other}, expected {recorded[index].name} in its place; keep the order"
            )
    pairs = [f"{file} as {member.name}" for file, member in zip(files, recorded, strict=True)]
    log.warning("files do not say which member made them, so they are taken in the order given: %s", "; ".join(pairs))
    return members


def _keys(recorded: Sequence[RecordedMember]) -> list[tuple[str, str]]:
    return [(str(member.run), str(member.best)) for member in recorded]


def _known_as_another(recorded: Sequence[RecordedMember], index: int, file: Path) -> str | None:
    """Return the member that a file is known to belong to, by its name or its bytes, where it is another's."""
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
    problems = {"missing": [member.name for member, key in keys if key not in given], "no members": list(extra)}
    if found := [f"{problem}: {first_five(names)}" for problem, names in problems.items() if names]:
        raise DataError(f"not the members that were fused: {'; '.join(found)}; give those that the fusion was made of")
