"""How fast new music is scored, compared with extracting its features and then running the heads on them.

A full-size random MuQ and RoBERTa (their speed does not depend on the weights), the eight heads of ensemble8 with
random weights, noise as WAV files. In the same run, in turns: extract to a cache, the heads alone on that cache, score.
Checked in the same run: the scores are those of the cache.

.venv/bin/python benchmarks/scoring.py                             # on two CPU cores: some minutes
.venv/bin/python benchmarks/scoring.py --clips 512 --seconds 30    # on a GPU
"""

import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch
from extraction import full_encoders, write_clips
from figures import Figure, in_turns, machine, seconds
from rich.console import Console
from rich.table import Table

from audiomos_cache.bundle.bundle import Bundle, BundledHead, EncoderSource
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.encoders.base import AudioEncoder, Precision, TextEncoder
from audiomos_cache.encoders.lookup import load_audio_encoder, load_text_encoder
from audiomos_cache.extraction.extract_split import extract_split
from audiomos_cache.extraction.options import ExtractionOptions, batch_size_for, free_gpu_bytes
from audiomos_cache.fusion.align import fuse_predictions
from audiomos_cache.fusion.averages import MeanFusion
from audiomos_cache.heads.model import build_head
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.results import Score
from audiomos_cache.scoring.scorer import Scorer
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.frame_sources import FramesOnDisk
from audiomos_cache.training.jobs import load_plan
from audiomos_cache.training.loop import predictions_of, run_head

LEAST_OF_PARTS = 0.9  # of the throughput of extraction and heads, one after the other
MOST_HEADS = 0.15  # of the time the encoder takes
MOST_DIFFERENCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 0.1}


def random_bundle(audio: AudioEncoder, text: TextEncoder, options: ExtractionOptions) -> Bundle:
    """Put the eight heads of the published ensemble together, with random weights."""
    torch.manual_seed(0)
    jobs = load_plan("ensemble8")
    members = tuple(
        BundledHead(job.name, build_head(job.config, audio.dim, text.dim).eval(), audio.layers) for job in jobs
    )
    nowhere = EncoderSource("random", "random", "none", "0" * 32)
    return Bundle(
        "random", "0" * 32, options.input_spec(audio, text).fingerprint, nowhere, nowhere, members,
        MeanFusion([job.name for job in jobs]), {},
    )  # fmt: skip


class Ways:
    """The ways from files to scores, each of which returns its seconds."""

    def __init__(self, clips: Sequence[Clip], folder: Path, audio: AudioEncoder, text: TextEncoder,
                 options: ExtractionOptions) -> None:  # fmt: skip
        self.clips, self.folder, self.audio, self.text, self.options = clips, folder, audio, text, options
        self.bundle = random_bundle(audio, text, options)
        self.scorer = Scorer(self.bundle, audio_encoder=audio, text_encoder=text, batch_size=options.batch_size)
        self.items = [Item(clip.id, clip.path, clip.prompt) for clip in clips]
        self.caches = 0
        self.scores: list[Score] = []
        self.fused: dict[str, np.ndarray] = {}

    def extract(self) -> float:
        """Extract to a new cache."""
        self.caches += 1
        return seconds(lambda: extract_split(self.clips, self.cache, self.audio, self.text, self.options))

    @property
    def cache(self) -> Path:
        return self.folder / f"cache{self.caches}"

    def heads(self) -> float:
        """Run all heads on the cached features, and average what they say."""
        batches = FeatureBatches(ClipSet.of_split(self.cache, "train"), self.audio.layers, FramesOnDisk(self.device))

        def run() -> None:
            members = [predictions_of(run_head(member.head, batches), batches) for member in self.bundle.members]
            assert self.bundle.fusion is not None, "of heads that were trained here"
            fused = fuse_predictions(self.bundle.fusion, members)
            self.fused = {"ids": np.array(fused.ids), "mi": fused.mi, "ta": fused.ta}

        return seconds(run)

    def heads_on_frames(self) -> float:
        """Run all heads on features that are on the device already."""
        batches = FeatureBatches(ClipSet.of_split(self.cache, "train"), self.audio.layers, FramesOnDisk(self.device))
        size = self.options.batch_size
        held = [batches.gather(range(at, min(at + size, len(self.clips)))) for at in range(0, len(self.clips), size)]
        precision = self.audio.precision
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]

        @torch.inference_mode()
        def run() -> None:
            with torch.autocast(self.device.type, dtype, enabled=precision != "fp32"):
                for batch in held:
                    for member in self.bundle.members:
                        member.head(*batch)
            wait(self.device)

        return seconds(run)

    def encode(self) -> float:
        """Run the audio encoder alone, on waveforms that are on the device already."""
        size = self.options.batch_size
        samples = round(self.options.max_seconds * self.audio.sample_rate_hz)
        waveforms = torch.randn(size, samples, device=self.device) * 0.1

        def run() -> None:
            for at in range(0, len(self.clips), size):
                self.audio.encode(waveforms[: len(self.clips) - at])
            wait(self.device)

        return seconds(run)

    def score(self) -> float:
        """Score."""

        def run() -> None:
            self.scores = list(self.scorer.score_items(self.items))

        return seconds(run)

    @property
    def device(self) -> torch.device:
        return self.audio.device

    def difference(self) -> float:
        """Return the largest difference between the scores and the cache's."""
        by_id = {score.id: score for score in self.scores}
        return max(
            abs(float(getattr(by_id[name], target)) - float(value))
            for target in ("mi", "ta")
            for name, value in zip(self.fused["ids"], self.fused[target], strict=True)
        )


def wait(device: torch.device) -> None:
    """Wait until a GPU has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def figures(taken: dict[str, list[float]], clips: int) -> list[Figure]:
    """Compare, round by round."""
    parts = [a + b for a, b in zip(taken["extract"], taken["heads"], strict=True)]
    of_parts = tuple(part / own for part, own in zip(parts, taken["score"], strict=True))
    of_encoder = tuple(h / e for h, e in zip(taken["heads on frames"], taken["encoder"], strict=True))
    speed = clips / statistics.median(taken["score"])
    return [
        Figure("throughput of score", of_parts, "of extract + heads", LEAST_OF_PARTS, detail=f"{speed:.3g} clips/s"),
        Figure("time of eight heads", of_encoder, "of the encoder's", MOST_HEADS, at_most=True),
    ]


@click.command()
@click.option("--clips", type=click.IntRange(1), default=4, show_default=True)
@click.option("--seconds", "length", type=float, default=10.0, show_default=True, help="Of each clip.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: the GPU where there is one]")
@click.option(
    "--precision", type=click.Choice(["fp16", "bf16", "fp32"]), help="[default: fp16 on a GPU, fp32 on a CPU]"
)
@click.option("--tiny", is_flag=True, help="With muq-tiny: shows that it works.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(clips: int, length: float, runs: int, device: str | None, precision: Precision | None, tiny: bool,
         as_json: bool) -> None:  # fmt: skip
    """Score noise."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    precision = precision or ("fp16" if device == "cuda" else "fp32")
    audio: AudioEncoder
    if tiny:
        audio, text = (
            load_audio_encoder("muq-tiny", device, precision=precision),
            load_text_encoder("roberta-tiny"),
        )
    else:
        audio, text = full_encoders(device, precision)
    options = ExtractionOptions(pad_to_s=length, batch_size=batch_size_for(audio, length, free_gpu_bytes))
    with tempfile.TemporaryDirectory() as made:
        ways = Ways(write_clips(Path(made) / "wav", clips, length), Path(made), audio, text, options)
        trials = {"extract": ways.extract, "heads": ways.heads, "heads on frames": ways.heads_on_frames,
                  "encoder": ways.encode, "score": ways.score}  # fmt: skip
        taken = in_turns({name: trials[name] for name in trials}, runs)
        difference = ways.difference()
    found = figures(taken, clips)
    facts = machine() | {"torch": torch.__version__, "device": device, "precision": precision, "encoder": audio.name,
                         "clips": clips, "seconds": length, "runs": runs}  # fmt: skip
    if as_json:
        click.echo(json.dumps({"machine": facts, "taken_s": taken, "largest_difference": difference,
                               "figures": [figure.as_json() for figure in found]}, indent=1))  # fmt: skip
    else:
        _show(taken, found, clips, f"{clips} clips of {length:g} s, {audio.name}, {precision}, {device}")
        click.echo(f"largest difference from the cache's scores: {difference:.1e}")
    if difference > MOST_DIFFERENCE[precision]:
        raise click.ClickException(
            f"scores are {difference:.1e} off the cache's, expected {MOST_DIFFERENCE[precision]:g} or less"
        )


def _show(taken: dict[str, list[float]], found: Sequence[Figure], clips: int, title: str) -> None:
    console = Console(width=110)
    table = Table(title=title, title_justify="left")
    for column in ("way", "seconds, median", "clips/s"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, spent in taken.items():
        table.add_row(name, f"{statistics.median(spent):.2f}", f"{clips / statistics.median(spent):.3g}")
    console.print(table)
    for figure in found:
        met = "met" if figure.met else "missed"
        goal = f"{'at most' if figure.at_most else 'at least'} {figure.goal:g}: {met}"
        console.print(f"{figure.name}: {figure.median:.3f} {figure.unit} ({goal}) {figure.detail}", highlight=False)


if __name__ == "__main__":
    main()
