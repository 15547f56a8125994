"""How long a training step of each preset takes in fp32 at full size, and what the loop adds to the head's own work.

On a CPU what the loop does is nearly all memory traffic: 50 MB of float16 frames become 100 MB of float32. Only
pooling-dist, which itself does little more than read those, takes less than ten times as long. On a GPU that holds the
features, the loop's steps are CUDA graphs, and cost less than the bare step, whose kernels are launched one by one.

.venv/bin/python benchmarks/heads.py
.venv/bin/python benchmarks/heads.py --presets pooling-dist,transformer-dist --batch 8 --json
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile
import torch
from figures import machine
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.encoders.base import TextFeatures
from audiomos_cache.extraction.extract_split import extract_split
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.losses import objective_of
from audiomos_cache.heads.model import Head, HeadOutput, build_head
from audiomos_cache.heads.presets import load_head_config, preset_names
from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.preload import open_frames
from audiomos_cache.training.trainer import LabelledBatches, Trainer

AUDIO_DIM, TEXT_DIM, TOKENS = 1024, 768, 30
SAMPLES_PER_FRAME = 100  # of the fake encoder
FRAMES_PER_SECOND = 25
MOST_OF_A_STEP = 0.1  # that the loop may add
ON_CPU = ("pooling-dist", "cross-attention-dist", "transformer-dist")  # others are as slow as the last


class WideAudioEncoder(FakeAudioEncoder):
    """Random frames as wide as MuQ's."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.sample_rate_hz = AUDIO_DIM, SAMPLES_PER_FRAME * FRAMES_PER_SECOND

    def encode(self, waveforms: Tensor) -> Tensor:
        return torch.randn(*super().encode(waveforms).shape[:-1], AUDIO_DIM)


@dataclass
class WideTextEncoder(FakeTextEncoder):
    """Random tokens as wide as RoBERTa's."""

    dim: int = TEXT_DIM
    max_tokens: int = TOKENS

    def encode(self, prompts: Sequence[str]) -> list[TextFeatures]:
        sizes = [self.count_tokens(prompt) for prompt in prompts]
        return [TextFeatures(torch.randn(size, TEXT_DIM), torch.zeros(TEXT_DIM), cut=False) for size in sizes]


class Idle(Head):
    """A head's output layers, fed with the same features for each clip: what it is trained for, without its work."""

    def __init__(self, head: Head) -> None:
        nn.Module.__init__(self)
        self.mi, self.ta = (_last(target) for target in (head.mi, head.ta))
        widths = [next(output.parameters()).shape[1] for output in (self.mi, self.ta)]
        self.features = nn.ParameterList(torch.zeros(1, width) for width in widths)

    def forward(self, frames: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor) -> HeadOutput:
        del frame_mask, tokens, token_mask
        mi, ta = (features.expand(len(frames), -1) for features in self.features)
        return HeadOutput(self.mi(mi), self.ta(ta))


def _last(target: nn.Module) -> nn.Module:
    """Return the output layer of a target, which has a matrix as its first parameter."""
    *_, output = target.children()
    return output


@dataclass(frozen=True, slots=True)
class Step:
    """Median seconds of one step.

    Attributes:
        forward: of the head.
        bare: forward, loss, backward and the optimizer's step, on features that are there.
        whole: a step of the training loop, which gathers the features first, and on a GPU is a CUDA graph.
        loop: what the loop does in it, measured with a head that does nothing.
        runs: that these are the medians of.
    """

    preset: str
    device: str
    forward: float
    bare: float
    whole: float
    loop: float
    runs: int

    @property
    def added(self) -> float:
        """What the loop adds, as a share of the bare step."""
        return self.loop / self.bare


def make_cache(folder: Path, clips: int, frames: int) -> CacheReader:
    """Make a cache of clips of one length."""
    path = folder / "clip.wav"
    soundfile.write(path, np.full(frames * SAMPLES_PER_FRAME, 0.5), SAMPLES_PER_FRAME * FRAMES_PER_SECOND)
    prompts = [" ".join(["word"] * (TOKENS - 1) + [str(i)]) for i in range(8)]
    made = [
        Clip(f"S{i % 8:03d}_P{i:03d}", path, f"S{i % 8:03d}", f"P{i % 8}", prompts[i % 8], "train", 1 + i % 5, 3.0)
        for i in range(clips)
    ]
    options = ExtractionOptions(pad_to_s=frames / FRAMES_PER_SECOND)
    extract_split(made, folder / "cache", WideAudioEncoder(), WideTextEncoder(), options)
    reader = CacheReader(folder / "cache", "train")
    assert set(reader.valid_frames.tolist()) == {frames}
    return reader


def measure(preset: str, features: FeatureBatches, batch: int, runs: int) -> Step:
    """Measure a preset, bare and in the loop in turns; the clips are one batch."""
    config = load_head_config(preset, (f"training.batch_size={batch}",))[1]
    torch.manual_seed(0)
    head = build_head(config, AUDIO_DIM, TEXT_DIM).to(features.device)
    targeted = LabelledBatches(features, objective_of(config))
    bare = BareStep(head, targeted, config)
    whole = Trainer(config, 0, head, targeted)
    idle = Trainer(config, 0, Idle(head).to(features.device), targeted)
    bare.take(2)  # memory, kernels and threads are there from then on
    forwards, bares, wholes, idles = [], [], [], []
    for epoch in range(1, runs + 1):
        forward, step = bare.take(batch)
        forwards.append(forward)
        bares.append(step)
        wholes.append(seconds(lambda: whole.train_epoch(epoch), features.device))  # noqa: B023 - called at once
        idles.append(seconds(lambda: idle.train_epoch(epoch), features.device))  # noqa: B023
    forward, step, in_loop, alone = map(statistics.median, (forwards, bares, wholes, idles))
    return Step(preset, features.device.type, forward, step, in_loop, alone, runs)


class BareStep:
    """A training step without the loop."""

    def __init__(self, head: Head, targeted: LabelledBatches, config: HeadConfig) -> None:
        self.head, self.targeted = head, targeted
        self.features = targeted.features.gather(range(len(targeted.clips)))
        self.optimizer = Trainer(config, 0, head, targeted).optimizer

    def take(self, clips: int) -> tuple[float, float]:
        """Return the seconds of the forward pass, and of the whole step, for the first clips."""
        x, device = self.features, self.targeted.features.device
        inputs = [each[:clips] for each in x]
        self.head.train()
        found: list[HeadOutput] = []
        forward = seconds(lambda: found.append(self.head(*inputs)), device)

        def rest() -> None:
            loss = self.targeted.loss(found[0], range(clips))
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

        return forward, forward + seconds(rest, device)


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Return how long an action takes, on a GPU too."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def as_table(steps: Sequence[Step], title: str) -> Table:
    """Lay out a line for each preset and device."""
    table = Table(title=title, title_justify="left")
    for column in ("preset", "on", "forward", "step", "in loop", "loop", "share"):
        table.add_column(column, justify="left" if column in ("preset", "on") else "right", no_wrap=True)
    for step in steps:
        times = (f"{1000 * value:.0f} ms" for value in (step.forward, step.bare, step.whole, step.loop))
        mark = "" if step.added < MOST_OF_A_STEP else " !"
        table.add_row(step.preset, step.device, *times, f"{step.added:.1%}{mark}")
    return table


def torch_here() -> dict[str, Any]:
    """Say what computed the heads."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "gpu": gpu}


@click.command()
@click.option("--presets", help="Some of them, with commas.  [default: all on a GPU, three on a CPU]")
@click.option("--batch", type=click.IntRange(2), default=32, show_default=True)
@click.option("--frames", type=click.IntRange(1), default=750, show_default=True, help="Of each clip; 25 are a second.")
@click.option("--runs", type=click.IntRange(1), help="[default: 30 on a GPU, 3 on a CPU]")
@click.option("--device", "devices", multiple=True, type=click.Choice(["cpu", "cuda"]), help="[default: all there are]")
@click.option("--preload", type=click.Choice(["auto", "ram", "cuda", "none"]), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(
    presets: str | None,
    batch: int,
    frames: int,
    runs: int | None,
    devices: tuple[str, ...],
    preload: Any,
    as_json: bool,
) -> None:
    """Measure a training step of each preset at full size; about four minutes on two CPU cores."""
    steps = []
    with tempfile.TemporaryDirectory() as folder:
        reader = make_cache(Path(folder), batch, frames)
        for device in devices or ("cpu", *(("cuda",) if torch.cuda.is_available() else ())):
            few = device == "cpu"
            chosen = presets.split(",") if presets else ON_CPU if few else preset_names()
            source = open_frames([reader], reader.layers, torch.device(device), preload)
            features = FeatureBatches(ClipSet.of_reader(reader), reader.layers, source)
            for preset in chosen:
                steps.append(measure(preset, features, batch, runs or (3 if few else 30)))
                click.echo(f"{preset} on {device}: {1000 * steps[-1].bare:.1f} ms", err=True)
    if as_json:
        results = [asdict(step) | {"added": step.added} for step in steps]
        click.echo(
            json.dumps(
                {"machine": machine() | torch_here(), "batch": batch, "frames": frames, "steps": results}, indent=1
            )
        )
    else:
        title = f"One training step, {batch} clips of {frames} frames; the loop may take {MOST_OF_A_STEP:.0%} of it"
        Console().print(as_table(steps, title))


if __name__ == "__main__":
    main()
