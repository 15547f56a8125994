"""`fusion.json`: what a fusion is, what it was made of, and how well it does on clips it has not seen."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import xxhash

from audiomos_cache.errors import DataError
from audiomos_cache.files import write_whole
from audiomos_cache.fusion.base import Fusion
from audiomos_cache.fusion.members import Member, run_hash
from audiomos_cache.fusion.methods import METHODS

RECORD_NAME = "fusion.json"
FORMAT = "audiomos-cache fusion"
FORMAT_VERSION = 1

_OWN = ("format", "format_version", "method", "members", "fusion", "versions")
_VERSIONED = ("audiomos-cache", "numpy", "scipy", "scikit-learn", "lightgbm")


@dataclass(frozen=True)
class RecordedMember:
    """One member, as `fusion.json` tells it.

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
                raise TypeError("a file's path and hash are not texts")
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
        fit_clips: ids of the clips it was fitted on; none for a method that does not learn.
        content: all that the file says.
    """

    fusion: Fusion
    members: tuple[RecordedMember, ...]
    fit_clips: frozenset[str]
    content: Mapping[str, Any]

    def about(self) -> dict[str, Any]:
        """Return what the file says beside what `write_record` adds."""
        return {key: value for key, value in self.content.items() if key not in _OWN}


def write_record(folder: Path, fusion: Fusion, members: Sequence[RecordedMember], about: Mapping[str, Any]) -> None:
    """Write `fusion.json`; `about` is what else it says, as `FusionRecord.about` returns it."""
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "method": fusion.method,
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
    if not path.is_file():
        raise DataError(f"{folder}: no {RECORD_NAME} in it, so not a fusion; fuse makes fusions")
    try:
        content = json.loads(path.read_bytes())
        found = (content["format"], content["format_version"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: not the record of a fusion ({error!r}); fuse again") from error
    if found != (FORMAT, FORMAT_VERSION):
        raise DataError(f"{path}: is {found}, expected {(FORMAT, FORMAT_VERSION)}; fuse again with this version")
    try:
        members = tuple(RecordedMember.from_json(member) for member in content["members"])
        if not members:
            raise ValueError("no members")
        fusion = METHODS[content["method"]].from_json([member.name for member in members], content["fusion"])
        return FusionRecord(fusion, members, frozenset(content["fit_clips"]), content)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not the record of a fusion ({error!r}); fuse again") from error


def load_fusion(folder: Path) -> Fusion:
    """Return the fusion that a folder holds, to be applied to predictions of its members in the order of its `names`.

    Raises:
        DataError: there is none, or it is damaged, or of another version of the format.
    """
    return read_record(folder).fusion


def identity(path: Path) -> dict[str, str]:
    """Tell a file from all others: its path, and 32 hex digits of xxh3_128 of its bytes."""
    return {"path": str(path), "xxh3_128": xxhash.xxh3_128_hexdigest(path.read_bytes())}


def _versions() -> dict[str, str]:
    known = {}
    for package in _VERSIONED:
        try:
            known[package] = version(package)
        except PackageNotFoundError:  # an extra
            continue
    return known
