"""The files of a split: made of the clips that are done, read back, and given their names."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import xxhash
from numpy.typing import NDArray

from audiomos_cache.cache import paths
from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.file_writer import write_file
from audiomos_cache.cache.format import CachedClip, CachedPrompt, Header
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cache.stable_file import Buffer
from audiomos_cache.cache.verify import verify_file
from audiomos_cache.errors import CacheError

BYTES_PER_FILE = 8 * 10**9

Done = Mapping[str, tuple[CacheFile, int]]


def done_clips(files: Sequence[CacheFile]) -> dict[str, tuple[CacheFile, int]]:
    """Return the clips that files hold: id -> (file, index in it)."""
    return {clip_id: (file, index) for file in files for index, clip_id in enumerate(file.ids)}


def split_and_parts(cache: Path, split: str) -> list[CacheFile]:
    """Open all files of a split, finished ones and parts.

    Of several finished files some may be missing, after a kill while they were published: their clips are in the parts.

    Raises:
        CacheError: a file is damaged, or the files have different fingerprints.
    """
    files = [CacheFile(path) for path in paths.every_file(cache, split) + paths.part_files(cache, split)]
    require_one_fingerprint(files)
    return files


def require_one_fingerprint(files: Sequence[CacheFile], advice: str = "remove the one that does not belong") -> None:
    """Raise CacheError naming the first file that has another fingerprint than the first of all."""
    for file in files:
        expected = files[0].header.fingerprint
        file.header.fingerprint.require(expected, str(file.path), f"{advice}; {files[0].path} has the other")


def publish_split(
    cache: Path,
    header: Header,
    order: Mapping[str, int],
    done: Done,
    *,
    bytes_per_file: int = BYTES_PER_FILE,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Path]:
    """Write the finished files of a split from clips that are done, unless they are there, and remove its parts.

    A finished split that lacked clips (skipped ones, since fixed) is replaced by one that has them too.

    Args:
        cache: the cache folder, locked for this split.
        header: of the split.
        order: position in the dataset's list of each clip, in the order of the files; each must be in `done`.
        done: where each clip's features are.
        bytes_per_file: the split is cut into several files where it is larger.
        progress: called with (done, total) clips.
    Returns:
        The files.
    Raises:
        CacheError: a done clip's features do not match their hash, or the disk is full or fails.
    """
    header = replace(header, complete=True, batch_size=0, split_hash=_split_hash(header, order, done))
    if not _is_published(cache, header):
        groups = _groups(order, done, header, bytes_per_file)
        finals = [cache / name for name in paths.file_names(header.split, len(groups))]
        temporaries = [paths.temporary_path(final) for final in finals]
        finished = 0
        with _removed_on_error(*temporaries):  # where the disk is full, they take space that is needed
            for index, (temporary, ids) in enumerate(zip(temporaries, groups, strict=True)):
                own = replace(header, file_index=index, file_count=len(groups))
                copy_clips(temporary, own, [done[clip_id] for clip_id in ids], [order[clip_id] for clip_id in ids])
                _check_written(temporary)
                finished += len(ids)
                progress(finished, len(order))
        for old in paths.every_file(cache, header.split):
            paths.make_part(old, header.split, [old.name, *CacheFile(old).ids])
        for temporary, final in zip(temporaries, finals, strict=True):
            paths.publish(temporary, final)
    paths.remove_parts(cache, header.split)
    return paths.split_files(cache, header.split)


def copy_clips(
    path: Path, header: Header, sources: Sequence[tuple[CacheFile, int]], positions: Sequence[int] | None = None
) -> None:
    """Write clips that other files hold, with their prompts, to a new file, hash-checked on the way.

    Args:
        path: the new file, not yet published.
        header: of the new file.
        sources: (file, index in it) of each clip, in the new file's order.
        positions: of the clips in the dataset's list, where they change.
    Raises:
        CacheError: a clip's features do not match their hash.
    """
    clips = [file.clip(index) for file, index in sources]
    if positions is not None:
        clips = [replace(clip, position=position) for clip, position in zip(clips, positions, strict=True)]
    prompts: dict[str, CachedPrompt] = {}
    for clip, (file, index) in zip(clips, sources, strict=True):
        if clip.prompt not in prompts:
            prompts[clip.prompt] = file.read_prompt(file.prompt_row(index))
    write_file(path, header, clips, list(prompts.values()), _frames_of(sources, header))


def _frames_of(sources: Sequence[tuple[CacheFile, int]], header: Header) -> Iterator[NDArray[Any]]:
    """Read the frames of each clip, all layers, into memory that is used again for the next."""
    buffer = Buffer()
    for file, index in sources:
        rows = buffer.take((len(header.layers), file.frames_of(index), header.audio_dim), header.dtype)
        for layer, out in zip(header.layers, rows, strict=True):
            file.read_frames(index, out, layer=layer, padding=True)
        yield rows


def publish_checked(temporary: Path, final: Path, *, frames: bool = True) -> None:
    """Publish a file after reading it back, or all of it but the frames."""
    with _removed_on_error(temporary):
        _check_written(temporary, frames=frames)
        paths.publish(temporary, final)


@contextmanager
def _removed_on_error(*temporaries: Path) -> Iterator[None]:
    """Remove files that are not published yet when there is an error or an interrupt."""
    try:
        yield
    except BaseException:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
        raise


def _check_written(temporary: Path, *, frames: bool = True) -> None:
    """Read a file back before it is published, and refuse it if it differs from what was written."""
    damaged = (verify_file(temporary) if frames else verify_file(temporary, frames=False)).damaged
    if damaged:
        raise CacheError(f"{temporary}: reads back differently from what was written ({damaged[0]}); check the disk")


def _is_published(cache: Path, header: Header) -> bool:
    try:
        return CacheReader(cache, header.split).split_hash == header.split_hash
    except CacheError:
        return False


def _split_hash(header: Header, order: Mapping[str, int], done: Done) -> str:
    """Hash all that is known about a split's clips that are done."""
    sources = [(*done[clip_id], position) for clip_id, position in order.items()]
    clips = (replace(file.clip(index), position=position) for file, index, position in sources)
    hashes = (file.column("text/feature_hash")[file.prompt_row(index)].tobytes() for file, index, _ in sources)
    return hash_split(header, clips, hashes)


def hash_split(header: Header, clips: Iterable[CachedClip], prompt_hashes: Iterable[bytes]) -> str:
    """Hash all that is known about a split's clips, including the hashes of their features and prompts."""
    digest = xxhash.xxh3_128(repr((header.list_hash, header.list_length, header.skipped)).encode())
    for clip, prompt_hash in zip(clips, prompt_hashes, strict=True):
        digest.update(repr(clip).encode())
        digest.update(prompt_hash)
    return digest.hexdigest()


def _groups(order: Mapping[str, int], done: Done, header: Header, bytes_per_file: int) -> list[list[str]]:
    """Cut the clips into files of at most `bytes_per_file` of frames, at least one clip each."""
    groups: list[list[str]] = [[]]
    used = 0
    for clip_id in order:
        file, index = done[clip_id]
        size = file.frames_of(index) * header.frame_bytes
        if groups[-1] and used + size > bytes_per_file:
            groups.append([])
            used = 0
        groups[-1].append(clip_id)
        used += size
    return groups
