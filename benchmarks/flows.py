"""The layout of the package in numbers: files that a training step runs, files from a WAV file to its score, counts.

A small run is made first, by the commands, on made-up music and with the tiny encoders. Then an epoch of two steps is
traced, and one clip, each after another that warms up, and the package's files and functions are counted.

.venv/bin/python benchmarks/flows.py
.venv/bin/python benchmarks/flows.py --files
"""

import ast
import dataclasses
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
import torch
from rich.console import Console
from rich.table import Table

import audiomos_cache
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cli import main as command_line
from audiomos_cache.heads.losses import objective_of
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.presets import load_head_config
from audiomos_cache.scoring.lines import to_line
from audiomos_cache.scoring.scorer import Scorer
from audiomos_cache.testing.music import make_dataset
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.frame_sources import FramesInMemory, FramesOnDisk, FrameSource
from audiomos_cache.training.trainer import LabelledBatches, Trainer

PACKAGE = Path(audiomos_cache.__file__).parent
CPU = torch.device("cpu")
HEAD = "transformer-dist"
SHORT = 50  # lines of a file
ENCODERS_AND_HEADS = ("encoders/", "heads/")


class Trace:
    """Records which of the package runs while `on` is set.

    Attributes:
        files: relative to the package.
        records: names of the package's dataclasses that are made. Named tuples and arrays are not counted.
    """

    def __init__(self) -> None:
        self.on = False
        self.files: set[str] = set()
        self.records: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if not self.on or event != "call":
            return
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            self.files.add(str(path.relative_to(PACKAGE)))
        elif frame.f_code.co_name == "__init__":
            made = type(frame.f_locals.get("self"))
            if dataclasses.is_dataclass(made) and made.__module__.startswith("audiomos_cache"):
                self.records.add(made.__name__)


@contextmanager
def traced() -> Iterator[Trace]:
    """Trace this thread, and all threads that are started in the block."""
    trace = Trace()
    threading.setprofile(trace)
    sys.setprofile(trace)
    try:
        yield trace
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def make(folder: Path) -> None:
    """Make a cache, a trained head and a bundle of it in a folder."""
    make_dataset(folder / "data", prompts=4, seconds=(1.0, 2.0))
    for line in (
        "extract --data data --split train --split dev --cache cache --audio-encoder muq-tiny "
        "--text-encoder roberta-tiny --pad-to 2",
        f"train-head --cache cache --head {HEAD} --set training.max_epochs=1 --out runs",
        "bundle runs --out model",
    ):
        names = {each: str(folder / each) for each in ("data", "cache", "runs", "model")}
        click.echo(line.split()[0], err=True)
        command_line.main([names.get(word, word) for word in line.split()], standalone_mode=False)


def trace_step(cache: Path, *, on_disk: bool) -> Trace:
    """Trace training steps, with their batches, whose frames are in RAM or on disk."""
    reader = CacheReader(cache, "train")
    config = load_head_config(HEAD, (f"training.batch_size={len(reader) // 2}",))[1]
    head = build_head(config, reader.audio_dim, reader.text_dim)
    with traced() as trace:
        frames: FrameSource = FramesOnDisk(CPU) if on_disk else FramesInMemory([reader], reader.layers, CPU, CPU)
        features = FeatureBatches(ClipSet.of_reader(reader), reader.layers, frames)
        trainer = Trainer(config, 0, head, LabelledBatches(features, objective_of(config)))
        trainer.train_epoch(1)
        trace.on = True
        trainer.train_epoch(2)
    return trace


def trace_score(bundle: Path, wav: Path) -> Trace:
    """Trace the scoring of one clip, to the line that is written of it; encoders and heads are loaded already."""
    scorer = Scorer(bundle)
    with traced() as trace:
        scorer.score([wav], "slow piano")
        trace.on = True
        [score] = scorer.score([wav], "fast piano")
        to_line(score, scorer.entries)
    return trace


def sources() -> dict[str, str]:
    """Return the content of each file of the package."""
    return {str(path.relative_to(PACKAGE)): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def files_that_call(names: set[str]) -> list[str]:
    """Name the files of the package that call one of some functions, by whatever prefix."""
    found = []
    for file, content in sources().items():
        called = (node.func for node in ast.walk(ast.parse(content)) if isinstance(node, ast.Call))
        if any((func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")) in names for func in called):
            found.append(file)
    return found


def functions_that_raise(error: str) -> list[str]:
    """Name the functions of the package that raise an error."""
    found = []
    for file, content in sources().items():
        for function in ast.walk(ast.parse(content)):
            if isinstance(function, ast.FunctionDef):
                raised = (node.exc for node in ast.walk(function) if isinstance(node, ast.Raise))
                if any(isinstance(each, ast.Call) and getattr(each.func, "id", "") == error for each in raised):
                    found.append(f"{file}: {function.name}")
    return found


def functions_named(part: str) -> list[str]:
    """Name the functions of the package with a part in their name."""
    return [
        f"{file}: {node.name}"
        for file, content in sources().items()
        for node in ast.walk(ast.parse(content))
        if isinstance(node, ast.FunctionDef) and part in node.name
    ]


def repeated_names() -> list[str]:
    """Return the base names that files of two or more packages have."""
    found = Counter(Path(file).name for file in sources())
    return sorted(name for name, count in found.items() if count > 1 and name != "__init__.py")


def parameters() -> list[str]:
    """Name the options and arguments of the group and of all commands, but for `--help`, which each of them has."""
    commands = {"audiomos-cache": command_line, **command_line.commands}
    return [f"{name} {parameter.opts[0]}" for name, command in commands.items() for parameter in command.params]


def measure(folder: Path) -> list[tuple[str, str, list[str]]]:
    """Return for each row of the table its name, the aim, and the names of what was counted.

    Rows that count by syntax stand for what they cannot measure; a comment says how.
    """
    make(folder)
    files = sources()
    short = [file for file, content in files.items() if content.count("\n") < SHORT]
    step, from_disk = (trace_step(folder / "cache", on_disk=on_disk) for on_disk in (False, True))
    score = trace_score(folder / "model", next((folder / "data" / "wav").glob("*.wav")))
    return [
        ("files in the package", "about 135", list(files)),
        (f"of these under {SHORT} lines", "under 15", short),
        ("of these not an __init__.py", "", [file for file in short if not file.endswith("__init__.py")]),
        ("files that one training step runs", "at most 14", sorted(step.files)),
        ("the same with frames read from disk", "", sorted(from_disk.files)),
        ("files from a wav to its scored line", "at most 20", sorted(score.files)),
        ("of these encoders and heads", "11", [f for f in sorted(score.files) if f.startswith(ENCODERS_AND_HEADS)]),
        # Dataclasses that are made while a warm scorer scores a clip, those of encoders and heads included.
        ("record types between a wav and its score", "at most 8", sorted(score.records)),
        # Those that call torch's pad_sequence or make a Batch; one that pads by hand is not found.
        ("files that put a padded batch together", "1", files_that_call({"pad_sequence", "Batch"})),
        # Those that call flock or lockf.
        ("files that lock", "1", files_that_call({"flock", "lockf"})),
        # Those that raise OutputExistsError: refusals to mix different content are among them, too.
        ("functions that refuse to overwrite", "1", functions_that_raise("OutputExistsError")),
        # Those with "difference" in their name, helpers included.
        ("functions that name what differs", "1", functions_named("difference")),
        ("commands", "at most 14", list(command_line.commands)),
        ("their options and arguments", "under 100", parameters()),
        ("base names in two or more packages", "at most 3", repeated_names()),
    ]


@click.command()
@click.option("--files", "named", is_flag=True, help="Also name what was counted.")
def main(named: bool) -> None:
    """Count what the layout of the package aims at; under a minute on two CPU cores."""
    with tempfile.TemporaryDirectory() as made:
        found = measure(Path(made))
    table = Table("", "aim", "found", title=f"audiomos_cache {audiomos_cache.__version__}", title_justify="left")
    for name, aim, counted in found:
        table.add_row(name, aim, str(len(counted)))
    console = Console(width=100)
    console.print(table)
    if named:
        for name, _, counted in found[1:]:
            console.print(f"\n[bold]{name}[/bold]: {', '.join(counted)}", highlight=False)


if __name__ == "__main__":
    main()
