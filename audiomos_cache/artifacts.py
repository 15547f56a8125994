"""What all artefacts (caches, runs, fusions, bundles, score files) have in common.

They are created atomically, replaced only on request, hashed, versioned, and compared by fingerprint. Each
artefact adds only what is its own. `folders.py` makes those that are folders, `locks.py` lets one process at a time
write one.
"""

import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import escape
from pathlib import Path
from typing import Any

import xxhash

from audiomos_cache.errors import (
    ArgumentError,
    AudiomosError,
    CacheError,
    OutputError,
    OutputExistsError,
    first_five,
    quoted,
    shown,
)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PROBE = bytes(4096)  # a block: less may fit where nothing else does


def hash_bytes(content: bytes) -> str:
    """Hash bytes: 32 hex digits of xxh3_128."""
    return xxhash.xxh3_128_hexdigest(content)


@contextmanager
def writing(path: Path, advice: str = "give another --out") -> Iterator[None]:
    """Turn a system error in the block into a message that names what was to be written, and what to do.

    Raises:
        OutputError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        blocker = f"{error.filename} is not a folder" if isinstance(error, FileExistsError) else None
        fix = "make room there" if error.errno in _NO_ROOM else "fix that"
        if isinstance(error, PermissionError):
            fix = "change its permissions with chmod"
        raise OutputError(
            f"{path}: cannot be written: {blocker or error.strerror or error}; {fix}, or {advice}"
        ) from error


def atomic_write(path: Path, content: bytes | Iterable[bytes]) -> str:
    """Write a file completely or not at all: a file in the same folder is written, synced and renamed.

    Args:
        path: the file.
        content: what it is to hold, whole or in pieces.
    Returns:
        The hash of its content, see `hash_bytes`.
    Raises:
        OutputError: it cannot be written; `path` is as it was.
    """
    part = hidden(path, "part")
    digest = xxhash.xxh3_128()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in leftovers(path, "part"):
            leftover.unlink(missing_ok=True)
        try:
            with part.open("wb") as file:
                for piece in [content] if isinstance(content, bytes) else content:
                    file.write(piece)
                    digest.update(piece)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return digest.hexdigest()


def hidden(path: Path, suffix: str) -> Path:
    """Return where this process writes what will get the name `path`: next to it, where no other process does."""
    return path.with_name(f".{path.name}.{os.getpid()}.{suffix}")


def leftovers(path: Path, suffix: str) -> list[Path]:
    """Return what processes that were killed have left at their `hidden(path, suffix)`."""
    found = path.parent.glob(f".{escape(path.name)}.*.{suffix}")
    return [each for each in found if _has_ended(each.name.removeprefix(f".{path.name}.").removesuffix(f".{suffix}"))]


def _has_ended(process: str) -> bool:
    if not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)  # sends nothing
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False


def require_writable(folder: Path) -> None:
    """Refuse a folder that nothing can be written in, before the work whose results go there. Leaves nothing there.

    Args:
        folder: which may not exist yet; then the nearest one above it that does is tried.
    Raises:
        OutputError: naming the folder.
    """
    with writing(folder):
        existing = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(_PROBE)
            file.flush()


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk.

    Raises:
        OutputError: the disk refuses.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}; check the disk and run the command again") from error


def refuse_input(out: Path, inputs: Iterable[Path]) -> None:
    """Refuse to write over a file that is read, whatever may be overwritten.

    Raises:
        ArgumentError: names it.
    """
    if any(each.exists() and out.exists() and each.samefile(out) for each in inputs):
        raise ArgumentError(f"--out {out}: is one of the files that are read; give another")


def refuse_suffix(out: Path, formats: Sequence[str]) -> None:
    """Refuse a file to write whose suffix, in small or capital letters, is not one of `formats`, such as ".jsonl".

    Raises:
        ArgumentError: lists the formats.
    """
    if out.suffix.lower() not in formats:
        expected = f"one of {', '.join(formats)}" if len(formats) > 1 else formats[0]
        raise ArgumentError(f"--out {out}: the suffix is {quoted(out.suffix)}, expected {expected}")


Own = Sequence[str] | Callable[[str], bool] | None  # which files an artefact may have, by their paths in it


def refuse_occupied(
    out: Path | Sequence[Path],
    *,
    what: str,
    overwrite: bool,
    own: Own = None,
    marker: str | None = None,
    advice: str = "give another --out",
) -> None:
    """Refuse to replace anything that is not to be replaced, before the work whose results go there.

    A file or an artefact of the same kind is replaced where the user gave `--overwrite`, a folder that contains
    anything else never. An empty folder is free.

    Args:
        out: the file or folder to make, or several.
        what: what is to be made, for messages, such as "fusion". It is a folder if `own` or `marker` is given.
        overwrite: whether the user gave `--overwrite`.
        own: of a folder: the files that an artefact of this kind may have, by their paths in it, as patterns or as a
            function; None: any.
        marker: of a folder: the file that every artefact of this kind has.
        advice: what the user can do.
    Raises:
        OutputExistsError: something exists there; names it.
    """
    outs = [out] if isinstance(out, Path) else list(out)
    makes_folders = own is not None or marker is not None
    for each in outs:
        if makes_folders:
            _refuse_foreign(each, what, own, marker, advice)
        elif each.is_dir():
            raise OutputExistsError(f"{each}: is a folder, expected a file to write; {advice}")
    taken = [str(each) for each in outs if _contents(each)] if makes_folders else [str(e) for e in outs if e.exists()]
    if taken and not overwrite:
        verb = "exists" if len(taken) == 1 else "exist"
        raise OutputExistsError(f"{first_five(taken)}: {verb} already; {advice}, or --overwrite")


def _refuse_foreign(out: Path, what: str, own: Own, marker: str | None, advice: str) -> None:
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out}: is a file, expected a folder to make; {advice}")
    found = _contents(out)
    foreign = [name for name in found if not _is_own(name, own)]
    if foreign or (found and marker is not None and marker not in found):
        raise OutputExistsError(
            f"{out}: holds {first_five(foreign or found)}, which is not part of a {what} and would be lost; {advice}"
        )


def _is_own(name: str, own: Own) -> bool:
    if own is None or callable(own):
        return own is None or own(name)
    return any(name.count("/") == pattern.count("/") and fnmatch(name, pattern) for pattern in own)


def _contents(folder: Path) -> list[str]:
    """Return the paths in a folder of all files, links and empty folders, sorted; none where there is no folder."""
    found = []
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            found.append(path.relative_to(folder).as_posix())
        elif not any(path.iterdir()):
            found.append(f"{path.relative_to(folder).as_posix()}/")
    return sorted(found)


def differences(found: object, requested: object, word: str = "requested") -> list[str]:
    """Name what differs between two nested values, as `head.dropout is 0.3, requested 0.1`.

    Args:
        found, requested: nested mappings of strings, numbers, lists and None; keys that one lacks are "(absent)".
        word: describes the second value in the result.
    """
    return list(_differences(found, requested, word, ""))


def _differences(found: object, requested: object, word: str, path: str) -> Iterator[str]:
    if isinstance(found, Mapping) and isinstance(requested, Mapping):
        for key in sorted(found.keys() | requested.keys()):
            inner = f"{path}.{key}" if path else key
            yield from _differences(found.get(key, "(absent)"), requested.get(key, "(absent)"), word, inner)
    elif found != requested:
        yield f"{path} is {quoted(found)}, {word} {quoted(requested)}"


def require_format_version(
    name: str | Path,
    found: object,
    expected: int,
    *,
    again: str,
    error: type[AudiomosError],
    update: str = "update audiomos-cache",
) -> None:
    """Refuse an artefact of another version of its format.

    Args:
        name: the artefact.
        found: the version that it contains, which may be anything.
        expected: the version that this package reads.
        again: what to do about an older one, such as "fuse again".
        error: what is raised.
        update: what to do about a newer one.
    """
    if type(found) is int and found == expected:  # True is 1 to Python
        return
    is_newer = type(found) is int and found > expected
    raise error(f"{name}: format version is {quoted(found)}, expected {expected}; {update if is_newer else again}")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """All that decides a feature's value (encoders, layers, resampler, padding, limits, dtype), as canonical JSON.

    Batch size, device, number of threads and the source of the weights are not in it: they decide no value.
    """

    json: str

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Fingerprint":
        """Make the fingerprint of nested fields of strings, numbers and None."""
        return cls(json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False))

    @property
    def digest(self) -> str:
        """The hash, 32 hex digits of xxh3_128."""
        return hash_bytes(self.json.encode())

    @property
    def fields(self) -> dict[str, Any]:
        """The readable form."""
        fields: dict[str, Any] = json.loads(self.json)
        return fields

    def require(self, expected: "Fingerprint", what: str, advice: str, *, readable: bool = True) -> None:
        """Refuse a fingerprint that is not the expected one.

        Args:
            expected: the fingerprint to have.
            what: the item that has this fingerprint, for the message.
            advice: what the user can do.
            readable: add both readable forms, a line each.
        Raises:
            CacheError: naming both digests and the first field that differs, then both readable forms.
        """
        if self.digest != expected.digest:
            forms = (f"  found:    {self.json}", f"  expected: {expected.json}") if readable else ()
            first = next(iter(differences(self.fields, expected.fields, "expected")), "")
            raise CacheError(
                f"{what}: fingerprint {self.digest}, expected {expected.digest}; "
                f"first difference: {shown(first)}; {advice}",
                *forms,
            )
