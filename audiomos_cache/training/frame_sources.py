"""Sources of a batch's frames: read from the cache for each batch, or held in RAM or on the GPU.

The source decides how long training takes and nothing else: a batch is the same, to the last bit.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import local
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomos_cache.cache.reader import CacheReader

READ_THREADS = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClipFrames:
    """The first frames of a clip at one layer: the valid ones, or all; `out` (frames, audio_dim) is for them."""

    reader: CacheReader
    index: int
    layer: int
    out: Tensor


class FrameSource(ABC):
    """Gathers the frames of clips into padded batches.

    Attributes:
        device: the device of the batches.
    """

    def __init__(self, device: torch.device, buffer_device: torch.device) -> None:
        self.device = device
        self._buffer = torch.empty(0)
        self._buffer_device = buffer_device
        self._room = torch.empty(0)
        self._pool = ThreadPoolExecutor(READ_THREADS)

    def counts(self, reader: CacheReader, *, padding: bool = False) -> NDArray[np.integer[Any]]:
        """Return how many frames each clip of a reader has in a batch, (clips,)."""
        return reader.frames if padding else reader.valid_frames

    def width(self, reader: CacheReader) -> int:
        """Return the width of a frame, audio_dim."""
        return reader.audio_dim

    def stored_dtype(self, reader: CacheReader) -> torch.dtype:
        """Return the type that frames have before they are widened to float32."""
        return torch.from_numpy(np.empty(0, reader.dtype)).dtype

    def gather(
        self,
        entries: Sequence[tuple[CacheReader, int]],
        layers: Sequence[int],
        *,
        padding: bool = False,
        reuse: bool = False,
    ) -> Tensor:
        """Gather clips.

        Args:
            entries: reader and index in it of each clip.
            layers: which of the stored layers.
            padding: all stored frames, those from the padding of the audio too; otherwise the valid ones.
            reuse: let the next call that says so write over what this one returns. On a CPU new memory for each batch
                takes longer than writing the frames.
        Returns:
            (B, layers, T, audio_dim) float32 on the device, zero after each clip's frames.
        Raises:
            CacheError: a clip's features are damaged; names the clip.
        """
        lengths = [int(self.counts(reader, padding=padding)[index]) for reader, index in entries]
        first = entries[0][0]
        shape = (len(entries), len(layers), max(lengths), self.width(first))
        if self.device.type == "cpu":
            return self._gather_on_cpu(shape, entries, layers, lengths, reuse=reuse)
        batch = self._take(shape, self.stored_dtype(first))
        self._fill(batch, entries, layers, lengths)
        # In this order: what crosses to a GPU is as narrow as it is stored.
        return batch.to(self.device).to(torch.float32, copy=True)

    def _gather_on_cpu(
        self,
        shape: tuple[int, ...],
        entries: Sequence[tuple[CacheReader, int]],
        layers: Sequence[int],
        lengths: Sequence[int],
        *,
        reuse: bool,
    ) -> Tensor:
        """Gather clips, each converted to float32 by the thread that has just read it.

        In a single torch call for the batch all threads would wait for each other: long, if others use the cores.
        """
        if reuse and self._room.numel() < math.prod(shape):
            self._room = _empty(math.prod(shape), torch.float32, self.device)
        held = self._room if reuse else _empty(math.prod(shape), torch.float32, self.device)
        room = held[: math.prod(shape)].view(shape)

        def put(row: int) -> None:
            (reader, index), length = entries[row], lengths[row]
            for layer, rows in zip(layers, room[row], strict=True):
                rows[:length].copy_(self._stored(reader, index, layer, length))
                rows.numpy()[length:] = 0

        _do_all(self._pool, put, range(len(entries)))
        return room

    @abstractmethod
    def _stored(self, reader: CacheReader, index: int, layer: int, length: int) -> Tensor:
        """Return the first frames of a clip as they are stored, (length, audio_dim), until the thread's next call."""

    @abstractmethod
    def _fill(
        self, batch: Tensor, entries: Sequence[tuple[CacheReader, int]], layers: Sequence[int], lengths: Sequence[int]
    ) -> None:
        """Write the first frames of each clip into its row of `batch`, (B, layers, T, audio_dim), and zeros after.

        It is called for a GPU alone; on a CPU `_stored` is used.
        """

    def _take(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a part of one allocation, which grows as needed; its content is undefined."""
        size = math.prod(shape)
        if self._buffer.numel() < size or self._buffer.dtype != dtype:
            pinned = self.device.type == "cuda" and self._buffer_device.type == "cpu"
            self._buffer = _empty(size, dtype, self._buffer_device, pinned=pinned)
        return self._buffer[:size].view(shape)


def _empty(size: int, dtype: torch.dtype, device: torch.device, *, pinned: bool = False) -> Tensor:
    """Return memory that may be used in and out of inference mode, which is a setting of each thread."""
    with torch.inference_mode(False):
        return torch.empty(size, dtype=dtype, device=device, pin_memory=pinned)


class FramesOnDisk(FrameSource):
    """Reads the clips of each batch from the cache, in a few threads."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device, buffer_device=torch.device("cpu"))
        self._own = local()

    def _stored(self, reader: CacheReader, index: int, layer: int, length: int) -> Tensor:
        size = length * reader.audio_dim
        held: Tensor | None = getattr(self._own, "held", None)
        if held is None or held.numel() < size or held.dtype != self.stored_dtype(reader):
            held = self._own.held = _empty(size, self.stored_dtype(reader), self.device)
        rows = held[:size].view(length, reader.audio_dim)
        _read_in_place(ClipFrames(reader, index, layer, rows))
        return rows

    def _fill(
        self, batch: Tensor, entries: Sequence[tuple[CacheReader, int]], layers: Sequence[int], lengths: Sequence[int]
    ) -> None:
        for rows, length in zip(batch, lengths, strict=True):
            rows[:, length:] = 0
        requests = (
            ClipFrames(reader, index, layer, rows[k, :length])
            for (reader, index), length, rows in zip(entries, lengths, batch, strict=True)
            for k, layer in enumerate(layers)
        )
        _do_all(self._pool, _read_in_place, requests)


class FramesInMemory(FrameSource):
    """Reads all frames of a cache's splits once, and keeps them in RAM or on the GPU.

    Args:
        readers, layers: whose frames are kept.
        held_on: the device that they are kept on.
        device: the device of the batches.
        padding: keep the frames from the padding of the audio too.
    Attributes:
        held: (rows, audio_dim) as they are stored, the frames of all clips end to end.
        nothing: the row of zeros in it, for what follows a clip's last frame.
    Raises:
        CacheError: a clip's features are damaged; names the clip.
    """

    def __init__(
        self,
        readers: Sequence[CacheReader],
        layers: Sequence[int],
        held_on: torch.device,
        device: torch.device,
        *,
        padding: bool = False,
    ) -> None:
        super().__init__(device, buffer_device=held_on)
        self._starts: dict[tuple[CacheReader, int], NDArray[np.int64]] = {}
        self.nothing = 0
        for reader in readers:
            stops = np.cumsum(self.counts(reader, padding=padding), dtype=np.int64)
            for layer in layers:
                self._starts[reader, layer] = self.nothing + np.concatenate(([0], stops))
                self.nothing += int(stops[-1])
        shape = (self.nothing + 1, readers[0].audio_dim)
        self.held = torch.empty(shape, dtype=self.stored_dtype(readers[0]), device=held_on)
        self.held[self.nothing] = 0
        requests = (
            ClipFrames(reader, index, layer, self.held[starts[index] : starts[index + 1]])
            for (reader, layer), starts in self._starts.items()
            for index in range(len(reader))
        )
        _do_all(self._pool, self._read, requests)

    def _read(self, clip: ClipFrames) -> None:
        """Read frames, and copy them to the device that they are held on."""
        frames = clip.reader.read_frames(clip.index, layer=clip.layer, padding=_has_padding(clip))
        clip.out.copy_(torch.from_numpy(frames))

    def width(self, reader: CacheReader) -> int:
        """Return the width of a frame, that of all readers."""
        del reader
        return self.held.shape[1]

    @property
    def on_gpu(self) -> bool:
        """Whether the frames are held on the device of the batches, and that is a GPU."""
        return self.held.device.type == self.device.type == "cuda"

    def first_rows(self, entries: Sequence[tuple[CacheReader, int]], layers: Sequence[int]) -> Tensor:
        """Return the row of each clip's first frame at each layer in `held`: (clips, layers) int64, on the CPU."""
        return torch.tensor(
            [[int(self._starts[reader, layer][index]) for layer in layers] for reader, index in entries]
        )

    def _fill(
        self, batch: Tensor, entries: Sequence[tuple[CacheReader, int]], layers: Sequence[int], lengths: Sequence[int]
    ) -> None:
        first = self.first_rows(entries, layers)
        rows = rows_to_take(first, torch.tensor(lengths), batch.shape[2], self.nothing).to(self.held.device)
        torch.index_select(self.held, 0, rows.flatten(), out=batch.view(-1, batch.shape[-1]))

    def _stored(self, reader: CacheReader, index: int, layer: int, length: int) -> Tensor:
        start = int(self._starts[reader, layer][index])
        return self.held[start : start + length]


def rows_to_take(first: Tensor, lengths: Tensor, longest: int, nothing: int) -> Tensor:
    """Return which rows of `FramesInMemory.held` make a batch.

    Args:
        first: (B, layers) int64, the first row of each clip.
        lengths: (B,), how many frames each clip has.
        longest: frames of the batch, at least those of its longest clip.
        nothing: the row of zeros.
    Returns:
        (B, layers, longest) int64.
    """
    offset = torch.arange(longest, device=first.device)
    return torch.where((offset < lengths[:, None])[:, None], first[:, :, None] + offset, nothing)


def _read_in_place(clip: ClipFrames) -> None:
    clip.reader.read_frames(clip.index, clip.out.numpy(), layer=clip.layer, padding=_has_padding(clip))


def _has_padding(clip: ClipFrames) -> bool:
    """Return whether frames from padding are among those that are requested."""
    return len(clip.out) > int(clip.reader.valid_frames[clip.index])


def _do_all(pool: ThreadPoolExecutor, work: Callable[[T], object], items: Iterable[T]) -> None:
    """Do some work on each item in the pool's threads, which are idle again when this returns or raises.

    The first item's error, or an interrupt, is raised here; what has not begun by then is not done.
    """
    futures: list[Future[object]] = []
    try:
        for item in items:
            futures.append(pool.submit(work, item))
        for future in futures:
            future.result()
    finally:
        for future in futures:
            future.cancel()
        wait(futures)
