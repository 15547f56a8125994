"""Extraction of a split: skip what is done, run the frozen encoders over the rest, write the cache.

Batches are cut from the whole split, before what is done is taken out, so an extraction that was interrupted and
continued, or one that is divided into shards, encodes the same batches as one that was not, and writes the same bytes.
"""

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from audiomos_cache.cache.format import Header, hash_list
from audiomos_cache.cache.in_place import InPlaceFile, planned_clip
from audiomos_cache.cache.maintenance import set_damaged_aside
from audiomos_cache.cache.parts import PartWriter
from audiomos_cache.cache.paths import (
    clear_temporaries,
    locked_split,
    part_files,
    remove_shard_locks,
    remove_split,
)
from audiomos_cache.cache.publish import BYTES_PER_FILE, Done, done_clips, publish_split, split_and_parts
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder, is_untrained
from audiomos_cache.encoders.lookup import UNTRAINED_NOTICE
from audiomos_cache.errors import BusyError, DataError, quoted
from audiomos_cache.extraction.batching import encode_prompts
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.extraction.pipeline import Encoding, Progress
from audiomos_cache.extraction.plan import (
    Plan,
    plan_split,
    refuse_changes,
    refuse_other_batches,
    refuse_other_fingerprint,
)
from audiomos_cache.extraction.summary import SplitSummary
from audiomos_cache.profiling import OFF, Profile


def extract_split(
    clips: Sequence[Clip],
    cache: Path,
    audio: AudioEncoder,
    text: TextEncoder,
    options: ExtractionOptions,
    progress: Progress = lambda _done, _total: None,
    *,
    on_plan: Callable[[Plan], None] = lambda _plan: None,
    together_with: Collection[str] = (),
    profile: Profile = OFF,
    origin: Mapping[str, str] | None = None,
) -> SplitSummary:
    """Extract the features of one split into `cache`; continue where an earlier extraction stopped.

    With `options.shard`, only that share of the clips is encoded; the last shard to finish writes the split's files.

    Args:
        clips: of one split, in the dataset's order.
        cache: the cache folder; made if missing.
        audio, text: the encoders.
        options: how to extract.
        progress: called with (done, total) clips of the share after each batch.
        on_plan: called with what is to be done, before it is begun.
        together_with: other splits that are overwritten, or repaired, too, and so may still have another fingerprint,
            or be unreadable.
        profile: collects the time that each stage takes.
        origin: where the clips came from, if that is a dataset on the hub.
    Raises:
        DataError: a bad clip, with `on_error` "stop"; what is done is kept. CacheError: the folder holds features of
        another fingerprint or of clips, labels or prompts that the dataset no longer has, or the disk is full.
        BusyError: another process is writing the split, or the same shard.
    """
    split = clips[0].split
    header = _header(clips, audio, text, options, origin)
    summary = SplitSummary(split)
    with locked_split(cache, split, options.shard) as sure:
        if sure:
            clear_temporaries(cache, split, options.shard)
        if options.repair:
            summary.damaged = set_damaged_aside(cache, split, header.fingerprint)
        overwritten = {split, *together_with} if options.overwrite else set()
        repaired = together_with if options.repair else ()
        refuse_other_fingerprint(cache, header.fingerprint, overwritten, repaired)
        done = {} if options.overwrite else _done(cache, clips, options)
        plan = plan_split(clips, cache, done, audio, options)  # all refusals come before anything is deleted
        on_plan(plan)
        if options.overwrite:
            remove_split(cache, split)
        if plan.batches:

            def make_writer() -> PartWriter:
                with profile.stage("prompts"):
                    prompts = encode_prompts(text, clips, plan.todo, options)
                writer = PartWriter(cache, header, prompts, options.shard)
                if options.writes_in_place(audio):
                    writer.in_place = _in_place_file(plan, clips, cache, writer)
                return writer

            Encoding(plan, clips, audio, options, make_writer, summary, profile).run(progress)
        parts_before = part_files(cache, split)
        with profile.stage("publish"):
            _finish(cache, header, clips, summary, publish=not options.shard)
    if options.shard and (not summary.missing or part_files(cache, split) != parts_before):
        _finish_after_all_shards(cache, header, clips, summary)
    return summary


def plan_only(
    clips: Sequence[Clip],
    cache: Path,
    audio: AudioEncoder,
    text: TextEncoder,
    options: ExtractionOptions,
    *,
    together_with: Collection[str] = (),
) -> Plan:
    """Return what `extract_split` would do, and refuse what it would refuse. Nothing is written."""
    overwritten = {clips[0].split, *together_with} if options.overwrite else set()
    refuse_other_fingerprint(cache, options.input_spec(audio, text).fingerprint, overwritten)
    return plan_split(clips, cache, {} if options.overwrite else _done(cache, clips, options), audio, options)


def _done(cache: Path, clips: Sequence[Clip], options: ExtractionOptions) -> Done:
    files = split_and_parts(cache, clips[0].split)
    if options.shard:
        refuse_other_batches(files, options.batch_size)
    done = done_clips(files)
    refuse_changes(cache, clips, done)
    return done


def _header(
    clips: Sequence[Clip],
    audio: AudioEncoder,
    text: TextEncoder,
    options: ExtractionOptions,
    origin: Mapping[str, str] | None,
) -> Header:
    encoders = {"audio_encoder": _audio_provenance(audio), "text_encoder": _provenance(text)}
    return Header(
        split=clips[0].split,
        fingerprint=options.input_spec(audio, text).fingerprint,
        audio_dim=audio.dim,
        text_dim=text.dim,
        layers=audio.layers,
        provenance=encoders | ({"dataset": dict(origin)} if origin else {}),
        list_hash=hash_list(clip.id for clip in clips),
        list_length=len(clips),
        batch_size=options.batch_size,
    )


def _provenance(encoder: AudioEncoder | TextEncoder) -> dict[str, Any]:
    """Return the origin of an encoder, with a notice if it is untrained."""
    notice = {"notice": UNTRAINED_NOTICE} if is_untrained(encoder) else {}
    return {"name": encoder.name, **encoder.provenance(), **notice}


def _audio_provenance(audio: AudioEncoder) -> dict[str, Any]:
    """Return the origin of the audio encoder, with the precision that it computed in unless that was float32."""
    return _provenance(audio) | ({} if audio.precision == "fp32" else {"precision": audio.precision})


def _in_place_file(plan: Plan, clips: Sequence[Clip], cache: Path, writer: PartWriter) -> InPlaceFile | None:
    """Begin the split's file, where all of it is to be encoded, and it is one."""
    whole = len(plan.todo) == len(clips) and not part_files(cache, plan.split)
    encodable = all(clip.prompt in writer.prompts for clip in clips)
    if not (whole and encodable and plan.final_bytes <= BYTES_PER_FILE and not writer.shard):
        return None
    frames, layers = plan.frames_of, len(writer.header.layers)
    planned = [
        planned_clip(clip.id, clip.system, clip.prompt_id, clip.prompt or "", frames[clip.id], layers) for clip in clips
    ]
    return InPlaceFile(cache, writer.header, planned, writer.prompts)


def _finish(cache: Path, header: Header, clips: Sequence[Clip], summary: SplitSummary, *, publish: bool = True) -> None:
    """Count what is done, and publish the split's files unless clips are missing, or the files hold just these."""
    files = split_and_parts(cache, header.split)
    for file in files:
        advice = "another process extracts with other encoders or options into this folder"
        file.header.fingerprint.require(header.fingerprint, str(file.path), advice)
    done = done_clips(files)
    reasons = {clip_id: reason for file in files for clip_id, reason in file.header.skipped} | dict(summary.skipped)
    skipped = tuple((clip.id, reasons[clip.id]) for clip in clips if clip.id in reasons and clip.id not in done)
    order = {clip.id: position for position, clip in enumerate(clips) if clip.id in done}
    summary.clips = len(order)
    summary.missing = len(clips) - len(order) - len(skipped)
    if summary.missing or not publish:
        return
    if not order:
        raise DataError(
            f"split {quoted(header.split)}: none of its {len(clips)} clips could be extracted; the "
            f"first: {skipped[0][1]}"
        )
    summary.files = publish_split(cache, replace(header, skipped=skipped), order, done)


def _finish_after_all_shards(cache: Path, header: Header, clips: Sequence[Clip], summary: SplitSummary) -> None:
    """Publish the split after the last shard. Of several that finish at once, the last to release its lock does it.

    It may have been counting while another published its last part, so each checks again whether there are new ones.
    """
    with contextlib.suppress(BusyError), locked_split(cache, header.split) as sure:
        if sure:
            clear_temporaries(cache, header.split)
            _finish(cache, header, clips, summary)
            remove_shard_locks(cache, header.split)
