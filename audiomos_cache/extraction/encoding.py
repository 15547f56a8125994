"""Encoding of decoded clips into the records and features that the cache stores."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomos_cache.audio.decode import Audio
from audiomos_cache.cache.format import CachedClip, hash_rows
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.encoders.base import AudioEncoder
from audiomos_cache.errors import EncoderError
from audiomos_cache.extraction.batching import group_by_length
from audiomos_cache.extraction.options import ExtractionOptions, not_finite
from audiomos_cache.extraction.transfer import Download, Transfer, transfer_for
from audiomos_cache.profiling import OFF, Profile

log = logging.getLogger(__name__)

Encoded = tuple[CachedClip, NDArray[Any]]
Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Started:
    """Clips of one length whose encoding has begun; on a GPU it may not be finished.

    Attributes:
        clips: each with its audio.
        waveforms: (B, samples), what is encoded.
        download: waits for the features, and releases their memory.
    """

    clips: list[tuple[Clip, Audio]]
    waveforms: Tensor
    download: Download

    def release(self) -> None:
        """Release the memory of the features; call it when they are no longer needed."""
        self.download[1]()


class BatchEncoder:
    """Encodes decoded clips in two steps, the second of which can be done by another thread.

    Attributes:
        notes: a line for each clip that was encoded in another precision than the others.
    """

    def __init__(
        self,
        audio: AudioEncoder,
        options: ExtractionOptions,
        transfer: Transfer | None = None,
        profile: Profile = OFF,
    ) -> None:
        self.notes: list[str] = []
        self._audio, self._options, self._profile = audio, options, profile
        self._transfer = transfer or transfer_for(audio, profile)
        self._encoder = WaveformEncoder(audio, options, self._transfer, profile)

    def start(self, decoded: Sequence[tuple[Clip, Audio]]) -> list[Started]:
        """Begin to encode clips, those of one length together."""
        started = []
        for length, same in group_by_length(decoded, self._audio, self._options).items():
            waveforms = self._encoder.upload([clip_audio for _, clip_audio in same], length)
            download = self._transfer.download(*self._encoder.encode(waveforms))
            started.append(Started(same, waveforms, download))
        return started

    def finish(self, started: Started) -> list[tuple[Clip, Encoded | EncoderError]]:
        """Wait for clips whose encoding has begun.

        Returns:
            Each clip with its record and its (layers, frames, dim) features as they are stored, which may be
            overwritten once `started.release` was called, or with what is wrong with them: NaN or Inf, in float32 too.
        """
        frames, finite = started.download[0]()
        if not all(finite) and self._audio.precision != "fp32":
            frames, finite = self._encode_again_in_fp32(started, frames, finite)
        with self._profile.stage("hash"):
            return [
                (clip, self._stored(clip, clip_audio, frames[:, index], fine=finite[index]))
                for index, (clip, clip_audio) in enumerate(started.clips)
            ]

    def _stored(self, clip: Clip, clip_audio: Audio, frames: NDArray[Any], *, fine: bool) -> Encoded | EncoderError:
        if fine:
            return _record(clip, clip_audio, frames, self._audio), frames
        problem = not_finite(self._audio.name, self._options.dtype)
        return EncoderError(f"{clip.id}: {problem}; check {clip.path}")

    def _encode_again_in_fp32(
        self, started: Started, frames: NDArray[Any], finite: list[bool]
    ) -> tuple[NDArray[Any], list[bool]]:
        """Encode the clips that overflowed once more, and note it."""
        bad = [index for index, fine in enumerate(finite) if not fine]
        again, finite_now = self._encoder.encode_fp32(started.waveforms[bad])
        frames, finite = frames.copy(), list(finite)
        frames[:, bad] = again.cpu().numpy()
        for index, fine in zip(bad, finite_now.tolist(), strict=True):
            finite[index] = fine
            precision = self._audio.precision
            self.notes.append(f"{started.clips[index][0].id}: NaN or Inf in {precision}, encoded in fp32")
        return frames, finite


class WaveformEncoder:
    """Encodes decoded clips of one length, on the encoder's device; a GPU may not have finished when it returns."""

    def __init__(
        self, audio: AudioEncoder, options: ExtractionOptions, transfer: Transfer, profile: Profile = OFF
    ) -> None:
        self._device, self._transfer, self._profile = audio.device, transfer, profile
        self._encode, self._encode_fp32 = InPieces(audio.encode), InPieces(audio.encode_fp32)
        self._dtype: torch.dtype = getattr(torch, options.dtype)

    @torch.inference_mode()
    def upload(self, clips: Sequence[Audio], length: int) -> Tensor:
        """Turn clips that `Transfer.prepare` gave into (B, length), each padded with zeros or cut."""
        return self._transfer.upload(clips, length)

    @torch.inference_mode()
    def encode(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, length) waveforms.

        Returns:
            (layers, B, T, dim) features in the dtype that they are stored in; (B,) bool, whether a clip's are finite.
        """
        with self._profile.stage("encode", self._device):
            frames = self._encode(waveforms).to(self._dtype)
        return frames, _finite(frames)

    @torch.inference_mode()
    def encode_fp32(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """Encode waveforms once more, in float32: those that overflowed in less. See `encode`."""
        frames = self._encode_fp32(waveforms).to(self._dtype)
        return frames, _finite(frames)


def _finite(frames: Tensor) -> Tensor:
    return torch.isfinite(frames).all(dim=3).all(dim=2).all(dim=0)


class InPieces:
    """Encodes a batch in pieces as large as the GPU's memory holds: where it runs out, they are halved from then on."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._most = 0  # no limit

    def __call__(self, waveforms: Tensor) -> Tensor:
        """Turn (B, samples) into (layers, B, T, dim).

        Raises:
            EncoderError: the memory does not hold a single clip.
        """
        while True:
            size = min(self._most or len(waveforms), len(waveforms))
            try:
                return torch.cat([self._encode(piece) for piece in torch.split(waveforms, size)], dim=1)
            except torch.OutOfMemoryError as error:
                if size == 1:
                    raise EncoderError(
                        "the GPU's memory does not hold a single clip; free some of it, or give --device cpu"
                    ) from error
            self._most = size // 2
            log.warning("out of GPU memory with %d clips at once; continuing with %d", size, self._most)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def encode_clips(
    decoded: Sequence[tuple[Clip, Audio]], audio: AudioEncoder, options: ExtractionOptions
) -> Iterator[tuple[Clip, Encoded | EncoderError]]:
    """Encode clips at once; see `BatchEncoder.finish` for what it yields."""
    encoder = BatchEncoder(audio, options)
    for started in encoder.start(decoded):
        yield from encoder.finish(started)
        started.release()


def valid_frames(clip_audio: Audio, stored: int, audio: AudioEncoder) -> int:
    """Return how many of a clip's `stored` frames come from its own samples and not from padding; at least 1."""
    return min(max(audio.frames_for(clip_audio.length), 1), stored)


def _record(clip: Clip, clip_audio: Audio, frames: NDArray[Any], audio: AudioEncoder) -> CachedClip:
    stored = frames.shape[1]
    valid = valid_frames(clip_audio, stored, audio)
    return CachedClip(
        id=clip.id,
        system=clip.system,
        prompt_id=clip.prompt_id,
        prompt=clip.prompt or "",
        mi=np.nan if clip.mi is None else float(clip.mi),
        ta=np.nan if clip.ta is None else float(clip.ta),
        duration_s=clip_audio.duration_s,
        audio_hash=clip_audio.file_hash,
        frames=stored,
        valid_frames=valid,
        feature_hash=tuple(hash_rows(layer[:valid]) for layer in frames),
        padding_hash=tuple(hash_rows(layer[valid:]) for layer in frames),
    )
