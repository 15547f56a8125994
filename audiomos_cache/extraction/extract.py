"""The verb `extract`: read a dataset, check the arguments, load the encoders, and extract split after split."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Literal, get_args

from audiomos_cache.cache.paths import Shard
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.dataset.columns import AUDIO, COLUMNS
from audiomos_cache.dataset.loading import fetch_dataset, load_dataset
from audiomos_cache.devices import MOST_AT_ONCE, Compile, resolve_device
from audiomos_cache.encoders import lookup
from audiomos_cache.encoders.base import AudioEncoder, Precision, TextEncoder, is_untrained
from audiomos_cache.errors import ArgumentError, one_of, quoted
from audiomos_cache.extraction import gpus as gpu_processes
from audiomos_cache.extraction.extract_split import extract_split, plan_only
from audiomos_cache.extraction.options import (
    MAX_PAD_S,
    ExtractionOptions,
    batch_size_for,
    compile_for,
    free_gpu_bytes,
    parse_shard,
    precision_for,
)
from audiomos_cache.extraction.plan import Plan, estimate_seconds, refuse_together
from audiomos_cache.extraction.summary import ExtractResult, SplitSummary, largest, plan_line, problem_lines
from audiomos_cache.input_spec import StoredDtype
from audiomos_cache.profiling import OFF, Profile
from audiomos_cache.progress import Notify, Progress, log_line, no_progress
from audiomos_cache.torch_settings import standard_torch

Dataset = Mapping[str, Sequence[Clip]]
Source = str | PathLike[str]
OnError = Literal["stop", "skip"]


@standard_torch()
def extract(
    data: Source,
    cache: Source = "cache/default",
    *,
    split: str | Sequence[str] = (),
    audio_encoder: Source | AudioEncoder = "muq",
    text_encoder: Source | TextEncoder = "roberta",
    pad_to: float | None = 30.0,
    dtype: StoredDtype = "float16",
    layers: int | Sequence[int] = -1,
    device: str = "auto",
    gpus: int | None = None,
    precision: Precision | None = None,
    batch_size: int | None = None,
    on_error: OnError = "stop",
    overwrite: bool = False,
    repair: bool = False,
    audio_root: Source | None = None,
    columns: Mapping[str, str] | None = None,
    shard: str | tuple[int, int] | None = None,
    dry_run: bool = False,
    compile: Compile = "auto",  # noqa: A002
    progress: Progress = no_progress,
    notify: Notify = log_line,
    profile: Profile = OFF,
) -> ExtractResult:
    """Run the frozen encoders over a dataset once, and keep their features in a cache.

    Interrupt it at any time: the same call continues where it stopped, and writes the same files; on a CPU, with the
    same number of threads.

    Args:
        data: a MusicEval folder; a manifest (.csv, .tsv, .jsonl, .parquet); a folder of Parquet files, or with a
            `metadata.csv`; or the Hugging Face hub's id of a dataset of Parquet files, `owner/name` or
            `owner/name@REVISION`.
        cache: the cache folder; made if missing.
        split: the split to extract, or several; none means all.
        audio_encoder, text_encoder: a known name, a folder or hub id (`NAME@REVISION` pins a revision), or an encoder.
        pad_to: length in seconds at which clips are encoded, padded with zeros or cut; None: their own length, up to
            30 s.
        dtype: of the stored features.
        layers: hidden states of the audio encoder to keep: 0 enters the first layer, -1 is the last. An encoder that
            is given as an object has its own.
        device: `auto`, `cpu` or `cuda`; an encoder that is given as an object stays where it is.
        gpus: how many GPUs to use, a process for each; None: all, if the whole dataset is extracted by encoders
            that are given by name.
        precision: to compute in: `fp16`, `bf16` or `fp32`; None: fp16 on CUDA for float16 features, fp32 elsewhere.
        batch_size: clips encoded at once; None: 4, on CUDA as many as memory allows.
        on_error: what to do about a clip that cannot be read or encoded: `stop` with its error, or `skip` it.
        overwrite: delete the cached features of the splits and extract them again.
        repair: read what is in the cache, and encode again what is damaged.
        audio_root: the folder that a manifest's paths are relative to, and in which absolute ones must lie; None: that
            of the manifest.
        columns: names that a manifest has for our columns: audio, path, prompt, id, system, split, mi, ta. None: ours,
            or the usual ones (`file_name`, `text` or `caption`, `overall_quality` and `textual_alignment`).
        shard: encode only this share of the clips: `1/4` or (1, 4); needs a batch size, the same for all shards.
        dry_run: write nothing; return what is to be done, and an estimate of the time.
        compile: compile the audio encoder first: `on`, `off`, or `auto`: on CUDA, where that saves time.
        progress: called with (what, done, total, note) after each batch.
        notify: called with messages while it works: what is to be done, clips that were skipped.
        profile: collects the time that each stage takes.
    Returns:
        What was done of each split.
    Raises:
        DataError: the dataset is not valid, or a clip is bad and `on_error` is `stop`.
        CacheError: the folder has features of other encoders or options, or of clips that changed, or the disk is full.
        BusyError: another process is writing the split. EncoderError: an encoder cannot be loaded.
        ArgumentError: arguments that contradict each other, or that are none of their choices.
        ConfigError: an unknown encoder or layer.
    Source: keeping features of frozen encoders in files, as hear-eval-kit does.

    >>> encoders = {"audio_encoder": "muq-tiny", "text_encoder": "roberta-tiny"}  # made by code: nothing to download
    >>> result = extract("data", "cache/example", split="dev", pad_to=1.0, **encoders)
    >>> result.splits["dev"].clips, result.skipped
    (8, {})
    """
    for name, value, choices in (
        ("dtype", dtype, StoredDtype),
        ("precision", precision, Precision),
        ("on_error", on_error, OnError),
        ("compile", compile, Compile),
    ):
        if value is not None or name != "precision":
            one_of(name, value, get_args(choices))
    part = parse_shard(shard)
    _check(part, overwrite=overwrite, repair=repair, dry_run=dry_run, pad_to=pad_to, gpus=gpus, batch_size=batch_size)
    cache, pad_to = Path(cache), None if pad_to is None else float(pad_to)  # 30 and 30.0 are one fingerprint
    dataset, origin = _read_dataset(data, [split] if isinstance(split, str) else list(split), audio_root, columns or {})
    on = resolve_device(device)
    chosen = precision_for(on, dtype, precision)
    if compile == "on" and chosen == "fp32":
        raise ArgumentError("compile='on' needs the precision fp16 or bf16; fp32 is the encoder as it is")
    kept = [layers] if isinstance(layers, int) else list(layers)
    if on == "cuda" and compile == "auto" and not (part or overwrite or repair or dry_run):
        visible = gpu_processes.visible_gpus()[:gpus]
        named = [fspath(each) for each in (audio_encoder, text_encoder) if isinstance(each, str | PathLike)]
        if len(visible) > 1 and len(named) == 2 and gpu_processes.know_encoders(*named):
            arguments = {
                "data": "@".join(origin.values()) if origin else data, "audio-root": audio_root,
                "columns": json.dumps(dict(columns)) if columns else None,
                "cache": cache, "split": list(dataset), "audio-encoder": audio_encoder,
                "text-encoder": text_encoder, "pad-to": "none" if pad_to is None else f"{pad_to:g}", "dtype": dtype,
                "layers": ",".join(map(str, kept)), "device": device, "precision": precision, "on-error": on_error,
                "batch-size": batch_size or gpu_processes.SHARD_BATCH_SIZE,
            }  # fmt: skip
            summaries = gpu_processes.extract_on_gpus(cache, arguments, visible, notify, profiled=profile.on)
            return ExtractResult(cache, summaries, {})
    with profile.stage("load"):
        audio, text = _load_encoders(audio_encoder, text_encoder, on, kept, chosen)
    options = ExtractionOptions(
        pad_to_s=pad_to,
        dtype=dtype,
        batch_size=batch_size or batch_size_for(audio, pad_to, free_gpu_bytes),
        on_error=on_error,
        overwrite=overwrite,
        repair=repair,
        shard=part,
    )
    untrained = tuple(encoder.name for encoder in (audio, text) if is_untrained(encoder))
    for name in untrained:
        notify(f"{name} is {lookup.UNTRAINED_NOTICE}")
    work = _Work(dataset, cache, audio, text, options, origin)
    if dry_run:
        plans = work.plans()
        seconds = work.estimate(plans, warm_up=audio.device.type == "cuda")
        return ExtractResult(cache, {}, plans, seconds, untrained)
    summaries = work.run(compile, progress, notify, profile)
    if profile.on:
        profile.stop()
    return ExtractResult(cache, summaries, {}, None, untrained)


def _read_dataset(
    data: Source, splits: Sequence[str], audio_root: Source | None, columns: Mapping[str, str]
) -> tuple[Dataset, dict[str, str] | None]:
    """Read the clips of each split, and say where they are from, if that is the hub."""
    for ours, name in columns.items():
        one_of("columns", ours, (AUDIO, *COLUMNS))
        if not isinstance(name, str):
            raise ArgumentError(f"columns has {name!r:.50} for {ours}, expected the name of a column")
    path, origin = fetch_dataset(fspath(data))
    root = None if audio_root is None else Path(audio_root)
    return load_dataset(path, splits, audio_root=root, columns=columns), origin


def _check(
    shard: Shard | None,
    *,
    overwrite: bool,
    repair: bool,
    dry_run: bool,
    pad_to: float | None,
    gpus: int | None,
    batch_size: int | None,
) -> None:
    """Refuse arguments that contradict each other, or that are out of range."""
    for wrong, problem in (
        (
            shard and (overwrite or repair),
            "--shard cannot be combined with --overwrite or --repair, which concern whole splits",
        ),
        (
            shard and batch_size is None,
            "--shard needs --batch-size, the same for all shards, which divide the batches among them",
        ),
        (
            overwrite and repair,
            "--overwrite cannot be combined with --repair: it deletes what repair keeps; leave one of them out",
        ),
        (dry_run and repair, "--dry-run cannot be combined with --repair; verify lists what is damaged"),
        (pad_to is not None and not 0 < pad_to <= MAX_PAD_S, f"--pad-to {pad_to}: expected up to {MAX_PAD_S:g} s"),
        (gpus is not None and gpus < 1, f"--gpus {gpus}: expected 1 or more"),
        (
            batch_size is not None and not 1 <= batch_size <= MOST_AT_ONCE,
            f"--batch-size {quoted(batch_size)}: expected 1 to {MOST_AT_ONCE}",
        ),
    ):
        if wrong:
            raise ArgumentError(problem)


@dataclass(frozen=True, slots=True)
class _Work:
    """The splits to extract, the cache that they go to, and how."""

    dataset: Dataset
    cache: Path
    audio: AudioEncoder
    text: TextEncoder
    options: ExtractionOptions
    origin: Mapping[str, str] | None

    def plans(self) -> dict[str, Plan]:
        """Return what is to be done of each split; refuse what cannot be done, one by one or all together."""
        plans = {
            split: plan_only(clips, self.cache, self.audio, self.text, self.options, together_with=self.dataset)
            for split, clips in self.dataset.items()
        }
        refuse_together(self.cache, list(plans.values()))
        return plans

    def estimate(self, plans: Mapping[str, Plan], *, warm_up: bool) -> float | None:
        """Estimate the seconds that all splits will take, from one batch of the largest."""
        most = largest(plans)
        if not most.frames:
            return None
        seconds = estimate_seconds(most, self.audio, self.options, warm_up=warm_up)
        return seconds * sum(plan.frames for plan in plans.values()) / most.frames

    def run(self, compiling: Compile, progress: Progress, notify: Notify, profile: Profile) -> dict[str, SplitSummary]:
        """Extract one split after the other."""

        def on_plan(plan: Plan) -> None:
            if plan.batches:
                notify(plan_line(plan))
            with profile.stage("compile"):
                took = compile_for(len(plan.todo), self.audio, self.options, compiling)
            if took is not None:
                notify(f"compiled in {took:.0f} s")

        if len(self.dataset) > 1 and not self.options.repair:
            self.plans()
        summaries = {}
        for split, clips in self.dataset.items():
            summaries[split] = extract_split(
                clips,
                self.cache,
                audio=self.audio,
                text=self.text,
                options=self.options,
                progress=partial(progress, f"extract {split}"),
                on_plan=on_plan,
                together_with=self.dataset,
                profile=profile,
                origin=self.origin,
            )
            for line in problem_lines(summaries[split]):
                notify(line)
        return summaries


def _load_encoders(
    audio: Source | AudioEncoder,
    text: Source | TextEncoder,
    device: str,
    layers: Sequence[int],
    precision: Precision,
) -> tuple[AudioEncoder, TextEncoder]:
    """Load the encoders that are given by name."""
    if isinstance(audio, str | PathLike):
        audio = lookup.load_audio_encoder(fspath(audio), device, layers=layers, precision=precision)
    if isinstance(text, str | PathLike):
        text = lookup.load_text_encoder(fspath(text), device)
    return audio, text
