"""A split's finished file, filled while its clips are encoded: each of its bytes is written once.

Where the clips of a split are known beforehand, so is the place of each of them in the finished file. What is filled
has no name that is read until it is whole: until then clips count as done only once they are in a part, as always.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from audiomos_cache.cache import paths
from audiomos_cache.cache.file_writer import Content, new_file
from audiomos_cache.cache.format import HASH_BYTES, CachedClip, CachedPrompt, Header, hash_rows
from audiomos_cache.cache.stable_file import Buffer
from audiomos_cache.errors import CacheError

SECONDS_BETWEEN_SYNCS = 0.1


class StraightFile:
    """The one file of a split, under its temporary name.

    Args:
        cache: the folder.
        header: of the split's parts.
        planned: what is known of all its clips before they are encoded, in its order; see `planned_clip`.
        prompts: features of all their prompts, by text.
    Raises:
        CacheError: the disk is full or fails; from each method too, and then nothing is left of the file.
    """

    def __init__(
        self, cache: Path, header: Header, planned: Sequence[CachedClip], prompts: Mapping[str, CachedPrompt]
    ) -> None:
        self.final = cache / paths.file_names(header.split, 1)[0]
        self.path = paths.temporary_path(self.final)
        self._header = replace(header, complete=True, batch_size=0, split_hash="0" * 2 * HASH_BYTES)
        self._planned = {clip.id: (place, clip) for place, clip in enumerate(planned)}
        self._prompts = [prompts[text] for text in dict.fromkeys(clip.prompt for clip in planned)]
        self._written: dict[str, CachedClip] = {}
        self._buffer = Buffer()
        self._stack = ExitStack()
        self._file = self._stack.enter_context(new_file(self.path, Content(self._header, planned, self._prompts)))
        self._unchecked: list[CachedClip] = []
        self._syncing = _Again(self._sync_and_check)
        self._stack.callback(self._syncing.stop)

    def fits(self, clip: CachedClip) -> bool:
        """Say whether a clip has as many frames as was planned."""
        return self._planned[clip.id][1].frames == clip.frames

    def write(self, clip: CachedClip, rows: NDArray[Any]) -> None:
        """Write the frames of a clip to their place: (layers, frames, audio_dim)."""
        with self._given_up_at_an_error():
            self._file.write_clip(self._planned[clip.id][0], clip, rows)
        self._written[clip.id] = clip
        self._unchecked.append(clip)

    def read(self, clips: Sequence[CachedClip]) -> Iterator[NDArray[Any]]:
        """Read back the frames of clips that were written, each into the memory of the one before."""
        buffer = Buffer()
        for clip in clips:
            yield self._file.read_clip(self._planned[clip.id][0], clip.frames, buffer)

    @property
    def is_filled(self) -> bool:
        """Whether all clips are written."""
        return len(self._written) == len(self._planned)

    @property
    def content(self) -> tuple[list[CachedClip], list[CachedPrompt]]:
        """The clips that were written, in the file's order, and all prompts."""
        return [self._written[clip_id] for clip_id in self._planned if clip_id in self._written], self._prompts

    def complete(self, split_hash: str) -> None:
        """Write the index, force all to the disk, and look at what is left of the frames.

        The index is ready to be looked at, and the file to be named, then.
        """
        with self._given_up_at_an_error():
            self._syncing.stop()
            self._file.complete(Content(replace(self._header, split_hash=split_hash), *self.content))
            self._sync_and_check()

    def close(self) -> None:
        """Let go of the file, which has its name."""
        self._stack.close()

    def give_up(self) -> None:
        """Let go of the file and remove it."""
        self._leave(_GivenUpError())

    @contextmanager
    def _given_up_at_an_error(self) -> Iterator[None]:
        """Remove the file at an error. After an interrupt it is still there to be read, until it is given up."""
        try:
            yield
        except Exception as error:
            self._leave(error)
            raise

    def _sync_and_check(self) -> None:
        """Force what was written to the disk, and read it back.

        Raises:
            CacheError: it is not what was written. OSError: the disk fails.
        """
        clips, self._unchecked = self._unchecked, []
        self._file.sync()
        for clip in clips:
            rows = self._file.read_clip(self._planned[clip.id][0], clip.frames, self._buffer)
            for which, layer in enumerate(rows):
                found = hash_rows(layer[: clip.valid_frames]), hash_rows(layer[clip.valid_frames :])
                if found != (clip.feature_hash[which], clip.padding_hash[which]):
                    raise CacheError(
                        f"{self.path}, clip {clip.id}: reads back otherwise than it was written; check the disk"
                    )

    def _leave(self, error: Exception) -> None:
        with suppress(_GivenUpError):
            self._stack.__exit__(type(error), error, error.__traceback__)  # says in our words what the disk said


class _GivenUpError(Exception):
    pass


class _Again:
    """Does something again and again on a thread, so that little of it is left to do at the end."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it.

        Raises:
            Exception: what it raised; the system says only once that something did not reach the disk.
        """
        self._stop.set()
        self._thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_SYNCS):
            try:
                self._work()
            except Exception as error:
                self._error = error
                return


def planned_clip(clip_id: str, system: str, prompt_id: str, prompt: str, frames: int, layers: int) -> CachedClip:
    """Return what decides where a clip's content lies in a file, with nothing of what its encoding will tell."""
    return CachedClip(
        clip_id, system, prompt_id, prompt, 0.0, 0.0, 0.0, bytes(HASH_BYTES), frames, frames,
        (bytes(HASH_BYTES),) * layers, (bytes(HASH_BYTES),) * layers,
    )  # fmt: skip
