"""Batches of the clips in a cache, on the device where a head is trained or run."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from audiomos_cache.batch import Batch, chunks, collate, pad_sequences
from audiomos_cache.cache.format import CachedPrompt
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.errors import CacheError, ConfigError
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.frame_sources import FramesInMemory, FrameSource, rows_to_take
from audiomos_cache.training.preload import PooledFrames, stand_ins

EVAL_SIZE = 32
GPU_EVAL_SIZE = 128  # a GPU that holds all features has room for more
UPSTREAM_EVAL_SIZE = 16  # the published code's; with its quirks a score depends on it

T = TypeVar("T")
S = TypeVar("S")


class FeatureBatches:
    """Gathers batches of a clip set, on the device of its frame source.

    The prompts' features are kept in memory: they are few.

    Args:
        clips: whose features.
        layers: which of the stored layers.
        frames: the source of the frames. If it is `PooledFrames`, the tokens are pooled once, too.
        upstream: make batches as the published code does, for heads with `compat: upstream`: clips with the frames
            from their padding, tokens padded with what the text encoder gives at padding, 16 of them at once in
            evaluation mode.
    Attributes:
        clips: in the order of the batches: that of their ids, whatever their order in a list.
    Raises:
        ConfigError: `upstream`, and the clips were not padded to one length. CacheError: a clip has no frame.
    """

    def __init__(self, clips: ClipSet, layers: Sequence[int], frames: FrameSource, *, upstream: bool = False) -> None:
        self.clips = clips.by_id()
        self.layers = tuple(layers)
        self.device = frames.device
        self._frames = frames
        self._upstream = upstream
        self._prompts: dict[str, CachedPrompt] = {}
        self._prompt_of_clip: dict[int, CachedPrompt] = {}
        _refuse_clips_without_frames(clips)
        if upstream:
            _refuse_own_lengths(clips)

    def __len__(self) -> int:
        return len(self.clips.ids)

    @property
    def eval_size(self) -> int:
        """How many clips to take at once in evaluation mode."""
        if self._upstream:
            return UPSTREAM_EVAL_SIZE
        return EVAL_SIZE if self.on_gpu is None else GPU_EVAL_SIZE

    @cached_property
    def on_gpu(self) -> "GpuClips | None":
        """The clips on the GPU, if they are held there; None with `upstream`, as scores depend on the padding then."""
        if self._upstream or not isinstance(self._frames, FramesInMemory) or not self._frames.on_gpu:
            return None
        prompts = [self._prompt(index) for index in range(len(self))]
        return GpuClips(self.clips.entries, prompts, self.layers, self._frames)

    def stream(self, batches: Sequence[list[int]]) -> Iterator[Batch]:
        """Gather batches one after the other; each may write over the one before.

        For a GPU that does not hold the frames, the next batch is copied while one is computed.
        """
        if self.device.type == "cuda" and self.on_gpu is None:
            yield from _copied_ahead(self.gather, batches, self.device)
        else:
            for indices in batches:
                yield self.gather(indices, reuse=True)

    def gather(self, indices: Sequence[int], *, reuse: bool = False) -> Batch:
        """Gather the clips at `indices` into one padded batch, in float32.

        Args:
            indices: at least one.
            reuse: let the next call that says so, of any clip set with the same frames, write over what is returned.
        Raises:
            CacheError: a clip's features are damaged; names the clip.
        """
        if self.on_gpu is not None:
            return self.on_gpu.gather(torch.tensor(indices, device=self.device))
        entries = [self.clips.entries[index] for index in indices]
        frames = self._frames.gather(entries, self.layers, padding=self._upstream, reuse=reuse)
        counts = torch.tensor([int(self._frames.counts(r, padding=self._upstream)[i]) for r, i in entries])
        prompts = [self._prompt(index) for index in indices]
        padding = [torch.from_numpy(each.pad_vector) for each in prompts] if self._upstream else None
        tokens, token_counts = pad_sequences([torch.from_numpy(each.tokens) for each in prompts], padding)
        return collate(frames.squeeze(1) if len(self.layers) == 1 else frames, counts, tokens, token_counts)

    def not_finite(self, indices: Sequence[int]) -> list[str]:
        """Name those of the clips at `indices` whose frames or tokens hold NaN or infinity."""
        found = []
        for some in chunks(indices, EVAL_SIZE):
            batch = self.gather(some)
            fine = [each.flatten(1).isfinite().all(dim=1) for each in (batch.frames, batch.tokens)]
            found += [self.clips.ids[i] for i, ok in zip(some, (fine[0] & fine[1]).tolist(), strict=True) if not ok]
        return found

    def _prompt(self, index: int) -> CachedPrompt:
        """Return the prompt of a clip, read once."""
        if index not in self._prompt_of_clip:
            self._prompt_of_clip[index] = self._read_prompt(*self.clips.entries[index])
        return self._prompt_of_clip[index]

    def _read_prompt(self, reader: CacheReader, index: int) -> CachedPrompt:
        key = reader.prompt(index)
        if key not in self._prompts:
            prompt = self._prompts[key] = reader.read_prompt(index)
            if not len(prompt.tokens):
                raise CacheError(f"{reader.cache}: the prompt {key!r} has no tokens, expected at least one")
            if isinstance(self._frames, PooledFrames):  # a head has one pooling for both
                self._prompts[key] = replace(prompt, tokens=stand_ins(prompt.tokens))
        return self._prompts[key]


class GpuClips:
    """Clips whose frames and tokens are all on the GPU; their batches are gathered there, without the host.

    All batches have as many frames as the longest clip and as many tokens as the longest prompt, so that the work on
    them can be captured once, as a CUDA graph. Masks hide the excess.

    Args:
        entries: reader and index in it of each clip.
        prompts: of each clip.
        layers: which of the stored layers.
        frames: held on the device of the batches.
    """

    def __init__(
        self,
        entries: Sequence[tuple[CacheReader, int]],
        prompts: Sequence[CachedPrompt],
        layers: Sequence[int],
        frames: FramesInMemory,
    ) -> None:
        device = frames.device
        self._frames, self._several = frames, len(layers) > 1
        counts = torch.tensor([int(frames.counts(reader)[index]) for reader, index in entries])
        self._longest = int(counts.max())
        self._counts = counts.to(device)
        self._first = frames.first_rows(entries, layers).to(device)
        distinct = {each.text: each for each in prompts}
        rows = {prompt: row for row, prompt in enumerate(distinct)}
        tokens, token_counts = pad_sequences([torch.from_numpy(each.tokens) for each in distinct.values()])
        self._tokens, self._token_counts = tokens.to(device), token_counts.to(device)
        self._prompt = torch.tensor([rows[each.text] for each in prompts]).to(device)

    def gather(self, clips: Tensor) -> Batch:
        """Gather clips.

        Args:
            clips: (B,) int64 on the device.
        Returns:
            Frames (B, T, D) as they are stored, T that of the longest clip of all, and tokens (B, L, text_dim),
            L likewise; zero beyond each clip's own.
        """
        counts, prompts = self._counts[clips], self._prompt[clips]
        rows = rows_to_take(self._first[clips], counts, self._longest, self._frames.nothing)
        frames = self._frames.held.index_select(0, rows.flatten()).view(*rows.shape, -1)
        own = frames if self._several else frames.squeeze(1)
        return collate(own, counts, self._tokens[prompts], self._token_counts[prompts])


def epoch_order(clips: int, seed: int, epoch: int) -> list[int]:
    """Return the order of the clips in an epoch; it depends on seed and epoch alone."""
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(clips).tolist()
    return order


def ahead(make: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """Call `make` for each item, in order, in a thread, one ahead of the result that is used.

    Raises:
        Exception: what `make` raises, instead of its result. The thread has ended then.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    pending: Future[T] | None = None
    try:
        for item in items:
            made, pending = pending, pool.submit(make, item)
            if made is not None:
                yield made.result()
        if pending is not None:
            yield pending.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _copied_ahead(
    gather: Callable[[list[int]], Batch], batches: Iterable[list[int]], device: torch.device
) -> Iterator[Batch]:
    """Gather batches for a GPU in a thread, which copies them there on a stream of its own."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(indices: list[int]) -> Batch:
        with torch.cuda.stream(stream):
            batch = gather(indices)
        stream.synchronize()  # here, where nothing waits for it
        return batch

    for batch in ahead(copy, batches):
        used_on = torch.cuda.current_stream(device)
        for tensor in batch:
            tensor.record_stream(used_on)  # so that the memory is not given to the next batch before that
        yield batch


def _refuse_clips_without_frames(clips: ClipSet) -> None:
    """Refuse clips that a head could not pool, once for all batches."""
    for (reader, index), clip_id in zip(clips.entries, clips.ids, strict=True):
        if not reader.valid_frames[index]:
            raise CacheError(f"{reader.cache}, clip {clip_id}: no frames, expected at least one; extract it again")


def _refuse_own_lengths(clips: ClipSet) -> None:
    """Refuse clips that were encoded at their own lengths: the published code pads every clip to 30 s first."""
    stored = {int(reader.frames[index]) for reader, index in clips.entries}
    if len(stored) > 1:
        raise ConfigError(
            f"compat: upstream: the clips of {clips.name} have from {min(stored)} to {max(stored)} frames, expected "
            "one number for all, as from audio that was padded; extract with --pad-to 30"
        )
