"""A split's finished file, filled while its clips are encoded: each of its bytes is written once.

Where the clips of a split are known beforehand, so is the offset of each in the finished file. The file has a temporary
name, which nothing reads, until it is complete: until then clips count as done only once they are in a part, as always.
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


class InPlaceFile:
    """The one file of a split, under its temporary name.

    Args:
        cache: the folder.
        header: of the split's parts.
        planned: what is known about all its clips before they are encoded, in its order; see `planned_clip`.
        prompts: features of all their prompts, by prompt.
    Raises:
        CacheError: the disk is full or fails; from each method too, and then nothing is left of the file.
    """

    def __init__(
        self, cache: Path, header: Header, planned: Sequence[CachedClip], prompts: Mapping[str, CachedPrompt]
    ) -> None:
        self.final = cache / paths.file_names(header.split, 1)[0]
        self.path = paths.temporary_path(self.final)
        self._header = replace(header, complete=True, batch_size=0, split_hash="0" * 2 * HASH_BYTES)
        self._planned = {clip.id: (index, clip) for index, clip in enumerate(planned)}
        self._prompts = [prompts[text] for text in dict.fromkeys(clip.prompt for clip in planned)]
        self._written: dict[str, CachedClip] = {}
        self._buffer = Buffer()
        self._stack = ExitStack()
        self._file = self._stack.enter_context(new_file(self.path, Content(self._header, planned, self._prompts)))
        self._unchecked: list[CachedClip] = []
        self._syncing = _Repeat(self._sync_and_check)
        self._stack.callback(self._syncing.stop)

    def fits(self, clip: CachedClip) -> bool:
        """Return whether a clip has as many frames as was planned."""
        return self._planned[clip.id][1].frames == clip.frames

    def write(self, clip: CachedClip, rows: NDArray[Any]) -> None:
        """Write the frames of a clip at their offset: (layers, frames, audio_dim)."""
        with self._given_up_on_error():
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
        """Write the index, force all to the disk, and check the frames that are not checked yet.

        After this the index can be checked, and the file can get its final name.
        """
        with self._given_up_on_error():
            self._syncing.stop()
            self._file.complete(Content(replace(self._header, split_hash=split_hash), *self.content))
            self._sync_and_check()

    def close(self) -> None:
        """Close the file, which has its final name."""
        self._stack.close()

    def give_up(self) -> None:
        """Close the file and remove it."""
        self._leave(_GivenUpError())

    @contextmanager
    def _given_up_on_error(self) -> Iterator[None]:
        """Remove the file at an error. After an interrupt it is still there to be read, until it is given up."""
        try:
            yield
        except Exception as error:
            self._leave(error)
            raise

    def _sync_and_check(self) -> None:
        """Force what was written to the disk, and read it back.

        Raises:
            CacheError: it differs from what was written. OSError: the disk fails.
        """
        clips, self._unchecked = self._unchecked, []
        self._file.sync()
        for clip in clips:
            rows = self._file.read_clip(self._planned[clip.id][0], clip.frames, self._buffer)
            for which, layer in enumerate(rows):
                found = hash_rows(layer[: clip.valid_frames]), hash_rows(layer[clip.valid_frames :])
                if found != (clip.feature_hash[which], clip.padding_hash[which]):
                    raise CacheError(
                        f"{self.path}, clip {clip.id}: reads back differently from what was written; check the disk"
                    )

    def _leave(self, error: Exception) -> None:
        with suppress(_GivenUpError):
            self._stack.__exit__(type(error), error, error.__traceback__)  # turns the disk's error into ours


class _GivenUpError(Exception):
    pass


class _Repeat:
    """Repeats work on a thread of its own, so that little of it is left at the end."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop repeating.

        Raises:
            Exception: what the work raised; the system reports only once that something did not reach the disk.
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
    """Return what decides the offset of a clip in a file, with nothing that only its encoding gives."""
    return CachedClip(
        clip_id, system, prompt_id, prompt, 0.0, 0.0, 0.0, bytes(HASH_BYTES), frames, frames,
        (bytes(HASH_BYTES),) * layers, (bytes(HASH_BYTES),) * layers,
    )  # fmt: skip
