"""From decoded clips to what the cache keeps of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audiomos_cache.audio import Audio
from audiomos_cache.cache import CachedClip
from audiomos_cache.cache.format import hash_rows
from audiomos_cache.dataset import Clip
from audiomos_cache.encoders import AudioEncoder
from audiomos_cache.errors import EncoderError
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.extraction.waveforms import group_by_length

Encoded = tuple[CachedClip, NDArray[Any]]


def encode_clips(
    decoded: Sequence[tuple[Clip, Audio]], audio: AudioEncoder, options: ExtractionOptions
) -> Iterator[tuple[Clip, Encoded | EncoderError]]:
    """Encode clips, those of one length together.

    Yields:
        Each clip with its record and its (layers, frames, dim) features as they are stored, or with what is wrong
        with them: NaN or Inf.
    """
    for same in group_by_length(decoded, audio, options):
        waveforms = torch.from_numpy(np.stack([waveform for _, _, waveform in same]))
        encoded = audio.encode(waveforms).to(getattr(torch, options.dtype)).cpu().numpy()
        for place, (clip, sound, _) in enumerate(same):
            frames = encoded[:, place]
            if np.isfinite(frames).all():
                yield clip, (_record(clip, sound, frames, audio), frames)
            else:
                reason = f"{clip.id}: {audio.name} gives NaN or Inf as {options.dtype}; check {clip.path}"
                yield clip, EncoderError(reason)


def _record(clip: Clip, sound: Audio, frames: NDArray[Any], audio: AudioEncoder) -> CachedClip:
    stored = frames.shape[1]
    valid = min(max(audio.frames_for(len(sound.samples)), 1), stored)
    return CachedClip(
        id=clip.id,
        system=clip.system,
        prompt_id=clip.prompt_id,
        prompt=clip.prompt or "",
        mi=np.nan if clip.mi is None else clip.mi,
        ta=np.nan if clip.ta is None else clip.ta,
        duration_s=sound.duration_s,
        audio_hash=sound.file_hash,
        frames=stored,
        valid_frames=valid,
        feature_hash=tuple(hash_rows(layer[:valid]) for layer in frames),
        padding_hash=tuple(hash_rows(layer[valid:]) for layer in frames),
    )
