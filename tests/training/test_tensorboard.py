"""What TensorBoard is given; it need not be installed, so its class for writing is a stand-in."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cli import main
from audiomos_cache.errors import ConfigError
from audiomos_cache.training.data import Lists
from audiomos_cache.training.train_heads import train_heads
from tests.support.training import interrupt_after, job, names_in, results_of

JOB = job("transformer-dist", 1, "training.schedule=cosine")
Events = dict[str, list[list[float]]]


class SummaryWriter:
    """Writes what it is given, as TensorBoard's does, once it is told to."""

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "events"
        self.path.parent.mkdir(parents=True)
        self.events: Events = {}

    def add_scalar(self, name: str, number: float, step: int) -> None:
        self.events.setdefault(name, []).append([step, number])

    def flush(self) -> None:
        self.path.write_text(json.dumps(self.events))

    def close(self) -> None:
        self.flush()


@pytest.fixture
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("torch.utils.tensorboard")
    vars(module)["SummaryWriter"] = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)


def events_in(folder: Path) -> Events:
    events: Events = json.loads((folder / "tensorboard" / "events").read_text())
    return events


@pytest.mark.usefixtures("_stand_in")
def test_it_is_given_the_history(cache: Path, tmp_path: Path) -> None:
    [result] = train_heads([JOB], cache, tmp_path / "with", tensorboard=True)
    history = [json.loads(line) for line in (result.folder / "history.jsonl").read_text().splitlines()]
    events = events_in(result.folder)
    for name in ("lr", "train_loss", "dev_loss"):
        assert events.pop(name) == [[line["epoch"], line[name]] for line in history]
    for level in ("utt_mi", "utt_ta", "sys_mi", "sys_ta"):
        for measure in ("mse", "lcc", "srcc", "ktau"):
            assert events.pop(f"{level}/{measure}") == [
                [line["epoch"], line["dev"][level][measure]] for line in history
            ]
    assert events == {}
    [plain] = train_heads([JOB], cache, tmp_path / "without")
    assert results_of(result.folder) == results_of(plain.folder)
    assert not (plain.folder / "tensorboard").exists()


@pytest.mark.usefixtures("_stand_in")
def test_it_shows_a_training_meanwhile_and_after_an_interrupt_each_epoch_once(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_heads([JOB], cache, tmp_path, tensorboard=True, on_epoch=interrupt_after(2))
    assert [step for step, _ in events_in(tmp_path / f".{JOB.name}.training")["lr"]] == [1, 2]
    [result] = train_heads([JOB], cache, tmp_path, tensorboard=True)
    assert [step for step, _ in events_in(result.folder)["lr"]] == [1, 2, 3]
    assert names_in(tmp_path) == [JOB.name]


@pytest.mark.usefixtures("_stand_in")
def test_numbers_that_are_not_defined_are_left_out(cache: Path, tmp_path: Path) -> None:
    """All clips of one system: there is no order of systems."""
    reader = CacheReader(cache, "dev")
    ids = [clip_id for clip_id, system in zip(reader.ids, reader.systems, strict=True) if system == reader.systems[0]]
    (tmp_path / "dev.txt").write_text("".join(f"{clip_id}.wav,{i + 1},2\n" for i, clip_id in enumerate(ids)))
    lists = Lists(dev=tmp_path / "dev.txt")
    [result] = train_heads([JOB], cache, tmp_path / "runs", lists=lists, tensorboard=True)
    events = events_in(result.folder)
    assert "sys_mi/srcc" not in events and "utt_ta/srcc" not in events
    assert len(events["utt_mi/srcc"]) == len(events["sys_mi/mse"]) == 3


def test_without_tensorboard_it_is_said_before_anything_is_trained(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError) as caught:
        train_heads([JOB], cache, tmp_path / "runs", tensorboard=True)
    message = str(caught.value)
    assert message.startswith("--tensorboard: TensorBoard is not installed (")
    assert message.endswith("); pip install 'audiomos-cache[tensorboard]'")
    assert not (tmp_path / "runs").exists()
    command = ["train-head", "--cache", str(cache), "--out", str(tmp_path / "runs"), "--tensorboard"]
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, f"Error: {message}")
