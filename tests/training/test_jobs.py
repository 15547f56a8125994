"""Plans: what they may hold, and what a repeated command does with the runs that are there."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from rich.cells import cell_len

from audiomos_cache import registry
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cli import main
from audiomos_cache.errors import BusyError, ConfigError, DataError, OutputError, OutputExistsError
from audiomos_cache.evaluation.metrics import compute_metrics
from audiomos_cache.evaluation.predictions import read_predictions
from audiomos_cache.fusion.align import fuse_predictions
from audiomos_cache.fusion.averages import MeanFusion
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.pooling import MeanPooling
from audiomos_cache.heads.presets import load_head_config, plan_names, preset_names, presets_folder
from audiomos_cache.locks import locked
from audiomos_cache.runs import deciding_config
from audiomos_cache.training import resume
from audiomos_cache.training.data import ClipSet, Lists
from audiomos_cache.training.jobs import HeadJob, job_differences, load_plan, named_heads
from audiomos_cache.training.resume import state_folder
from audiomos_cache.training.train_head import train_head
from audiomos_cache.training.train_heads import train_heads
from audiomos_cache.training.trainer import Trainer
from tests.support.training import files_in, interrupt_after, job, names_in

PLAN = """\
runs:
  - {head: pooling-dist, seed: 1}
  - {head: cross-attention-dist, seed: 2, set: [dropout=0.1]}
  - {head: mine.yaml, seed: 3, name: best of all}
"""


@pytest.fixture
def plan_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(content: str) -> Path:
        (tmp_path / "heads").mkdir(exist_ok=True)
        (tmp_path / "heads" / "mine.yaml").write_text("temporal: {kind: none}\ntext_audio: {kind: none}\n")
        path = tmp_path / "heads" / "plan.yaml"
        path.write_text(content)
        return path

    return write


def message_of(plan: object, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_plan(str(plan), overrides)
    return str(caught.value)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(
        main, ["train-head", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": "120"}
    )


def test_the_published_ensemble() -> None:
    jobs = load_plan("ensemble8")
    assert [job.name for job in jobs] == [
        "transformer-dist-seed1984",
        "transformer-dist-seed1990",
        "transformer-dist-seed1910",
        "transformer-dist-seed1510",
        "transformer-onehot-seed1984",
        "transformer-coral-seed1510",
        "decoupled-lstm-dist-seed1984",
        "decoupled-dist-seed1984",
    ]
    for each in jobs:
        preset, _, seed = each.name.rpartition("-seed")
        assert (each.config, each.seed) == (load_head_config(preset)[1], int(seed))
    assert load_plan(str(presets_folder() / "ensemble8.yaml")) == jobs


def test_a_plan_is_no_preset_and_a_preset_no_plan() -> None:
    assert plan_names() == ["ensemble8"] and "ensemble8" not in preset_names()
    with pytest.raises(ConfigError) as caught:
        load_head_config("ensemble8")
    assert str(caught.value) == "--head ensemble8: is a plan of several runs, not a preset; give it to --plan"
    path = presets_folder() / "ensemble8.yaml"
    with pytest.raises(ConfigError) as caught:
        load_head_config(str(path))
    assert str(caught.value) == f"{path}: has runs, so it is a plan; give it to --plan"
    expected = "--plan transformer-dist: is a preset for one head, not a plan; give it to --head"
    assert message_of("transformer-dist") == expected
    path = presets_folder() / "transformer-dist.yaml"
    assert message_of(path) == f"{path}: has no key runs, so it is not a plan; give a single head to --head"
    assert message_of("ensemble9") == "--plan ensemble9: plan not found; known are ensemble8, or give a .yaml file"


def test_names_files_and_overrides_of_a_plan(plan_file: Callable[[str], Path]) -> None:
    plain, changed, named = load_plan(str(plan_file(PLAN)), ("training.max_epochs=2",))
    assert (plain.name, changed.name, named.name) == ("pooling-dist-seed1", "cross-attention-dist-seed2", "best of all")
    assert (plain.config.dropout, changed.config.dropout) == (0.3, 0.1)
    assert named.config.text_audio.kind == "none", "beside the plan, wherever the command is run"
    assert {job.config.training.max_epochs for job in (plain, changed, named)} == {2}
    [last] = load_plan(str(plan_file("runs: [{head: pooling-dist, seed: 1, set: [dropout=0.1]}]")), ("dropout=0.2",))
    assert last.config.dropout == 0.2, "the command's come after the plan's"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("runs: []", "runs: empty, expected one or more"),
        ("runs: 3", "runs: 3: input should be a valid tuple"),
        ("runs: [3]", "runs.0: 3 is a value, expected keys"),
        ("runs: [{seed: 3}]", "runs.0.head: missing"),
        ("runs: [{head: pooling-dist}]", "runs.0.seed: missing"),
        ("runs: [{head: pooling-dist, seed: -1}]", "runs.0.seed: -1: input should be greater than or equal to 0"),
        ("runs: [{head: pooling-dist, seed: 1, sets: []}]", "runs.0.sets: unknown key"),
        ("{runs: [{head: pooling-dist, seed: 1}], seeds: 3}", "seeds: unknown key"),
        *((f"runs: [{{head: pooling-dist, seed: 1, name: {name}}}]",
           f"runs.0.name: {name!r}: expected letters, digits, spaces and . _ + -, 200 bytes at most, and a letter, a "
           "digit or _ first")
          for name in ("a/b", ".hidden", "../up", "-rf", "a\\b", "\u00fc" * 101)),
        (f"runs: [{{head: pooling-dist, seed: 1, name: {'n' * 201}}}]",
         f"runs.0.name: '{'n' * 147}...{'n' * 50}': expected letters, digits, spaces and . _ + -, 200 bytes at most, "
         "and a letter, a digit or _ first"),
        ('runs: [{head: pooling-dist, seed: 1, name: "a\\nb"}]',
         "runs.0.name: 'a\\nb': expected letters, digits, spaces and . _ + -, 200 bytes at most, and a letter, a "
         "digit or _ first"),
        ("runs: [{head: pooling-dist, seed: true}]", "runs.0.seed: True: input should be a number"),
        ("runs: [{head: pooling-dist, seed: 1, name: 3}]", "runs.0.name: 3: input should be a valid string"),
        ("runs: [{head: nope, seed: 1}]",
         f"runs.0: --head nope: preset not found; known are {', '.join(preset_names())}, or give a .yaml file"),
        ("runs: [{head: pooling-dist, seed: 1}, {head: ensemble8, seed: 1}]",
         "runs.1: --head ensemble8: is a plan of several runs, not a preset; give it to --plan"),
    ],
)  # fmt: skip
def test_a_problem_of_a_plan_is_named_by_its_place(
    plan_file: Callable[[str], Path], content: str, problem: str
) -> None:
    path = plan_file(content)
    assert message_of(path) == f"{path}: {problem}"


@pytest.mark.parametrize("name", ["yes", "on", "2024-01-01", "\u00fc \u00fc", "a.b_c+d-e", "n" * 200])
def test_a_name_may_be(plan_file: Callable[[str], Path], name: str) -> None:
    [planned] = load_plan(str(plan_file(f"runs: [{{head: pooling-dist, seed: 1, name: {name}}}]")))
    assert planned.name == name


def test_all_heads_that_are_not_valid_are_reported_at_once(plan_file: Callable[[str], Path]) -> None:
    path = plan_file("runs: [{head: a, seed: 1}, {head: pooling-dist, seed: 1}, {head: none.yaml, seed: 1}]")
    message = message_of(path, "dropout=2")
    assert message.startswith(f"{path}: runs.0: --head a: preset not found; ")
    assert f"; runs.1: {presets_folder()}/pooling-dist.yaml with dropout=2: dropout: 2: input should be" in message
    assert f"; runs.2: {path.parent}/none.yaml: file not found, expected keys" in message


def test_a_file_that_cannot_be_read_as_a_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    assert message_of(path) == f"{path}: file not found, expected the key runs"
    path.write_text("- head: pooling-dist\n")
    assert message_of(path) == f"{path}: found list, expected the key runs"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Seed and number of each epoch that is trained."""
    epochs: list[tuple[int, int]] = []
    train_epoch = Trainer.train_epoch

    def note(self: Trainer, epoch: int) -> tuple[float, float]:
        epochs.append((self.seed, epoch))
        return train_epoch(self, epoch)

    monkeypatch.setattr(Trainer, "train_epoch", note)
    monkeypatch.setattr(resume, "SHARE_OF_TIME", float("inf"))
    return epochs


JOBS = [job("pooling-dist", seed) for seed in (1, 2, 3)]


def test_a_plan_that_was_interrupted_goes_on_with_what_is_left(
    cache: Path, tmp_path: Path, trained: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    train_heads(JOBS, cache, tmp_path / "whole")
    trained.clear()

    def interrupt(which: HeadJob, line: dict[str, Any], _last: bool) -> None:
        if (which.seed, line["epoch"]) == (2, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_heads(JOBS, cache, tmp_path / "runs", on_epoch=interrupt)
    with caplog.at_level("INFO"):
        results = train_heads(JOBS, cache, tmp_path / "runs")
    assert trained == [(seed, epoch) for seed in (1, 2, 3) for epoch in (1, 2, 3)], "none twice"
    assert [message for message in caplog.messages if "seed" in message and "epochs, " not in message] == [
        "pooling-dist-seed1: finished already",
        "pooling-dist-seed2: continues after epoch 2",
    ]
    assert files_in(tmp_path / "runs") == files_in(tmp_path / "whole")
    fresh = train_heads(JOBS, cache, tmp_path / "again")
    assert [(result.folder.name, result.epochs, result.dev) for result in results] == [
        (result.folder.name, result.epochs, result.dev) for result in fresh
    ], "as if all had been trained now"


def test_heads_and_seeds_go_on_where_the_second_was_interrupted(
    cache: Path, tmp_path: Path, trained: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    """The Python verb, and the command after it: neither --plan nor --overwrite."""
    heads, seeds, out = ["pooling-dist", "cross-attention-dist"], [1, 2], tmp_path / "runs"
    settings: dict[str, Any] = {"set": {"training.max_epochs": 2}, "device": "cpu"}
    train_head(cache, heads, seeds, out=tmp_path / "whole", **settings)
    names = names_in(tmp_path / "whole")
    trained.clear()

    def interrupt(what: str, done: int, _total: int, _note: str = "") -> None:
        if (what, done) == ("pooling-dist-seed2", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_head(cache, heads, seeds, out=out, progress=interrupt, **settings)
    assert names_in(out) == [".pooling-dist-seed2.training", "pooling-dist-seed1"]
    options = ("--set", "training.max_epochs=2", "--device", "cpu", "--out", out, "--seed", 1, "--seed", 2)
    command = ("--cache", cache, *(word for head in heads for word in ("--head", head)), *options)
    with caplog.at_level("INFO"):
        result = invoke(*command)
    assert result.exit_code == 0, result.output
    assert trained == [(seed, epoch) for _ in heads for seed in seeds for epoch in (1, 2)], "none twice"
    assert [message for message in caplog.messages if "seed" in message and "epochs, " not in message] == [
        "pooling-dist-seed1: finished already",
        "pooling-dist-seed2: continues after epoch 1",
    ]
    assert names_in(out) == names
    for name in names:
        found, expected = files_in(out / name), files_in(tmp_path / "whole" / name)
        assert found.pop("config.yaml") != expected.pop("config.yaml"), "the command is another"
        assert found == expected
        assert deciding_config(out / name) == deciding_config(tmp_path / "whole" / name)
    rows = rows_of(result.stdout)
    assert [row[0] for row in rows] == [f"{head}-seed{seed}" for head in heads for seed in seeds] + [
        "mean of the predictions"
    ]
    again = invoke(*command)
    assert again.exit_code == 0
    assert [row[:-1] for row in rows_of(again.stdout)] == [row[:-1] for row in rows]


def test_a_single_run_that_is_finished_is_skipped(
    cache: Path, tmp_path: Path, trained: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    command = ("--cache", cache, "--head", "pooling-dist", "--set", "training.max_epochs=1", "--out", tmp_path)
    first = invoke(*command)
    before = files_in(tmp_path)
    for more in ((), ("--overwrite",)):
        with caplog.at_level("INFO"):
            again = invoke(*command, *more)
        assert again.exit_code == 0
        assert caplog.messages[-1] == "pooling-dist-seed1984: finished already"
        assert [row[:-1] for row in rows_of(again.stdout)] == [row[:-1] for row in rows_of(first.stdout)]
    assert (trained, files_in(tmp_path)) == ([(1984, 1)], before)


def test_runs_that_other_processes_train_are_refused_if_there_are_no_others(cache: Path, tmp_path: Path) -> None:
    with locked(state_folder(tmp_path / JOBS[0].name) / "lock", "held"):
        with pytest.raises(BusyError, match=r"pooling-dist-seed1: is being trained by process \d+ on .*; wait for it"):
            train_heads(JOBS[:1], cache, tmp_path)
        assert [result.folder.name for result in train_heads(JOBS[:2], cache, tmp_path)] == [JOBS[1].name]


def test_an_imported_run_of_that_name_is_refused(cache: Path, tmp_path: Path) -> None:
    run = tmp_path / JOBS[0].name
    run.mkdir()
    config = {"seed": None, "head": {}, "imported": {"as": "pooling-dist"}, "fingerprint": "unknown"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(OutputExistsError, match=r"pooling-dist-seed1: exists already with a different configuration: "):
        train_heads(JOBS[:1], cache, tmp_path)


def test_a_plan_that_is_finished_reads_no_features(
    cache: Path, tmp_path: Path, trained: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    train_heads(JOBS[:2], cache, tmp_path)
    trained.clear()
    monkeypatch.setattr(CacheReader, "read_frames", None)
    stat = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for overwrite in (False, True):
        results = train_heads(JOBS[:2], cache, tmp_path, overwrite=overwrite, preload="ram")
        assert [result.epochs for result in results] == [3, 3]
    assert trained == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stat


def test_a_finished_run_that_differs_is_refused_or_replaced(
    cache: Path, tmp_path: Path, trained: list[tuple[int, int]]
) -> None:
    train_heads(JOBS[:2], cache, tmp_path)
    before = files_in(tmp_path)
    trained.clear()
    changed = [job("pooling-dist", 3), JOBS[0], job("pooling-dist", 2, "dropout=0.1")]
    with pytest.raises(OutputExistsError) as caught:
        train_heads(changed, cache, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/pooling-dist-seed2: exists already with a different configuration: head.dropout is 0.3, "
        "requested 0.1; give another --out, or --overwrite"
    )
    assert (trained, files_in(tmp_path)) == ([], before)
    train_heads(changed, cache, tmp_path, overwrite=True)
    assert {seed for seed, _ in trained} == {2, 3}
    after = files_in(tmp_path)
    assert {name for name in before if after[name] != before[name]} > {"pooling-dist-seed2/config.yaml"}
    assert all(after[name] == before[name] for name in before if name.startswith("pooling-dist-seed1/"))


def test_a_finished_run_of_other_labels_is_refused(cache: Path, tmp_path: Path) -> None:
    train_heads(JOBS[:1], cache, tmp_path / "runs")
    reader = CacheReader(cache, "dev")
    lines = [f"{clip_id}.wav,{mi},{ta}\n" for clip_id, mi, ta in zip(reader.ids, reader.mi, reader.ta, strict=True)]
    (tmp_path / "dev.txt").write_text("".join(lines))
    lists = Lists(dev=tmp_path / "dev.txt")
    assert train_heads(JOBS[:1], cache, tmp_path / "runs", lists=lists), "the same labels"
    (tmp_path / "dev.txt").write_text("".join([f"{reader.ids[0]}.wav,1,1\n", *lines[1:]]))
    with pytest.raises(OutputExistsError, match=r"data\.dev\.labels_xxh3_128 is '\w+', requested '\w+'; give"):
        train_heads(JOBS[:1], cache, tmp_path / "runs", lists=lists)


def test_versions_and_device_do_not_make_a_finished_run_another(cache: Path, tmp_path: Path) -> None:
    [result] = train_heads(JOBS[:1], cache, tmp_path)
    path = result.folder / "config.yaml"
    changed = path.read_text().replace("device: cpu", "device: cuda").replace("\n  torch: ", "\n  torch: 1.")
    assert changed != path.read_text()
    path.write_text(changed)
    [found] = train_heads(JOBS[:1], cache, tmp_path)
    assert (found.dev, found.seconds) == (result.dev, None)
    [found] = train_heads(JOBS[:1], cache, tmp_path, overwrite=True)
    assert found.seconds is not None, "unless they are to be those of now"
    assert path.read_text() != changed


MY_PARTS = """
from audiomos_cache.heads.pooling import MeanPooling
from audiomos_cache.registry import register

@register("pooling", "mine")
class Mine(MeanPooling):
    pass
"""


@pytest.mark.usefixtures("fresh_registry")
def test_a_part_is_the_same_however_its_import_is_spelled(
    cache: Path, tmp_path: Path, trained: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "my_parts.py").write_text(MY_PARTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "parts"))
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    recorded = []
    for given in ("parts/my_parts.py", "./parts/my_parts.py", str(tmp_path / "parts" / "my_parts.py"), "my_parts"):
        registry._parts["pooling"].pop("mine", None)
        registry._imported.clear()
        sys.modules.pop("my_parts", None)
        registry.import_parts(given)
        recorded += registry.not_built_in([("pooling", "mine")])
        mine = job("pooling-dist", 1, "pooling=mine", "training.max_epochs=1")
        assert train_heads([mine], cache, tmp_path / "runs")
    assert [part["import"] for part in recorded][::3] == ["parts/my_parts.py", "my_parts"]
    assert len(trained) == 1, "finished after the first"
    with (tmp_path / "parts" / "my_parts.py").open("a") as file:
        file.write("    share = 2\n")
    with pytest.raises(OutputExistsError, match=r"parts\.pooling mine\.code_xxh3_128 is '\w+', requested '\w+'"):
        train_heads([mine], cache, tmp_path / "runs")
    old, new = ({"parts": [recorded[0] | {"version": version}], "data": {}} for version in ("1", "2"))
    assert job_differences(old, new, how=False) == []
    assert len(job_differences(old, new)) == 1, "a training that is continued takes the same version"
    other = {"parts": [recorded[0] | {"class": "Other"}], "data": {}}
    assert len(job_differences(old, other, how=False)) == 1


@pytest.mark.usefixtures("fresh_registry")
def test_training_a_part_of_a_script_warns(cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    registry.register("pooling", "mine")(type("Mine", (MeanPooling,), {"__module__": "__main__"}))
    jobs = [job("pooling-dist", seed, "pooling=mine", "training.max_epochs=1") for seed in (1, 2)]
    train_heads(jobs, cache, tmp_path)
    said = "pooling mine: Mine is defined in __main__; move it to a file to use the run elsewhere"
    assert caplog.messages.count(said) == 1, "for all jobs"


def test_a_damaged_run_is_refused_or_trained_again(cache: Path, tmp_path: Path) -> None:
    [result] = train_heads(JOBS[:1], cache, tmp_path)
    whole = files_in(tmp_path)
    damages: list[tuple[str, str | None, str]] = [
        ("history.jsonl", "", "max() "),
        ("history.jsonl", "{", "JSONDecodeError"),
        ("history.jsonl", '{"epoch": 1, "best": ["loss"], "dev": 3}\n', ""),
        ("config.yaml", "{", "cannot be read as YAML"),
        ("metrics.json", "{}", "KeyError('loss')"),
        ("best-srcc.safetensors", None, "it lacks best-srcc.safetensors"),
        ("predictions/dev.loss.jsonl", None, "it lacks predictions/dev.loss.jsonl"),
    ]
    for name, content, reason in damages:
        if content is None:
            (result.folder / name).unlink()
        else:
            (result.folder / name).write_text(content)
        with pytest.raises(DataError) as caught:
            train_heads(JOBS[:1], cache, tmp_path)
        message = str(caught.value)
        assert message.startswith(f"{result.folder}: cannot be read as a run ("), message
        assert message.endswith("); --overwrite trains it again"), message
        assert reason in message or name == "history.jsonl", message
        train_heads(JOBS[:1], cache, tmp_path, overwrite=True)
        assert files_in(tmp_path) == whole


def test_two_processes_share_a_plan(
    cache: Path, tmp_path: Path, trained: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    """The other one holds the first run, and finishes the second while this one trains the third."""
    order = [JOBS[0], JOBS[2], JOBS[1]]
    train_heads(JOBS[1:2], cache, tmp_path / "elsewhere")

    def finish_the_second(_which: HeadJob, line: dict[str, Any], _last: bool) -> None:
        if line["epoch"] == 1:
            shutil.copytree(tmp_path / "elsewhere" / JOBS[1].name, tmp_path / "runs" / JOBS[1].name)

    trained.clear()
    with locked(state_folder(tmp_path / "runs" / JOBS[0].name) / "lock", "held"), caplog.at_level("INFO"):
        results = train_heads(order, cache, tmp_path / "runs", on_epoch=finish_the_second)
    assert [result.folder.name for result in results] == ["pooling-dist-seed3", "pooling-dist-seed2"]
    assert {seed for seed, _ in trained} == {3}
    [left, finished] = [each for each in caplog.messages if "seed" in each and "epochs, " not in each]
    assert left.startswith(f"{tmp_path}/runs/pooling-dist-seed1: is being trained by process {os.getpid()} on ")
    assert left.endswith("; skipped")
    assert finished == "pooling-dist-seed2: finished by another process"
    assert files_in(tmp_path / "runs" / JOBS[1].name) == files_in(tmp_path / "elsewhere" / JOBS[1].name)


def test_what_a_kill_left_beside_a_finished_run_is_removed(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_heads(JOBS[:1], cache, tmp_path, on_epoch=interrupt_after(3))
    left = tmp_path / ".pooling-dist-seed1.training"
    left.rename(tmp_path / "kept")
    train_heads(JOBS[:1], cache, tmp_path)
    (tmp_path / "kept").rename(left)
    train_heads(JOBS[:1], cache, tmp_path)
    assert names_in(tmp_path) == ["pooling-dist-seed1"]

    with pytest.raises(KeyboardInterrupt):
        other = job("pooling-dist", 1, "dropout=0.1")
        train_heads([other], cache, tmp_path, overwrite=True, on_epoch=interrupt_after(2))
    train_heads(JOBS[:1], cache, tmp_path)
    assert names_in(tmp_path) == [left.name, "pooling-dist-seed1"], "another training's is not touched"


def rows_of(output: str) -> list[list[str]]:
    """The cells of the table of runs, whose columns after the first are aligned with the ends of their heads."""
    lines = output.splitlines()
    head = next(index for index, line in enumerate(lines) if line.startswith("run "))
    _, epochs, *others = re.finditer(r"\S+( \S+)*", lines[head])
    bounds = [0, epochs.start(), epochs.end(), *(each.end() for each in others)]
    rows = [line for line in lines[head + 2 :] if line.strip()]
    return [[line[start:end].strip() for start, end in pairwise(bounds)] for line in rows]


@pytest.mark.parametrize(
    ("head", "overrides", "expected"),
    [
        ({"temporal": "bilstm"}, ("temporal.layers=2",), {"kind": "bilstm", "layers": 2}),
        ({"temporal": {"kind": "bilstm", "layers": 2}}, ("temporal=none",), {"kind": "none"}),
        (
            HeadConfig.model_validate({"temporal": {"kind": "bilstm", "layers": 2}}),
            ("temporal=none",),
            {"kind": "none"},
        ),
    ],
)
def test_overrides_of_a_mapping_are_those_of_a_file(head: Any, overrides: tuple[str, ...], expected: Any) -> None:
    before = deepcopy(head)
    [(name, config)] = named_heads([head], overrides)
    assert name == "head"
    assert expected.items() <= config.temporal.model_dump().items()
    assert head == before


def test_a_plan_on_the_command_line(
    cache: Path, tmp_path: Path, plan_file: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    options = ("--set", "training.max_epochs=2", "--out", tmp_path / "runs")
    command = ("--cache", cache, "--plan", plan_file(PLAN), *options)
    with caplog.at_level("INFO"):
        first, again = invoke(*command), invoke(*command)
    assert (first.exit_code, again.exit_code) == (0, 0), first.output + again.output
    names = ["pooling-dist-seed1", "cross-attention-dist-seed2", "best of all"]
    assert names_in(tmp_path / "runs") == sorted(names)
    assert caplog.messages[-3:] == [f"{name}: finished already" for name in names]
    *rows, mean = rows_of(first.stdout)
    assert [row[:-1] for row in rows_of(again.stdout)] == [row[:-1] for row in (*rows, mean)], "but for the seconds"
    assert all(re.fullmatch(r"\d+\.\d", row[-1]) for row in rows), "0.0 where the machine is fast"
    assert {row[-1] for row in rows_of(again.stdout)} == {""}, "nothing was trained again"
    assert [row[:2] for row in rows] == [[name, "2"] for name in names]
    members = [read_predictions(tmp_path / "runs" / name / "predictions" / "dev.loss.jsonl") for name in names]
    scores = compute_metrics(fuse_predictions(MeanFusion(names), members), ClipSet.of_split(cache, "dev").labels)
    shown = [f"{each.srcc:.4f}" for each in (scores.utt_mi, scores.utt_ta, scores.sys_mi, scores.sys_ta)]
    assert mean == ["mean of the predictions", "", *shown, ""]
    assert all(cell_len(line) <= 120 for line in first.stdout.splitlines())


def test_no_mean_of_one_run_or_over_listed_clips(cache: Path, tmp_path: Path) -> None:
    command = ("--cache", cache, "--head", "pooling-dist", "--set", "training.max_epochs=1", "--out")
    assert [row[0] for row in rows_of(invoke(*command, tmp_path / "one").stdout)] == ["pooling-dist-seed1984"]
    ids = CacheReader(cache, "dev").ids
    (tmp_path / "dev.txt").write_text("".join(f"{clip_id}.wav,{i % 5 + 1},2\n" for i, clip_id in enumerate(ids)))
    result = invoke(*command, tmp_path / "two", "--seed", 1, "--seed", 2, "--dev-list", tmp_path / "dev.txt")
    assert [row[0] for row in rows_of(result.stdout)] == ["pooling-dist-seed1", "pooling-dist-seed2"]


@pytest.mark.parametrize("more", [("--head", "pooling-dist"), ("--seed", 1984)])
def test_a_plan_lists_heads_and_seeds_itself(cache: Path, tmp_path: Path, more: tuple[object, ...]) -> None:
    result = invoke("--cache", cache, "--plan", "ensemble8", "--out", tmp_path, *more)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "Error: --plan lists heads and seeds itself; leave out --head and --seed"
    assert list(tmp_path.iterdir()) == []


def test_a_plan_with_a_name_twice_is_refused(cache: Path, tmp_path: Path, plan_file: Callable[[str], Path]) -> None:
    path = plan_file("runs: [{head: pooling-dist, seed: 1}, {head: pooling-dist, seed: 1, set: [dropout=0.1]}]")
    result = invoke("--cache", cache, "--plan", path, "--out", tmp_path / "runs")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: runs that would have the same name: pooling-dist-seed1; ")


def test_an_out_that_cannot_be_written_is_found_before_the_features_are_read(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("kept")
    monkeypatch.setattr(CacheReader, "read_frames", None)
    with pytest.raises(OutputError, match=rf"^{tmp_path}/file/runs: cannot be written: "):
        train_heads(JOBS[:1], cache, tmp_path / "file" / "runs", preload="ram")
    assert (tmp_path / "file").read_text() == "kept"
