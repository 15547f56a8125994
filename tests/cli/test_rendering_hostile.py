"""What a file contains reaches neither a terminal as a command nor a message at length."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from audiomos_cache.cli import main
from tests.support.commands import fail, run
from tests.support.fusion import make_run

EVIL = "\x1b]0;x\x07\x9b2J\u202egnp\u2066"
MEGABYTE = "a b " * 250_000


def test_what_a_runs_config_contains_is_escaped(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    config = {"head": {}, "audio_dim": 8, "text_dim": 8, "audio_layers": [0], "layers_read": [0]}
    content = yaml.safe_load((folder / "config.yaml").read_text()) | config | {"made_with": {"command": EVIL}}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    shown = run("info", folder)
    assert all(line.isprintable() for line in shown.splitlines()) and r"\x1b]0;x\x07\x9b2J\u202egnp\u2066" in shown
    assert json.loads(run("info", folder, "--json"))["made_with"]["command"] == EVIL


def test_systems_and_files_are_escaped_in_tables(tmp_path: Path) -> None:
    ids = [f"S{n % 2}\u202e\x9b[31m_P{n}" for n in range(6)]
    (tmp_path / "l.txt").write_text("".join(f"{each}.wav,{1 + n / 2},3.{n}\n" for n, each in enumerate(ids)))
    answer = tmp_path / "a\u202e.txt"
    answer.write_text("".join(f"{each},{1 + n / 2},3\n" for n, each in enumerate(ids)))
    for options in (["--by", "system"], ["--n-boot", "0"]):
        shown = run("evaluate", answer, "--labels", tmp_path / "l.txt", *options)
        assert all(line.isprintable() for line in shown.splitlines()) and "\\u202e" in shown


@pytest.mark.parametrize(
    "text",
    [f"{MEGABYTE}.wav,3,4\n", f"a.wav,{MEGABYTE},4\n", f"a,{MEGABYTE}\n", "x.wav,3,4\n" * 2 + MEGABYTE, EVIL],
    ids=["an id", "a number", "a field", "a line", "controls"],
)
def test_a_message_is_short_whatever_a_list_contains(tmp_path: Path, text: str) -> None:
    (tmp_path / "l.txt").write_text(text)
    (tmp_path / "a.txt").write_text("a,3,4\n")
    line = fail("evaluate", tmp_path / "a.txt", "--labels", tmp_path / "l.txt")
    assert len(line) < 1500 and line.isprintable()


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "n" * 100_000],
        ["train-head", "--head", "n" * 100_000],
        ["train-head", "--head", "pooling-dist", "--set", f"dropout={'x ' * 50_000}"],
        ["train-head", "--plan", f"{MEGABYTE}.yaml"],
        ["score", "n" * 100_000, "--bundle", "n" * 100_000],
        ["fuse", "x", "--out", "o", "--method", "n" * 100_000],
    ],
    ids=["a path", "a preset", "a value", "a plan", "a bundle", "a method"],
)
def test_a_message_is_short_whatever_an_option_is(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (1, 2) and len(result.stderr) < 3000


@pytest.mark.parametrize(
    "arguments",
    [
        ["split", "l.txt", "--seed", "1_0"],
        ["split", "l.txt", "--seed", "\u0661"],
        ["extract", "--data", "l.txt", "--pad-to", "1_0"],
        ["extract", "--data", "l.txt", "--layers", "1,\u0662"],
        ["extract", "--data", "l.txt", "--shard", "\u0661/\u0662"],
        ["extract", "--data", "l.txt", "--batch-size", "1_0"],
        ["evaluate", "a.txt", "--labels", "l.txt", "--n-boot", "1_000"],
        ["fuse", "x", "--out", "o", "--folds", "\u0665"],
        ["split", "l.txt", "--fraction", "0.1_0"],
    ],
)
def test_numbers_are_written_as_everybody_writes_them(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert any(text in result.stderr for text in ("expected I/N", "is not a", "is neither none nor a number"))
