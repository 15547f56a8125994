"""How many clips a second are extracted, from WAV files on disk to a published cache, and what the machine can do.

On CUDA: a full-size random MuQ and RoBERTa (their speed does not depend on the weights) and noise, every clip its own.
On a CPU: muq-tiny and short clips, which show that it works, and where the time goes.
In the same run: the straightforward way (a loop of batches, the encoder as its package gives it, in float32), the
machine's limits, and how far the features are from float32.

.venv/bin/python benchmarks/extraction.py
.venv/bin/python benchmarks/extraction.py --clips 2048 --compile off --compile on --json
"""

import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile
import torch
from figures import machine
from full_size import FULL_MUQ_CONFIG, random_roberta
from limits import matmul_flops, muq_flops, send_bytes_per_s, write_whole
from rich.console import Console
from rich.table import Table
from torch import Tensor

from audiomos_cache.audio.decode import decode, fit_length
from audiomos_cache.audio.resample import resample
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cache.verify import verify_split
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.encoders.base import DTYPES, AudioEncoder, Precision, TextEncoder
from audiomos_cache.encoders.lookup import load_audio_encoder, load_text_encoder
from audiomos_cache.encoders.muq import MuQEncoder, build_muq
from audiomos_cache.extraction.extract_split import extract_split
from audiomos_cache.extraction.options import ExtractionOptions, batch_size_for, free_gpu_bytes
from audiomos_cache.profiling import Profile

WAV_RATE_HZ = 16_000
PROMPTS = 384  # as many as MusicEval has
GOAL = 300.0  # clips of 30 s a second, on one H100
MOST_ERROR = 1.5e-3  # of a clip's features, compared with float32
CHECKED_CLIPS = 16
STRAIGHTFORWARD_BATCHES = 2
DISK_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Run:
    """One way to extract all clips.

    Attributes:
        name: of the way.
        clips_per_s: from the first read to the published cache; of the straightforward way, without writing a cache.
        of_limit: of what the measured matrix product would allow.
        profile: seconds by stage.
        compile_s: that came before, and is not counted.
    """

    name: str
    clips_per_s: float
    of_limit: float
    profile: dict[str, Any] | None = None
    compile_s: float | None = None


def full_encoders(device: str, precision: Precision) -> tuple[MuQEncoder, TextEncoder]:
    """Build random encoders of the size of the released ones; the prompts' tokens are bytes."""
    torch.manual_seed(0)
    facts = {"source": "random", "revision": "none", "device": device, "untrained": True}
    audio = MuQEncoder(build_muq(FULL_MUQ_CONFIG), name="muq-random", precision=precision, **facts)  # type: ignore[arg-type]
    return audio, random_roberta(device)


def write_clips(folder: Path, count: int, seconds: float) -> list[Clip]:
    """Write noise as 16-bit WAV files, each its own."""
    folder.mkdir()

    def write(index: int) -> Clip:
        name, prompt = f"S{index % 31:03d}_P{index:05d}", index % PROMPTS
        path = folder / f"{name}.wav"
        samples = np.random.default_rng(index).integers(-8000, 8000, round(seconds * WAV_RATE_HZ), np.int16)
        soundfile.write(path, samples, WAV_RATE_HZ, subtype="PCM_16")
        text = f"an instrumental piece number {prompt} with a calm piano, a warm bass and brushed drums, in the evening"
        return Clip(name, path, name[:4], f"P{prompt:03d}", text, "train", 3.0, 3.0)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(write, range(count)))


def extract(clips: Sequence[Clip], cache: Path, audio: AudioEncoder, text: TextEncoder, options: ExtractionOptions,
            name: str, limit: float) -> Run:  # fmt: skip
    """Extract all clips into a new cache."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    profile = Profile()
    summary = extract_split(clips, cache, audio, text, options, profile=profile)
    profile.stop()
    assert (summary.encoded, len(summary.files)) == (len(clips), 1), summary
    speed = len(clips) / profile.wall
    stages = profile.as_json()
    for stage in stages["stages"]:
        stage["limit"] = len(clips) / limit / stage["seconds"] if stage["name"] == "encode" else None
    return Run(name, speed, speed / limit, stages)


def straightforward(clips: Sequence[Clip], audio: MuQEncoder, options: ExtractionOptions, limit: float) -> Run:
    """Decode, resample, encode in float32 as PyTorch does it by default, fetch, batch by batch; nothing is written."""
    model, length = audio._model, round(options.max_seconds * audio.sample_rate_hz)

    @torch.inference_mode()
    def encode(batch: Sequence[Clip]) -> None:
        sounds = [soundfile.read(clip.path, dtype="float32")[0] for clip in batch]
        waveforms = np.stack([fit_length(resample(s, WAV_RATE_HZ, audio.sample_rate_hz), length) for s in sounds])
        mel = model.normalize(model.preprocessing(torch.from_numpy(waveforms).to(audio.device), ["melspec_2048"]))
        model.conformer(model.conv(mel["melspec_2048"])).last_hidden_state.half().cpu().numpy()

    size = options.batch_size
    batches = [clips[at : at + size] for at in range(0, size * (STRAIGHTFORWARD_BATCHES + 1), size)]
    encode(batches[0])
    start = time.perf_counter()
    done = 0
    for batch in batches[1:]:
        if batch:
            encode(batch)
            done += len(batch)
    speed = done / (time.perf_counter() - start)
    return Run("straightforward, fp32", speed, speed / limit)


def errors(clips: Sequence[Clip], cache: Path, audio: MuQEncoder, options: ExtractionOptions) -> list[float]:
    """Return how far the cached features of some clips are from float32: the norm of the difference over the norm."""
    reader = CacheReader(cache, "train")
    length = round(options.max_seconds * audio.sample_rate_hz)
    found = []
    for clip in clips[:: max(1, len(clips) // CHECKED_CLIPS)][:CHECKED_CLIPS]:
        decoded = decode(clip.path, audio.sample_rate_hz, options.max_seconds)
        expected: Tensor = audio.encode_fp32(torch.from_numpy(fit_length(decoded.samples, length))[None])[0, 0].cpu()
        frames = torch.from_numpy(np.array(reader.read_frames(reader.ids.index(clip.id)), dtype=np.float32))
        expected = expected[: len(frames)]
        found.append(float((frames - expected).norm() / expected.norm()))
    return found


def limits_of(audio: MuQEncoder, options: ExtractionOptions, folder: Path) -> dict[str, float]:
    """Measure what the machine can do: matrix products, copies to the GPU, writes to the disk."""
    flops = matmul_flops(audio.device, DTYPES[audio.precision])
    per_clip = muq_flops(audio, round(options.max_seconds * audio.sample_rate_hz))
    content = np.frombuffer(np.random.default_rng(0).bytes(1 << 20), np.uint8)
    content = np.tile(content, DISK_BYTES // len(content))
    start = time.perf_counter()
    write_whole(folder / "whole", content)
    disk = DISK_BYTES / (time.perf_counter() - start)
    (folder / "whole").unlink()
    copy = {"copy to GPU GB/s": send_bytes_per_s(audio.device) / 1e9} if audio.device.type == "cuda" else {}
    return copy | {
        "matmul TFLOP/s": flops / 1e12,
        "TFLOP per clip": per_clip / 1e12,
        "clips/s by matmul": flops / per_clip,
        "disk GB/s, synced": disk / 1e9,
    }


def as_table(runs: Sequence[Run], title: str) -> Table:
    """Lay out a line for each way."""
    table = Table(title=title, title_justify="left")
    for column in ("way", "clips/s", "of limit", "x straightforward", "compiled in"):
        table.add_column(column, justify="left" if column == "way" else "right", no_wrap=True)
    for run in runs:
        compiled = "" if run.compile_s is None else f"{run.compile_s:.0f} s"
        table.add_row(
            run.name, f"{run.clips_per_s:.1f}", f"{run.of_limit:.2f}",
            f"{run.clips_per_s / runs[0].clips_per_s:.2f}", compiled,
        )  # fmt: skip
    return table


def stage_table(run: Run) -> Table:
    """Lay out a line for each stage of a run."""
    assert run.profile
    peak = run.profile["gpu_peak_bytes"]
    memory = f", {peak / 1e9:.1f} GB of GPU memory at most" if peak else ""
    table = Table(title=f"{run.name}: {run.profile['wall_s']:.2f} s{memory}", title_justify="left")
    for column in ("stage", "seconds", "of wall time", "of limit"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in run.profile["stages"]:
        limit = "" if stage["limit"] is None else f"{stage['limit']:.2f}"
        table.add_row(stage["name"], f"{stage['seconds']:.2f}", f"{stage['share']:.1%}", limit)
    return table


@click.command()
@click.option("--clips", type=click.IntRange(4), help="[default: 2048 on a GPU, 64 on a CPU]")
@click.option("--seconds", type=float, help="Of each clip.  [default: 30 on a GPU, 5 on a CPU]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: the GPU where there is one]")
@click.option(
    "--precision", type=click.Choice(["fp16", "bf16", "fp32"]), help="[default: fp16 on a GPU, fp32 on a CPU]"
)
@click.option(
    "--compile", "compiling", multiple=True, type=click.Choice(["off", "on"]), help="[default: off, on a GPU both]"
)
@click.option("--batch-size", type=click.IntRange(1), help="[default: as extract chooses]")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="For the WAV files and caches.  [default: a temporary one]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def main(
    clips: int | None,
    seconds: float | None,
    device: str | None,
    precision: Precision | None,
    compiling: tuple[str, ...],
    batch_size: int | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Extract noise; about two minutes on an H100, half a minute on two CPU cores."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device == "cuda"
    precision = precision or ("fp16" if on_gpu else "fp32")
    count, seconds = clips or (2048 if on_gpu else 64), seconds or (30.0 if on_gpu else 5.0)
    audio: Any
    if on_gpu:
        audio, text = full_encoders(device, precision)
    else:
        audio, text = load_audio_encoder("muq-tiny", precision=precision), load_text_encoder("roberta-tiny")
    size = batch_size or batch_size_for(audio, seconds, free_gpu_bytes)
    options = ExtractionOptions(pad_to_s=seconds, batch_size=size)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        root = Path(made)
        listed = write_clips(root / "wav", count, seconds)
        click.echo(f"{count} clips written", err=True)
        limits = limits_of(audio, options, root)
        runs = [straightforward(listed, audio, options, limits["clips/s by matmul"])]
        for how in compiling or (("off", "on") if on_gpu else ("off",)):
            length = round(seconds * audio.sample_rate_hz)
            took = audio.compile(size, length) if how == "on" else None
            extract_split(listed[: 4 * size], root / f"warm-{how}", audio, text, options)
            name = f"extract, {precision}" + (", compiled" if took else "")
            run = extract(listed, root / how, audio, text, options, name, limits["clips/s by matmul"])
            runs.append(Run(name, run.clips_per_s, run.of_limit, run.profile, took))
            click.echo(f"{name}: {run.clips_per_s:.1f} clips/s", err=True)
            off = errors(listed, root / how, audio, options)
            damaged = [line for report in verify_split(root / how, "train") for line in report.damaged]
    gpu = torch.cuda.get_device_name() if on_gpu else None
    facts = machine() | {"torch": torch.__version__, "gpu": gpu, "encoder": audio.name, "batch_size": size}
    facts |= {"clips": count, "seconds": seconds}
    checks = {"max_error": max(off), "median_error": float(np.median(off)), "damaged": damaged, "checked": len(off)}
    if as_json:
        click.echo(json.dumps({"machine": facts, "limits": limits, "checks": checks, "goal_clips_per_s": GOAL,
                               "runs": [asdict(run) for run in runs]}, indent=1))  # fmt: skip
    else:
        console = Console(width=110)
        goal = f"; the goal is {GOAL:.0f} clips/s" if on_gpu and seconds == 30 else ""
        console.print(as_table(runs, f"{count} clips of {seconds:g} s, {audio.name}, batches of {size}{goal}"))
        for run in runs[1:]:
            console.print(stage_table(run))
        console.print("; ".join(f"{name} {value:.3g}" for name, value in limits.items()))
        console.print(f"error against fp32, {len(off)} clips: median {checks['median_error']:.2e}, max {max(off):.2e}")
    if damaged or max(off) > MOST_ERROR:
        raise click.ClickException(f"features are damaged or too far from float32: {damaged or max(off)}")


if __name__ == "__main__":
    main()
