"""Writing a split: finished clips go to parts, and the parts become the split's files."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from audiomos_cache.cache import store
from audiomos_cache.cache.file import CacheFile
from audiomos_cache.cache.format import CachedClip, CachedPrompt, Header, write_file
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.errors import CacheError

CLIPS_PER_PART = 256
SECONDS_PER_PART = 30.0
BYTES_PER_FILE = 8 * 10**9


@dataclass(slots=True)
class PartWriter:
    """Collects finished clips and publishes them as a part every 256 clips or 30 s.

    Attributes:
        cache: the cache folder.
        header: of the split; its parts are written with `complete` False.
        prompts: features of every prompt that a clip may have, by text.
    """

    cache: Path
    header: Header
    prompts: Mapping[str, CachedPrompt]
    clips_per_part: int = CLIPS_PER_PART
    seconds_per_part: float = SECONDS_PER_PART
    _clips: list[CachedClip] = field(default_factory=list)
    _frames: list[NDArray[Any]] = field(default_factory=list)
    _since: float = field(default_factory=time.monotonic)

    def add(self, clips: Sequence[CachedClip], frames: Sequence[NDArray[Any]]) -> None:
        """Take the clips of one encoded batch, and publish a part when it is time."""
        self._clips += clips
        self._frames += frames
        if len(self._clips) >= self.clips_per_part or time.monotonic() - self._since >= self.seconds_per_part:
            self.flush()

    def flush(self) -> None:
        """Publish what has been collected. A clip counts as done only after this."""
        if self._clips:
            final = store.part_path(self.cache, self.header.split, (clip.id for clip in self._clips))
            if not final.exists():
                store.make_parts_folder(self.cache, self.header.split)
                temporary = final.with_suffix(store.TEMPORARY)
                prompts = [self.prompts[text] for text in _distinct(clip.prompt for clip in self._clips)]
                write_file(temporary, replace(self.header, complete=False), self._clips, prompts, self._frames)
                store.publish(temporary, final)
        self._clips, self._frames, self._since = [], [], time.monotonic()


def done_clips(cache: Path, split: str) -> dict[str, tuple[CacheFile, int]]:
    """Return the clips of a split that are done, in finished files or parts: id -> (file, place in it).

    Of several finished files some may be missing, after a kill while they were published: their clips are in the parts.
    """
    files = [CacheFile(path) for path in store.split_files(cache, split) + store.part_files(cache, split)]
    return {clip_id: (file, place) for file in files for place, clip_id in enumerate(file.ids)}


def is_published(cache: Path, split: str) -> bool:
    """Say whether a split has all its finished files, and no part that is not in them."""
    try:
        CacheReader(cache, split)
    except CacheError:
        return False
    return not store.part_files(cache, split)


def publish_split(
    cache: Path,
    header: Header,
    order: Sequence[str],
    done: Mapping[str, tuple[CacheFile, int]],
    bytes_per_file: int = BYTES_PER_FILE,
) -> list[Path]:
    """Write the finished files of a split from clips that are done, and remove its parts.

    A finished split that lacked clips (skipped ones, since mended) is replaced by one that has them too.

    Args:
        cache: the cache folder, locked for this split.
        header: of the split.
        order: ids in the order of the dataset; each must be in `done`.
        done: where each clip's features are.
        bytes_per_file: the split is cut into several files where it is larger.
    Returns:
        The files.
    Raises:
        CacheError: a done clip's features do not match their hash.
    """
    groups = _groups(order, done, header, bytes_per_file)
    names = [f"{header.split}.h5"] if len(groups) == 1 else [f"{header.split}-{i:05d}.h5" for i in range(len(groups))]
    temporaries = []
    for index, (name, ids) in enumerate(zip(names, groups, strict=True)):
        temporaries.append(cache / f"{name}{store.TEMPORARY}")
        sources = [done[clip_id] for clip_id in ids]
        copy_clips(temporaries[-1], header, sources, complete=True, index=index, count=len(groups))
    before = set(store.every_file(cache, header.split))
    for temporary, name in zip(temporaries, names, strict=True):
        (store.replace if cache / name in before else store.publish)(temporary, cache / name)
    for old in before - {cache / name for name in names}:
        old.unlink()
    store.remove_parts(cache, header.split)
    return [cache / name for name in names]


def _groups(
    order: Sequence[str], done: Mapping[str, tuple[CacheFile, int]], header: Header, bytes_per_file: int
) -> list[list[str]]:
    """Cut the clips into files of at most `bytes_per_file` of frames, at least one clip each."""
    groups: list[list[str]] = [[]]
    used = 0
    for clip_id in order:
        file, place = done[clip_id]
        size = file.clip(place).frames * header.audio_dim * header.dtype.itemsize
        if groups[-1] and used + size > bytes_per_file:
            groups.append([])
            used = 0
        groups[-1].append(clip_id)
        used += size
    return groups


def copy_clips(
    path: Path,
    header: Header,
    sources: Sequence[tuple[CacheFile, int]],
    *,
    complete: bool,
    index: int = 0,
    count: int = 1,
) -> None:
    """Write clips that other files hold, with their prompts, to a new file, hash-checked on the way.

    Args:
        path: the new file, not yet published.
        header: of the split.
        sources: (file, place in it) of each clip, in the new file's order.
        complete, index, count: what the new file is in its split; see `Header`.
    Raises:
        CacheError: a clip's features do not match their hash.
    """
    clips = [file.clip(place) for file, place in sources]
    prompts: dict[str, CachedPrompt] = {}
    for clip, (file, place) in zip(clips, sources, strict=True):
        if clip.prompt not in prompts:
            prompts[clip.prompt] = file.read_prompt(int(file.arrays["clips/prompt_row"][place]))

    def frames() -> Iterator[NDArray[Any]]:
        for file, place in sources:
            yield file.read_frames(place, padding=True)

    own = replace(header, complete=complete, file_index=index, file_count=count)
    write_file(path, own, clips, list(prompts.values()), frames())


def _distinct(values: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(values))
