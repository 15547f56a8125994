"""Writing clips as they are finished: to parts, or in place in the split's file. `publish.py` makes files of parts."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from audiomos_cache.cache import paths
from audiomos_cache.cache.file_writer import write_file
from audiomos_cache.cache.format import CachedClip, CachedPrompt, Header, hash_prompt
from audiomos_cache.cache.in_place import InPlaceFile
from audiomos_cache.cache.paths import Shard
from audiomos_cache.cache.publish import hash_split, publish_checked

CLIPS_PER_PART = 256
SECONDS_PER_PART = 30.0
IN_PLACE_BYTES_PER_PART = 4 * 10**9


@dataclass(slots=True)
class PartWriter:
    """Collects finished clips and publishes them as a part every 256 clips or 30 s.

    With an `InPlaceFile`, clips are not held in memory but are written to the split's file at once, and to a part only
    every 30 s or 4 GB, while there is still something to be done: a kill costs no more than without.

    Attributes:
        cache: the cache folder.
        header: of the split; its parts are written with `complete` False, and with the clips that were skipped.
        prompts: features of every prompt that a clip may have, by prompt.
        shard: whose clips these are, where several processes write the split.
        in_place: the split's file; None: parts become the file at the end.
    """

    cache: Path
    header: Header
    prompts: Mapping[str, CachedPrompt]
    shard: Shard | None = None
    in_place: InPlaceFile | None = None
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
        if self.in_place and not all(map(self.in_place.fits, clips)):
            self._leave_in_place()  # the header of a clip's audio gave a wrong length
        if self.in_place:
            for clip, rows in zip(clips, frames, strict=True):
                with self._given_up_on_error():
                    self.in_place.write(clip, rows)
                self._clips.append(clip)
            held = sum(clip.frames for clip in self._clips) * self.header.frame_bytes
            full = held >= IN_PLACE_BYTES_PER_PART and not self.in_place.is_filled
        else:
            if self._clips and len(self._clips) + len(clips) > self.clips_per_part:
                self.flush()
            self._clips += clips
            self._frames += [rows.copy() for rows in frames]
            full = len(self._clips) >= self.clips_per_part
        if full or time.monotonic() - self._since >= self.seconds_per_part:
            self.flush()

    def skip(self, clip_id: str, reason: str) -> None:
        """Record a clip that is left out; other shards find it in the next part."""
        if self.in_place:
            self._leave_in_place()
        self._skipped.append((clip_id, reason))

    def publish_in_place(self) -> None:
        """Give the split's file its final name, where all clips are written in it; what was collected is done then.

        Raises:
            CacheError: the disk fails, or what it reads back differs from what was written.
        """
        if self.in_place and self.in_place.is_filled:
            clips, prompts = self.in_place.content
            hashes = {prompt.text: hash_prompt(prompt) for prompt in prompts}
            with self._given_up_on_error():
                self.in_place.complete(hash_split(self.header, clips, (hashes[clip.prompt] for clip in clips)))
                publish_checked(self.in_place.path, self.in_place.final, frames=False)  # they are checked already
                self.in_place.close()
            self.in_place = None
            self._clear()

    def close(self) -> None:
        """Publish what is left, also after an error or an interrupt."""
        try:
            self.flush()
        finally:
            if self.in_place:
                self.in_place.give_up()
                self.in_place = None

    @contextmanager
    def _given_up_on_error(self) -> Iterator[None]:
        """Give up what is in the split's file where the disk fails, as `flush` does, but not at an interrupt."""
        try:
            yield
        except Exception:
            self._clear()
            if self.in_place:
                self.in_place.give_up()
                self.in_place = None
            raise

    def _leave_in_place(self) -> None:
        """Continue without the split's file, in which a clip does not fit or is missing."""
        assert self.in_place
        self.flush()
        self.in_place.give_up()
        self.in_place = None

    def flush(self) -> None:
        """Publish what has been collected. A clip counts as done only after this.

        Raises:
            CacheError: the disk is full or failed. What was collected is given up then: it is not written again.
        """
        try:
            if self._clips or self._skipped:
                header = replace(self.header, complete=False, skipped=tuple(self._skipped))
                prompts = [self.prompts[text] for text in dict.fromkeys(clip.prompt for clip in self._clips)]
                frames = self.in_place.read(self._clips) if self.in_place else self._frames
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
    final = paths.part_path(cache, header.split, ids)
    if not final.exists():
        paths.make_parts_folder(cache, header.split)
        temporary = paths.temporary_path(final, shard)
        write_file(temporary, header, clips, prompts, frames)
        publish_checked(temporary, final)
