"""`audiomos-cache extract`: run the frozen encoders once and keep their features."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from audiomos_cache.cli.progress import progress
from audiomos_cache.devices import DEVICES, resolve_device
from audiomos_cache.units import duration, gigabytes

if TYPE_CHECKING:
    from audiomos_cache.dataset.clip import Clip
    from audiomos_cache.encoders.base import AudioEncoder, Precision, TextEncoder
    from audiomos_cache.extraction.options import Compile, ExtractionOptions
    from audiomos_cache.extraction.pipeline import SplitSummary
    from audiomos_cache.extraction.plan import Plan
    from audiomos_cache.profiling import Profile


GPU_BATCH = 32  # of each of several GPUs, which share out the batches


def _pad_to(_context: click.Context, _option: click.Parameter, value: str) -> float | None:
    if value == "none":
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 600:
        raise click.BadParameter(f"{value!r} is neither none nor a number of seconds up to 600")
    return seconds


def _layers(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(layer) for layer in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a layer such as -1, nor several such as 6,9,12") from None


def _shard(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    index, slash, count = value.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise click.BadParameter(f"{value!r} is not I/N with I from 1 to N, such as 1/4")
    return int(index), int(count)


class _Command(click.Command):
    """Keeps the arguments as they were given, for the processes of several GPUs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[__name__] = list(args)
        return super().parse_args(ctx, args)


@click.command(cls=_Command)
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="MusicEval folder, or a .csv or .jsonl manifest."
)
@click.option(
    "--split", "splits", multiple=True, metavar="NAME", help="A split to extract; repeat for several.  [default: all]"
)
@click.option("--cache", type=click.Path(path_type=Path), default=Path("cache/default"), help="The cache folder.")
@click.option("--audio-encoder", default="muq", metavar="NAME", help="muq, muq-tiny, or a folder or hub id of a MuQ.")
@click.option("--audio-revision", metavar="REV", help="Pin a hub revision of the audio encoder.")
@click.option("--text-encoder", default="roberta", metavar="NAME", help="roberta, roberta-tiny, or a folder or hub id.")
@click.option("--text-revision", metavar="REV", help="Pin a hub revision of the text encoder.")
@click.option(
    "--pad-to",
    default="30",
    metavar="SECONDS|none",
    callback=_pad_to,
    help="Encode clips at this length, padded or cut; none: their own.",
)
@click.option(
    "--dtype", type=click.Choice(("float16", "float32")), default="float16", help="Type of the stored features."
)
@click.option(
    "--layer",
    "--layers",
    "layers",
    default="-1",
    metavar="N[,N...]",
    callback=_layers,
    help="Hidden layers of the audio encoder to keep; 0 enters the first, -1 is the last.",
)
@click.option("--device", type=click.Choice(DEVICES), default="auto", help="Where to encode.")
@click.option("--gpus", type=click.IntRange(min=1), help="How many of the GPUs to use, a process each.  [default: all]")
@click.option(
    "--precision",
    type=click.Choice(("fp16", "bf16", "fp32")),
    help="What to compute in.  [default: fp16 on CUDA for float16 features, else fp32]",
)
@click.option(
    "--compile",
    "compiling",
    type=click.Choice(("auto", "on", "off")),
    default="auto",
    help="Compile the encoder first; auto: on CUDA, where the clips to encode repay it.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Clips encoded at once.  [default: 4, on CUDA as memory allows]"
)
@click.option("--on-error", type=click.Choice(("stop", "skip")), default="stop", help="What to do about a bad clip.")
@click.option("--overwrite", is_flag=True, help="Extract the splits anew; their cached features are deleted.")
@click.option("--repair", is_flag=True, help="Check what is there first, and encode again what is damaged.")
@click.option("--shard", metavar="I/N", callback=_shard, help="Encode only share I of N; run the others elsewhere.")
@click.option("--profile", "profiled", is_flag=True, help="Print where the time went, a line for each stage.")
@click.option("--dry-run", is_flag=True, help="Say what is to be done and what it takes, and time one batch.")
@click.pass_context
def extract(
    ctx: click.Context,
    data: Path,
    splits: tuple[str, ...],
    cache: Path,
    audio_encoder: str,
    audio_revision: str | None,
    text_encoder: str,
    text_revision: str | None,
    pad_to: float | None,
    dtype: Literal["float16", "float32"],
    layers: tuple[int, ...],
    device: str,
    gpus: int | None,
    precision: "Precision | None",
    compiling: "Compile",
    batch_size: int | None,
    on_error: Literal["stop", "skip"],
    overwrite: bool,
    repair: bool,
    shard: tuple[int, int] | None,
    profiled: bool,
    dry_run: bool,
) -> None:
    """Run the frozen encoders over a dataset once, and keep their features in a cache.

    Interrupt it whenever you like: run again, it goes on where it stopped, and ends with the same files.
    With --shard, several machines or GPUs fill the same split: in one folder that all of them see, where the last to
    finish writes the split's file, or each in its own, which merge then joins. Of one machine's GPUs all are used,
    unless --overwrite, --repair or --dry-run is given.
    Computed in fp16, features differ from those of fp32 by less than 1.5e-3 of their size; a clip that overflows is
    encoded again in fp32.
    The encoders muq-tiny and roberta-tiny need no download. They are untrained: they show that the
    pipeline works, not how good MuQ is.

    \b
    Examples:
      audiomos-cache extract --data MusicEval-phase1 --cache cache/musiceval
      audiomos-cache extract --data clips.csv --split train --split dev --pad-to none
      audiomos-cache extract --data MusicEval-phase1 --cache cache/layers --layers 6,9,12 --dry-run
      CUDA_VISIBLE_DEVICES=1 audiomos-cache extract --data MusicEval-phase1 --shard 2/4 --batch-size 32
      audiomos-cache extract --data demo/data --audio-encoder muq-tiny --text-encoder roberta-tiny
    """
    if shard and (overwrite or repair):
        raise click.UsageError("--shard goes with neither --overwrite nor --repair, which concern whole splits")
    if shard and batch_size is None:
        raise click.UsageError("--shard needs --batch-size, the same for all shards: they share out the batches")
    if dry_run and repair:
        raise click.UsageError("--dry-run goes without --repair; verify says what is damaged")
    from audiomos_cache.cache.lock import Shard
    from audiomos_cache.cli.gpus import run_on_gpus, visible_gpus
    from audiomos_cache.dataset.loading import load_dataset
    from audiomos_cache.encoders.lookup import UNTRAINED_NOTICE, load_audio_encoder, load_text_encoder
    from audiomos_cache.extraction.options import ExtractionOptions, batch_size_for, free_gpu_bytes, precision_for
    from audiomos_cache.profiling import Profile

    dataset = load_dataset(data, splits)
    device = resolve_device(device)
    chosen = precision_for(device, dtype, precision)
    if compiling == "on" and chosen == "fp32":
        raise click.UsageError("--compile on needs --precision fp16 or bf16; fp32 is the encoder as it is")
    if device == "cuda" and not (shard or overwrite or repair or dry_run):
        ours = visible_gpus()[:gpus]
        if len(ours) > 1:
            arguments = ["extract", *ctx.meta[__name__], "--batch-size", str(batch_size or GPU_BATCH)]
            run_on_gpus(arguments, ours)
            return

    def at(name: str, revision: str | None) -> str:
        return name if revision is None else f"{name}@{revision}"

    profile = Profile(on=profiled)
    with profile.stage("load"):
        audio = load_audio_encoder(at(audio_encoder, audio_revision), device, layers=layers, precision=chosen)
        text = load_text_encoder(at(text_encoder, text_revision), device)
    options = ExtractionOptions(
        pad_to_s=pad_to,
        dtype=dtype,
        batch_size=batch_size or batch_size_for(audio, pad_to, free_gpu_bytes),
        on_error=on_error,
        overwrite=overwrite,
        repair=repair,
        shard=Shard(*shard) if shard else None,
    )
    for encoder in (audio, text):
        if encoder.untrained:
            click.echo(f"{encoder.name} is {UNTRAINED_NOTICE}", err=True)
    if dry_run:
        _dry_run(dataset, cache, audio, text, options, on_gpu=device == "cuda")
        return
    _extract(dataset, cache, audio, text, options, compiling, profile)
    if profiled:
        from audiomos_cache.extraction.limits import note_limits

        profile.stop()
        note_limits(profile, audio, options)
        click.echo("\n".join(profile.lines()), err=True)


def _extract(
    dataset: "Mapping[str, Sequence[Clip]]",
    cache: Path,
    audio: "AudioEncoder",
    text: "TextEncoder",
    options: "ExtractionOptions",
    compiling: "Compile",
    profile: "Profile",
) -> None:
    from audiomos_cache.extraction.extract import extract_split, plan_only
    from audiomos_cache.extraction.options import compile_for
    from audiomos_cache.extraction.plan import refuse_together

    def on_plan(plan: "Plan") -> None:
        if plan.batches:
            click.echo(_plan_line(plan), err=True)
        with profile.stage("compile"):
            took = compile_for(plan, audio, options, compiling)
        if took is not None:
            click.echo(f"compiled in {took:.0f} s", err=True)

    if len(dataset) > 1 and not options.repair:
        every = (plan_only(clips, cache, audio, text, options, together_with=dataset) for clips in dataset.values())
        refuse_together(cache, list(every))
    for split, clips in dataset.items():
        with progress("clips") as update:
            summary = extract_split(
                clips,
                cache,
                audio=audio,
                text=text,
                options=options,
                progress=partial(update, f"extract {split}"),
                on_plan=on_plan,
                together_with=dataset,
                profile=profile,
            )
        _report(summary)


def _dry_run(
    dataset: "Mapping[str, Sequence[Clip]]",
    cache: Path,
    audio: "AudioEncoder",
    text: "TextEncoder",
    options: "ExtractionOptions",
    *,
    on_gpu: bool,
) -> None:
    from audiomos_cache.extraction.extract import plan_only
    from audiomos_cache.extraction.plan import estimate_seconds, refuse_together

    plans = [plan_only(clips, cache, audio, text, options, together_with=dataset) for clips in dataset.values()]
    refuse_together(cache, plans)
    for plan in plans:
        click.echo(_plan_line(plan))
    largest = max(plans, key=lambda plan: plan.frames)
    if largest.frames:
        seconds = estimate_seconds(largest, audio, options, warm_up=on_gpu)
        seconds *= sum(plan.frames for plan in plans) / largest.frames
        click.echo(f"about {duration(seconds)} in all, as one batch of {len(largest.typical_batch)} clips tells")


def _plan_line(plan: "Plan") -> str:
    return (
        f"{plan.split}: {len(plan.todo)} of {plan.clips} clips to encode, {gigabytes(plan.final_bytes)} when finished; "
        f"up to {gigabytes(plan.needed_bytes)} more on the disk meanwhile, {gigabytes(plan.free_bytes)} free"
    )


def _report(summary: "SplitSummary") -> None:
    from audiomos_cache.errors import first_five

    for line in summary.damaged:
        click.echo(f"Damaged: {line}", err=True)
    if summary.warnings:
        click.echo(f"Warnings: {first_five(summary.warnings)}", err=True)
    for clip_id, reason in summary.skipped:
        click.echo(f"Skipped {clip_id}: {reason}", err=True)
    skipped = f", {len(summary.skipped)} skipped" if summary.skipped else ""
    done = f"{summary.encoded} encoded" if summary.encoded else "nothing left to do"
    if summary.missing:
        outcome = f", {summary.missing} left to other shards"
    elif not summary.files:
        outcome = "; another shard is writing the file, or where there are no locks, extract without --shard writes it"
    else:
        outcome = f" in {', '.join(map(str, summary.files))}"
    click.echo(f"{summary.split}: {summary.clips} clips ({done}{skipped}){outcome}")
