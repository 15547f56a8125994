"""The pipeline of an extraction: decode ahead, encode, write finished clips on a thread of its own."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from queue import Full, Queue
from typing import Generic, TypeVar

from audiomos_cache.audio.decode import Audio, read_audio
from audiomos_cache.cache.parts import PartWriter
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.encoders.base import AudioEncoder
from audiomos_cache.errors import AudiomosError, DataError
from audiomos_cache.extraction.batching import decode_ahead, decode_threads
from audiomos_cache.extraction.encoding import BatchEncoder, Started
from audiomos_cache.extraction.options import ExtractionOptions, not_finite
from audiomos_cache.extraction.plan import Plan
from audiomos_cache.extraction.summary import SplitSummary
from audiomos_cache.extraction.transfer import on_own_stream, transfer_for
from audiomos_cache.profiling import Profile

T = TypeVar("T")
POLL_S = 0.05
MAX_WAITING = 8  # encoded batches of a GPU: they wait until the prompts are encoded, at the same time as the first


class BackgroundWorker(Generic[T]):
    """Calls a function for each item, in order, on a thread of its own.

    What the function raises, an interrupt included, is raised by the next `put`, or by `close`; items that wait then
    are dropped.

    Args:
        work: the function.
        drop: called with each item that is dropped.
        max_waiting: how many items wait at most before `put` does.
    """

    def __init__(
        self, work: Callable[[T], None], drop: Callable[[T], None] = lambda _item: None, max_waiting: int = MAX_WAITING
    ) -> None:
        self._work, self._drop = work, drop
        self._items: Queue[tuple[T] | None] = Queue(max_waiting)
        self._error: BaseException | None = None
        self._dropping = False
        self._thread = threading.Thread(target=self._run, name="write", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand over an item; wait while too many are waiting."""
        self._items.put((item,))
        self._raise()

    def close(self) -> None:
        """Wait until all items are done. An interrupt drops those that wait."""
        try:
            self._end()
        except BaseException:
            self._dropping = True
            self._end()
            raise
        self._raise()

    def _end(self) -> None:
        """Let the thread end. It is told again and again: where a `put` is interrupted, the next wakes nobody."""
        while self._thread.is_alive():
            with suppress(Full):
                self._items.put_nowait(None)
            self._thread.join(POLL_S)

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            self._dropping = True
            raise error

    def _run(self) -> None:
        while (item := self._items.get()) is not None:
            if self._error is not None or self._dropping:
                self._drop(item[0])
            else:
                try:
                    self._work(item[0])
                except BaseException as error:  # raised again in the other thread
                    self._error = error


Progress = Callable[[int, int], None]
_Skipped = tuple[str, str]  # id, reason
_Batch = tuple[int, list[Started], list[_Skipped]]  # how many clips, what is encoded of them, what is not


class Encoding:
    """Decodes ahead in threads, encodes, and hands finished clips to the writer on another thread, batch by batch."""

    def __init__(
        self,
        plan: Plan,
        clips: Sequence[Clip],
        audio: AudioEncoder,
        options: ExtractionOptions,
        make_writer: Callable[[], PartWriter],
        summary: SplitSummary,
        profile: Profile,
    ) -> None:
        self.plan, self.audio, self.options = plan, audio, options
        self.summary, self.profile = summary, profile
        self.make_writer = make_writer
        self.made: PartWriter | None = None
        self.positions = {clip.id: position for position, clip in enumerate(clips)}
        self.transfer = transfer_for(audio, profile)
        self.encoder = BatchEncoder(audio, options, self.transfer, profile)
        self.finished = plan.clips - len(plan.todo)

    def run(self, progress: Progress) -> None:
        """Encode all that is planned; after an error or an interrupt, what is encoded is kept."""
        reported = self.finished
        if self.audio.device.type != "cuda":  # all share the same cores there, so prompts come first
            self.made = self.make_writer()
        worker = BackgroundWorker(self._write, drop=_release)
        try:
            try:
                for batch in decode_ahead(self.plan.batches, self._decode, decode_threads(self.audio.device)):
                    worker.put((len(batch), *self._start(batch)))
                    if self.finished > reported:
                        reported = self.finished
                        progress(reported, self.plan.clips)
            finally:
                worker.close()
            with self.profile.stage("publish"):
                self.writer.publish_in_place()
        finally:
            if self.made:
                with self.profile.stage("write"):
                    self.made.close()
            self.summary.warnings += self.encoder.notes
        progress(self.finished, self.plan.clips)

    @property
    def writer(self) -> PartWriter:
        """The writer; on a GPU, the writing thread makes it and encodes the prompts, while the first batches run."""
        if self.made is None:
            with on_own_stream(self.audio.device):
                self.made = self.make_writer()
        return self.made

    def _decode(self, clip: Clip) -> Audio:
        if clip.prompt is None:
            raise DataError(f"{clip.id}: no prompt for {clip.prompt_id}; add it to the prompt list")
        if self.made and (error := self._prompt_error(clip)):
            raise error
        with self.profile.stage("decode"):
            clip_audio = read_audio(clip.path, self.audio.sample_rate_hz, self.options.max_seconds)
        return self.transfer.prepare(clip_audio)

    def _start(self, batch: Sequence[tuple[Clip, "Future[Audio]"]]) -> tuple[list[Started], list[_Skipped]]:
        """Begin to encode a batch; what cannot be decoded is skipped, or stops the extraction."""
        decoded, skipped = [], []
        for clip, future in batch:
            try:
                decoded.append((clip, future.result()))
            except DataError as error:
                self._stop_unless_skipped(error)
                skipped.append((clip.id, str(error)))
        self.summary.warnings += [warning for _, clip_audio in decoded for warning in clip_audio.warnings]
        return self.encoder.start(decoded), skipped

    def _write(self, item: _Batch) -> None:
        clips, started, skipped = item
        try:
            for each in started:
                skipped += self._store(each)
        finally:
            _release(item)
        self.summary.skipped += skipped
        for clip_id, reason in skipped:
            self.writer.skip(clip_id, reason)
        self.finished += clips

    def _store(self, started: Started) -> list[_Skipped]:
        """Give the features of clips to the writer; return those that have none."""
        records, features, skipped = [], [], []
        for clip, outcome in self.encoder.finish(started):
            encoded = self._prompt_error(clip) or outcome
            if isinstance(encoded, AudiomosError):
                self._stop_unless_skipped(encoded)
                skipped.append((clip.id, str(encoded)))
            else:
                records.append(replace(encoded[0], position=self.positions[clip.id]))
                features.append(encoded[1])
        with self.profile.stage("write"):
            self.writer.add(records, features)
        self.summary.encoded += len(records)
        return skipped

    def _prompt_error(self, clip: Clip) -> DataError | None:
        if clip.prompt in self.writer.prompts:
            return None
        problem = not_finite("the text encoder", self.options.dtype)
        return DataError(f"{clip.id}: {problem} for {clip.prompt!r}")

    def _stop_unless_skipped(self, error: AudiomosError) -> None:
        if self.options.on_error == "stop":
            raise type(error)(f"{error}; or leave such clips out with --on-error skip") from error


def _release(batch: _Batch) -> None:
    for started in batch[1]:
        started.release()
