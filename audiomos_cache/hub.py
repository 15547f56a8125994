"""Folders that a user gives: on this machine, or in a repository of the Hugging Face hub."""

import logging
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from audiomos_cache.errors import AudiomosError, ConfigError, quoted, shown
from audiomos_cache.files import is_folder
from audiomos_cache.interrupts import nothing_to_save

log = logging.getLogger(__name__)

_REASON = 200  # characters of the hub's message


def split_revision(source: str) -> tuple[str, str | None]:
    """Split `NAME@REVISION` into the name and the revision that is pinned: `owner/name@v1`, `muq@main`.

    A folder that exists is never split, nor is a path that no repository can have, such as `/mnt/a@b/model`.

    Args:
        source: a folder, a hub repository id or a registered name, with or without `@REVISION`.
    Returns:
        The name; and the branch, tag or commit after the `@`, or None.
    Raises:
        ConfigError: nothing is before or after the `@`.
    """
    name, at, revision = source.partition("@")
    if not at or is_folder(source):
        return source, None
    if not is_folder(name) and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        return source, None
    if not name or not revision:
        raise ConfigError(
            f"{shown(source)}: found {'no revision after' if name else 'no name before'} the @, expected "
            "NAME@REVISION; leave the @ out to take the newest"
        )
    return name, revision


def download_command(
    source: str, revision: str | None = None, repo_type: str | None = None, files: Sequence[str] = ()
) -> str:
    """Return the command that fetches a hub repository into a folder of files, not of links into the hub's cache.

    Args:
        source: the repository's id.
        revision: branch, tag or commit.
        repo_type: "dataset"; None: a model.
        files: of it; none: all.
    """
    kind = "" if repo_type is None else f"--repo-type {repo_type} "
    remote = " ".join((shown(source), *files, *(() if revision is None else ("--revision", shown(revision)))))
    return f"hf download {kind}{remote} --local-dir FOLDER"


def resolve_folder(
    source: str,
    revision: str | None,
    patterns: Sequence[str],
    option: str,
    error: type[AudiomosError],
    needed: Sequence[tuple[str, ...]] = (),
    *,
    repo_type: str | None = None,
    named: str | None = None,
    advice: str | None = None,
    fetching: str = "",
) -> tuple[Path, str]:
    """Find a folder of files: a local one, or a snapshot of a hub repository.

    Args:
        source: a folder, or a hub repository id such as `FacebookAI/roberta-base`.
        revision: branch, tag or commit of a hub repository.
        patterns: file names to fetch.
        option: the command-line option to name in messages.
        error: what to raise.
        needed: without a network, a snapshot that another tool fetched a part of will do if it has, of each of these
            sets of patterns, a file that one of them matches; without such sets none will do.
        repo_type: "dataset"; None: a model.
        named: what a message about fetching calls the source, of which nobody gave `option`.
        advice: what to do without a network; None: fetch it elsewhere, and give `option` the folder.
        fetching: what is logged where it is not in the hub's cache yet.
    Returns:
        The folder, and the resolved commit (`local` for a folder).
    Raises:
        AudiomosError: of the type `error`: the folder or repository does not exist, there is no network, or a folder
            was given a revision.
    """
    given = f"{option} {shown(source)}"
    if is_folder(source):
        if revision is not None:
            raise error(f"{given}: is a folder, and a folder has no revision {quoted(revision)} to pin")
        return Path(source), "local"
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise error(f"{given}: folder not found, and not a hub id of the form owner/name")
    from huggingface_hub import snapshot_download

    try:
        known = repo_type is None and _is_fetched(source, revision, patterns)
        if fetching and not known:
            log.info("%s", fetching)
        with nothing_to_save(), _bars(hidden=known):
            folder = snapshot_download(source, revision=revision, repo_type=repo_type, allow_patterns=list(patterns))
    except Exception as failure:  # the hub's network errors differ between its versions and share no base
        partial = _partial_snapshot(source, revision, patterns) if needed else None
        if partial and all(any(any(partial.glob(each)) for each in either) for either in needed):
            return partial, partial.name
        reason = shown(textwrap.shorten(str(failure), _REASON, placeholder="..."))
        raise error(
            f"{named or f'{given}: folder not found, and'} cannot be fetched from the Hugging Face hub "
            f"({type(failure).__name__}: {reason}). "
            + (
                advice
                or f"On a machine with a network run `{download_command(source, revision, repo_type)}`, copy the "
                f"folder here, and give {option} its path"
            )
        ) from failure
    return Path(folder), Path(folder).name


def _is_fetched(repository: str, revision: str | None, files: Sequence[str]) -> bool:
    """Return whether all of some files of a hub repository are in the hub's cache."""
    snapshot = _partial_snapshot(repository, revision, files)
    return snapshot is not None and all((snapshot / file).is_file() for file in files)


@contextmanager
def _bars(*, hidden: bool) -> Iterator[None]:
    """Keep the hub's client from showing bars for what is in its cache already."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if not hidden or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _partial_snapshot(source: str, revision: str | None, patterns: Sequence[str]) -> Path | None:
    """Return the snapshot of which another tool, such as transformers, fetched the files that it needed."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(patterns), local_files_only=True))
    except Exception as failure:
        found = getattr(failure, "snapshot_path", None)  # of IncompleteSnapshotError, which not every version has
        return Path(found) if found else None
