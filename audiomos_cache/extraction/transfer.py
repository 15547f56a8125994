"""Transfer of waveforms to the encoder's device, and of features back, without making a GPU wait.

The CPU waits for nothing but a buffer that is still in use: copies run on streams of their own, from and to pinned
memory.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from queue import Queue
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomos_cache.audio.decode import Audio, fit_length, resampled
from audiomos_cache.audio.resample import resampler_on
from audiomos_cache.encoders.base import AudioEncoder
from audiomos_cache.profiling import OFF, Profile

BUFFERS = 3  # one being copied, one ready, one being filled
Download = tuple[Callable[[], tuple[NDArray[Any], list[bool]]], Callable[[], None]]


class Transfer(Protocol):
    """Moves clips to an encoder's device, and features back."""

    def prepare(self, clip: Audio) -> Audio:
        """Do what is done on the CPU, on the thread that decoded the clip."""

    def upload(self, clips: Sequence[Audio], length: int) -> Tensor:
        """Return (B, length) float32 at the encoder's rate, padded with zeros or cut, on the encoder's device."""

    def download(self, frames: Tensor, finite: Tensor) -> Download:
        """Begin to fetch features and (B,) flags.

        Returns:
            A function that waits for them and returns them, and one to call when they are no longer needed.
        """


def transfer_for(audio: AudioEncoder, profile: Profile = OFF) -> Transfer:
    """Return the transfer to an encoder's device."""
    return CudaTransfer(audio, profile) if audio.device.type == "cuda" else CpuTransfer(audio, profile)


class CpuTransfer:
    """Copies nothing: clips are resampled on the thread that decodes them."""

    def __init__(self, audio: AudioEncoder, profile: Profile) -> None:
        self._audio, self._profile = audio, profile

    def prepare(self, clip: Audio) -> Audio:
        """Resample to the encoder's rate."""
        with self._profile.stage("resample"):
            return resampled(clip, self._audio.sample_rate_hz)

    def upload(self, clips: Sequence[Audio], length: int) -> Tensor:
        """Stack the clips."""
        return torch.from_numpy(np.stack([fit_length(clip.samples, length) for clip in clips]))

    def download(self, frames: Tensor, finite: Tensor) -> Download:
        """Return the features as they are."""
        return lambda: (frames.numpy(), finite.tolist()), lambda: None


class CudaTransfer:
    """Copies while the encoder runs, and resamples on the GPU, with the same kernel as on the CPU."""

    def __init__(self, audio: AudioEncoder, profile: Profile) -> None:
        self._rate, self._device, self._profile = audio.sample_rate_hz, audio.device, profile
        self._up, self._down = (torch.cuda.Stream(audio.device) for _ in range(2))  # type: ignore[no-untyped-call]
        self._sent: Queue[tuple[Tensor, Any]] = Queue()
        self._free: list[Tensor] = []  # for features; the queue of `BackgroundWorker` bounds how many are in use
        for _ in range(BUFFERS):
            self._sent.put((torch.empty(0), None))

    def prepare(self, clip: Audio) -> Audio:
        """Leave the rate as it is, unless it needs a kernel too large."""
        if clip.sample_rate_hz == self._rate or resampler_on(self._device, clip.sample_rate_hz, self._rate):
            return clip
        with self._profile.stage("resample"):
            return resampled(clip, self._rate)

    def upload(self, clips: Sequence[Audio], length: int) -> Tensor:
        """Copy the clips of each rate together, and resample them."""
        waveforms = torch.zeros(len(clips), length, device=self._device)
        by_rate: dict[int, list[int]] = {}
        for index, clip in enumerate(clips):
            by_rate.setdefault(clip.sample_rate_hz, []).append(index)
        for rate, indices in by_rate.items():
            own = self._send([clips[index].samples for index in indices])
            lengths = torch.tensor([clips[index].length for index in indices]).to(self._device, non_blocking=True)
            rows = slice(None) if len(by_rate) == 1 else torch.tensor(indices).to(self._device)
            with self._profile.stage("resample", self._device):
                own = resample_rows(own, lengths, rate, self._rate)[:, :length]
                waveforms[rows, : own.shape[1]] = own
        return waveforms

    def download(self, frames: Tensor, finite: Tensor) -> Download:
        """Copy the features on a stream of their own."""
        host = _at_least(self._free.pop() if self._free else torch.empty(0), frames.numel(), frames.dtype)
        fetched = host[: frames.numel()].view(frames.shape)
        flags = torch.empty(finite.shape, dtype=finite.dtype, pin_memory=True)
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._down), self._profile.stage("copy", self._device):
            fetched.copy_(frames, non_blocking=True)
            flags.copy_(finite, non_blocking=True)
        done.record(self._down)
        for tensor in (frames, finite):
            tensor.record_stream(self._down)

        def wait() -> tuple[NDArray[Any], list[bool]]:
            done.synchronize()
            return fetched.numpy(), flags.tolist()

        return wait, lambda: self._free.append(host)

    def _send(self, samples: Sequence[NDArray[np.float32]]) -> Tensor:
        """Copy clips to the GPU, each padded to the longest; returns (B, longest)."""
        longest = max(map(len, samples))
        buffer, sent = self._sent.get()
        if sent is not None:
            sent.synchronize()
        buffer = _at_least(buffer, len(samples) * longest, torch.float32)
        host = buffer[: len(samples) * longest].view(len(samples), longest)
        rows = host.numpy()
        for row, own in zip(rows, samples, strict=True):
            row[: len(own)] = own
            row[len(own) :] = 0
        sent = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._up), self._profile.stage("copy", self._device):
            copied = host.to(self._device, non_blocking=True)
        sent.record(self._up)
        self._sent.put((buffer, sent))
        used_on = torch.cuda.current_stream(self._device)
        used_on.wait_stream(self._up)
        copied.record_stream(used_on)
        return copied


def resample_rows(rows: Tensor, lengths: Tensor, rate_hz: int, new_rate_hz: int) -> Tensor:
    """Resample clips of one rate together, on their device.

    Args:
        rows: (B, n) float32, each clip followed by zeros.
        lengths: (B,) of the clips at the new rate, on the same device.
        rate_hz, new_rate_hz: a ratio that `resampler_on` has a kernel for.
    Returns:
        (B, ceil(n * new / old)), each clip as `audio.resample` resamples it alone, followed by zeros.
    """
    if rate_hz != new_rate_hz:
        rows = resampler_on(rows.device, rate_hz, new_rate_hz)(rows)
    # The filter rings beyond a clip's end, where zeros are expected.
    return rows * (torch.arange(rows.shape[1], device=rows.device) < lengths[:, None])


def on_own_stream(device: torch.device) -> AbstractContextManager[Any]:
    """Let a thread's work on a GPU run at the same time as what other threads have queued; on a CPU, do nothing."""
    if device.type != "cuda":
        return nullcontext()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.default_stream(device))
    return torch.cuda.stream(stream)


def _at_least(buffer: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Return a buffer in pinned memory: this one, if it is large enough."""
    fits = buffer.numel() >= size and buffer.dtype == dtype
    return buffer if fits else torch.empty(size, dtype=dtype, pin_memory=True)
