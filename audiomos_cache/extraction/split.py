"""The loop: run the frozen encoders once over a split, skip what is done, write the cache.

Batches are cut from the whole split, before what is done is taken out, so an interrupted extraction that goes on
encodes the same batches as one that was never interrupted, and ends with the same bytes.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audiomos_cache.audio import Audio, decode
from audiomos_cache.cache import CachedClip, CacheReader, Header
from audiomos_cache.cache.format import hash_rows
from audiomos_cache.cache.store import clear_temporaries, locked, remove_split, split_files
from audiomos_cache.cache.verify import set_damaged_aside
from audiomos_cache.cache.writer import PartWriter, done_clips, is_published, publish_split
from audiomos_cache.dataset import Clip
from audiomos_cache.encoders import UNTRAINED_NOTICE, AudioEncoder, TextEncoder
from audiomos_cache.errors import AudiomosError, DataError, EncoderError
from audiomos_cache.extraction import preflight
from audiomos_cache.extraction.options import ExtractionOptions, fingerprint_of
from audiomos_cache.extraction.prompts import encode_prompts
from audiomos_cache.extraction.waveforms import bytes_needed, cut_batches, decode_ahead, group_by_length, lengths_of

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class SplitSummary:
    """What an extraction did: clips in the split, encoded now, left out (id, reason), odd and damaged things it saw."""

    split: str
    clips: int = 0
    encoded: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def extract_split(
    clips: Sequence[Clip],
    cache: Path,
    audio: AudioEncoder,
    text: TextEncoder,
    options: ExtractionOptions,
    progress: Progress = lambda _done, _total: None,
    *,
    together_with: Collection[str] = (),
) -> SplitSummary:
    """Extract the features of one split into `cache`; go on where an earlier extraction stopped.

    Args:
        clips: of one split, in the dataset's order.
        cache: the cache folder; made if missing.
        audio, text: the encoders.
        options: how to extract.
        progress: told (done, total) clips after each batch.
        together_with: other splits that are overwritten too, and so may still have another fingerprint.
    Raises:
        DataError: a bad clip, with `on_error` "stop"; what is done is kept. CacheError: the folder holds features of
        another fingerprint or of clips, labels or prompts that the dataset no longer has, or the disk is full.
    """
    split = clips[0].split
    header = _header(split, audio, text, options)
    with locked(cache, split):
        clear_temporaries(cache, split)
        damaged = set_damaged_aside(cache, split) if options.repair else []
        overwritten = {split, *together_with} if options.overwrite else set()
        preflight.refuse_other_fingerprint(cache, header.fingerprint, overwritten)
        if options.overwrite:
            if options.on_error == "stop":
                preflight.refuse_missing(clips)  # before anything is deleted
            remove_split(cache, split)
        done = done_clips(cache, split)
        preflight.refuse_changes(cache, clips, done)
        summary = SplitSummary(split, damaged=damaged)
        todo = {clip.id for clip in clips if clip.id not in done}
        if todo:
            if options.on_error == "stop":
                preflight.refuse_missing([clip for clip in clips if clip.id in todo])
            lengths = lengths_of(clips, audio, options)
            preflight.refuse_full_disk(cache, bytes_needed(clips, lengths, todo, audio, options))
            writer = PartWriter(cache, header, encode_prompts(text, clips, todo, options))
            batches = cut_batches(clips, lengths, options.batch_size)
            _encode_clips(batches, todo, audio, options, writer, summary, progress)
        _finish(cache, header, clips, summary)
    return summary


def _header(split: str, audio: AudioEncoder, text: TextEncoder, options: ExtractionOptions) -> Header:
    return Header(
        split=split,
        fingerprint=fingerprint_of(audio, text, options),
        audio_dim=audio.dim,
        text_dim=text.dim,
        provenance={"audio_encoder": _provenance(audio), "text_encoder": _provenance(text)},
    )


def _provenance(encoder: AudioEncoder | TextEncoder) -> dict[str, Any]:
    """Say where an encoder came from, and of an untrained one that it is."""
    notice = {"notice": UNTRAINED_NOTICE} if encoder.untrained else {}
    return {"name": encoder.name, **encoder.provenance(), **notice}


def _encode_clips(
    batches: Sequence[Sequence[Clip]],
    todo: set[str],
    audio: AudioEncoder,
    options: ExtractionOptions,
    writer: PartWriter,
    summary: SplitSummary,
    progress: Progress,
) -> None:
    """Decode ahead in threads, encode, and hand finished clips to the writer, batch by batch."""

    def decode_clip(clip: Clip) -> Audio:
        if clip.prompt is None:
            raise DataError(f"{clip.id}: no prompt for {clip.prompt_id}; add it to the prompt list")
        if clip.prompt not in writer.prompts:
            raise DataError(f"{clip.id}: the text encoder gives NaN or Inf as {options.dtype} for {clip.prompt!r}")
        return decode(clip.path, audio.sample_rate_hz, options.max_seconds)

    left = [[clip for clip in batch if clip.id in todo] for batch in batches]
    total = sum(map(len, batches))
    finished = total - len(todo)
    try:
        for batch in decode_ahead([batch for batch in left if batch], decode_clip):
            decoded = []
            for clip, future in batch:
                try:
                    decoded.append((clip, future.result()))
                except DataError as error:
                    _skip_or_stop(clip, error, options, summary)
            for _, sound in decoded:
                summary.warnings += sound.warnings
            for same in group_by_length(decoded, audio, options):
                _encode_batch(same, audio, options, writer, summary)
            finished += len(batch)
            progress(finished, total)
    finally:  # after an error or an interrupt too: what is encoded is kept
        writer.flush()


def _encode_batch(
    batch: Sequence[tuple[Clip, Audio, NDArray[np.float32]]],
    audio: AudioEncoder,
    options: ExtractionOptions,
    writer: PartWriter,
    summary: SplitSummary,
) -> None:
    """Encode waveforms of one length and hand those with finite features to the writer."""
    waveforms = torch.from_numpy(np.stack([waveform for _, _, waveform in batch]))
    encoded = audio.encode(waveforms).to(getattr(torch, options.dtype)).cpu().numpy()
    records, features = [], []
    for (clip, sound, _), frames in zip(batch, encoded, strict=True):
        if not np.isfinite(frames).all():
            error = EncoderError(f"{clip.id}: {audio.name} gives NaN or Inf as {options.dtype}; check {clip.path}")
            _skip_or_stop(clip, error, options, summary)
            continue
        records.append(_record(clip, sound, frames, audio))
        features.append(frames)
    writer.add(records, features)
    summary.encoded += len(records)


def _record(clip: Clip, sound: Audio, frames: NDArray[Any], audio: AudioEncoder) -> CachedClip:
    valid = min(max(audio.frames_for(len(sound.samples)), 1), len(frames))
    return CachedClip(
        id=clip.id,
        system=clip.system,
        prompt_id=clip.prompt_id,
        prompt=clip.prompt or "",
        mi=np.nan if clip.mi is None else clip.mi,
        ta=np.nan if clip.ta is None else clip.ta,
        duration_s=sound.duration_s,
        audio_hash=sound.file_hash,
        frames=len(frames),
        valid_frames=valid,
        feature_hash=hash_rows(frames[:valid]),
        padding_hash=hash_rows(frames[valid:]),
    )


def _finish(cache: Path, header: Header, clips: Sequence[Clip], summary: SplitSummary) -> None:
    """Publish the split's files, unless they hold just these clips already."""
    done = done_clips(cache, header.split)
    order = [clip.id for clip in clips if clip.id in done]
    if not order:
        raise DataError(
            f"split {header.split!r}: none of its {len(clips)} clips could be extracted; "
            f"the first: {summary.skipped[0][1]}"
        )
    summary.clips = len(order)
    summary.files = split_files(cache, header.split)
    skipped = tuple(summary.skipped)
    if not is_published(cache, header.split) or CacheReader(cache, header.split).skipped != skipped:
        summary.files = publish_split(cache, replace(header, skipped=skipped), order, done)


def _skip_or_stop(clip: Clip, error: AudiomosError, options: ExtractionOptions, summary: SplitSummary) -> None:
    if options.on_error == "stop":
        raise type(error)(f"{error}; or leave such clips out with --on-error skip") from error
    summary.skipped.append((clip.id, str(error)))
