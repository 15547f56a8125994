"""Writing a split: finished clips go to parts, and the parts become the split's files."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xxhash
from numpy.typing import NDArray

from audiomos_cache.buffers import Buffer
from audiomos_cache.cache import store
from audiomos_cache.cache.file import CacheFile
from audiomos_cache.cache.format import CachedClip, CachedPrompt, Header, hash_prompt
from audiomos_cache.cache.lock import Shard
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cache.straight import StraightFile
from audiomos_cache.cache.verify import verify_file
from audiomos_cache.cache.write import write_file
from audiomos_cache.errors import CacheError

CLIPS_PER_PART = 256
SECONDS_PER_PART = 30.0
STRAIGHT_BYTES_PER_PART = 4 * 10**9
BYTES_PER_FILE = 8 * 10**9

Done = Mapping[str, tuple[CacheFile, int]]


@dataclass(slots=True)
class PartWriter:
    """Collects finished clips and publishes them as a part every 256 clips or 30 s.

    With a `StraightFile`, clips are not held in memory but go to their place in the split's file at once, and to a part
    only every 30 s or 4 GB, where there is still something to be done then: a kill costs no more than without.

    Attributes:
        cache: the cache folder.
        header: of the split; its parts are written with `complete` False, and with the clips that were skipped.
        prompts: features of every prompt that a clip may have, by text.
        shard: whose clips these are, where several processes write the split.
        straight: the split's file; None: there is none yet, parts become the file at the end.
    """

    cache: Path
    header: Header
    prompts: Mapping[str, CachedPrompt]
    shard: Shard | None = None
    straight: StraightFile | None = None
    clips_per_part: int = CLIPS_PER_PART
    seconds_per_part: float = SECONDS_PER_PART
    _clips: list[CachedClip] = field(default_factory=list)
    _frames: list[NDArray[Any]] = field(default_factory=list)
    _skipped: list[tuple[str, str]] = field(default_factory=list)
    _since: float = field(default_factory=time.monotonic)

    def add(self, clips: Sequence[CachedClip], frames: Sequence[NDArray[Any]]) -> None:
        """Take the clips of one encoded batch, (layers, frames, audio_dim) each, and publish a part when it is time.

        The frames may be overwritten afterwards.
        """
        if self.straight and not all(map(self.straight.fits, clips)):
            self._leave_straight()  # a clip whose header misled
        if self.straight:
            for clip, rows in zip(clips, frames, strict=True):
                with self._given_up_at_an_error():
                    self.straight.write(clip, rows)
                self._clips.append(clip)
            held = sum(clip.frames for clip in self._clips) * self.header.frame_bytes
            full = held >= STRAIGHT_BYTES_PER_PART and not self.straight.is_filled
        else:
            if self._clips and len(self._clips) + len(clips) > self.clips_per_part:
                self.flush()
            self._clips += clips
            self._frames += [rows.copy() for rows in frames]
            full = len(self._clips) >= self.clips_per_part
        if full or time.monotonic() - self._since >= self.seconds_per_part:
            self.flush()

    def skip(self, clip_id: str, reason: str) -> None:
        """Note a clip that is left out; other shards learn of it from the next part."""
        if self.straight:
            self._leave_straight()
        self._skipped.append((clip_id, reason))

    def publish_straight(self) -> None:
        """Give the split's file its name, where all clips went straight to it; what was collected is done then.

        Raises:
            CacheError: the disk fails, or does not give back what was written.
        """
        if self.straight and self.straight.is_filled:
            clips, prompts = self.straight.content
            hashes = {prompt.text: hash_prompt(prompt) for prompt in prompts}
            with self._given_up_at_an_error():
                self.straight.complete(hash_split(self.header, clips, (hashes[clip.prompt] for clip in clips)))
                publish_checked(self.straight.path, self.straight.final, frames=False)  # they have been looked at
                self.straight.close()
            self.straight = None
            self._clear()

    def close(self) -> None:
        """Publish what is left, also after an error or an interrupt."""
        try:
            self.flush()
        finally:
            if self.straight:
                self.straight.give_up()
                self.straight = None

    @contextmanager
    def _given_up_at_an_error(self) -> Iterator[None]:
        """Give up what is in the split's file where the disk fails, as `flush` does, but not at an interrupt."""
        try:
            yield
        except Exception:
            self._clear()
            if self.straight:
                self.straight.give_up()
                self.straight = None
            raise

    def _leave_straight(self) -> None:
        """Go on without the split's file, in which a clip has no place or is missing."""
        assert self.straight
        self.flush()
        self.straight.give_up()
        self.straight = None

    def flush(self) -> None:
        """Publish what has been collected. A clip counts as done only after this.

        Raises:
            CacheError: the disk is full or failed. What was collected is given up then: it is not written again.
        """
        try:
            if self._clips or self._skipped:
                header = replace(self.header, complete=False, skipped=tuple(self._skipped))
                prompts = [self.prompts[text] for text in dict.fromkeys(clip.prompt for clip in self._clips)]
                frames = self.straight.read(self._clips) if self.straight else self._frames
                write_part(self.cache, header, self._clips, prompts, frames, self.shard)
        except Exception:
            self._clear()
            raise
        self._clear()

    def _clear(self) -> None:
        self._clips, self._frames, self._skipped, self._since = [], [], [], time.monotonic()


def write_part(
    cache: Path,
    header: Header,
    clips: Sequence[CachedClip],
    prompts: Sequence[CachedPrompt],
    frames: Iterable[NDArray[Any]],
    shard: Shard | None = None,
) -> None:
    """Publish a part with these clips, unless an interrupt came just after it was published before."""
    ids = [clip.id for clip in clips] + [f"skipped {clip_id}" for clip_id, _ in header.skipped]
    final = store.part_path(cache, header.split, ids)
    if not final.exists():
        store.make_parts_folder(cache, header.split)
        temporary = store.temporary_path(final, shard)
        write_file(temporary, header, clips, prompts, frames)
        publish_checked(temporary, final)


def done_clips(files: Sequence[CacheFile]) -> dict[str, tuple[CacheFile, int]]:
    """Return the clips that files hold: id -> (file, place in it)."""
    return {clip_id: (file, place) for file in files for place, clip_id in enumerate(file.ids)}


def split_and_parts(cache: Path, split: str) -> list[CacheFile]:
    """Open all files of a split, finished ones and parts.

    Of several finished files some may be missing, after a kill while they were published: their clips are in the parts.

    Raises:
        CacheError: a file is damaged, or the files have different fingerprints.
    """
    files = [CacheFile(path) for path in store.every_file(cache, split) + store.part_files(cache, split)]
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

    A finished split that lacked clips (skipped ones, since mended) is succeeded by one that has them too.

    Args:
        cache: the cache folder, locked for this split.
        header: of the split.
        order: position in the dataset's list of each clip, in the order of the files; each must be in `done`.
        done: where each clip's features are.
        bytes_per_file: the split is cut into several files where it is larger.
        progress: told (done, total) clips.
    Returns:
        The files.
    Raises:
        CacheError: a done clip's features do not match their hash, or the disk is full or fails.
    """
    header = replace(header, complete=True, batch_size=0, split_hash=_split_hash(header, order, done))
    if not _is_published(cache, header):
        groups = _groups(order, done, header, bytes_per_file)
        finals = [cache / name for name in store.file_names(header.split, len(groups))]
        temporaries = [store.temporary_path(final) for final in finals]
        finished = 0
        with _removed_at_an_error(*temporaries):  # where the disk is full, they take space that is needed
            for index, (temporary, ids) in enumerate(zip(temporaries, groups, strict=True)):
                own = replace(header, file_index=index, file_count=len(groups))
                copy_clips(temporary, own, [done[clip_id] for clip_id in ids], [order[clip_id] for clip_id in ids])
                _check_written(temporary)
                finished += len(ids)
                progress(finished, len(order))
        for old in store.every_file(cache, header.split):
            store.make_part(old, header.split, [old.name, *CacheFile(old).ids])
        for temporary, final in zip(temporaries, finals, strict=True):
            store.publish(temporary, final)
    store.remove_parts(cache, header.split)
    return store.split_files(cache, header.split)


def copy_clips(
    path: Path, header: Header, sources: Sequence[tuple[CacheFile, int]], positions: Sequence[int] | None = None
) -> None:
    """Write clips that other files hold, with their prompts, to a new file, hash-checked on the way.

    Args:
        path: the new file, not yet published.
        header: of the new file.
        sources: (file, place in it) of each clip, in the new file's order.
        positions: of the clips in the dataset's list, where they change.
    Raises:
        CacheError: a clip's features do not match their hash.
    """
    clips = [file.clip(place) for file, place in sources]
    if positions is not None:
        clips = [replace(clip, position=position) for clip, position in zip(clips, positions, strict=True)]
    prompts: dict[str, CachedPrompt] = {}
    for clip, (file, place) in zip(clips, sources, strict=True):
        if clip.prompt not in prompts:
            prompts[clip.prompt] = file.read_prompt(file.prompt_row(place))
    write_file(path, header, clips, list(prompts.values()), _frames_of(sources, header))


def _frames_of(sources: Sequence[tuple[CacheFile, int]], header: Header) -> Iterator[NDArray[Any]]:
    """Read the frames of each clip, all layers, into memory that is used again for the next."""
    buffer = Buffer()
    for file, place in sources:
        rows = buffer.take((len(header.layers), file.frames_of(place), header.audio_dim), header.dtype)
        for layer, out in zip(header.layers, rows, strict=True):
            file.read_frames(place, out, layer=layer, padding=True)
        yield rows


def publish_checked(temporary: Path, final: Path, *, frames: bool = True) -> None:
    """Publish a file after reading it back, or all of it but the frames."""
    with _removed_at_an_error(temporary):
        _check_written(temporary, frames=frames)
        store.publish(temporary, final)


@contextmanager
def _removed_at_an_error(*temporaries: Path) -> Iterator[None]:
    """Remove files that are not published yet when there is an error or an interrupt."""
    try:
        yield
    except BaseException:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
        raise


def _check_written(temporary: Path, *, frames: bool = True) -> None:
    """Read a file back before it is published, and refuse it if the disk does not give what was written."""
    damaged = (verify_file(temporary) if frames else verify_file(temporary, frames=False)).damaged
    if damaged:
        raise CacheError(f"{temporary}: reads back otherwise than it was written ({damaged[0]}); check the disk")


def _is_published(cache: Path, header: Header) -> bool:
    try:
        return CacheReader(cache, header.split).split_hash == header.split_hash
    except CacheError:
        return False


def _split_hash(header: Header, order: Mapping[str, int], done: Done) -> str:
    """Hash all that is known of a split's clips that are done."""
    sources = [(*done[clip_id], position) for clip_id, position in order.items()]
    clips = (replace(file.clip(place), position=position) for file, place, position in sources)
    hashes = (file.column("text/feature_hash")[file.prompt_row(place)].tobytes() for file, place, _ in sources)
    return hash_split(header, clips, hashes)


def hash_split(header: Header, clips: Iterable[CachedClip], prompt_hashes: Iterable[bytes]) -> str:
    """Hash all that is known of a split's clips, the hashes of their features and of each one's prompt among it."""
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
        file, place = done[clip_id]
        size = file.frames_of(place) * header.frame_bytes
        if groups[-1] and used + size > bytes_per_file:
            groups.append([])
            used = 0
        groups[-1].append(clip_id)
        used += size
    return groups
