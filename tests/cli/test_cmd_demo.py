from pathlib import Path

import pytest
from click.testing import CliRunner

import audiomos_cache.cli.cmd_demo  # noqa: F401 - the module, which the command of that name hides
from audiomos_cache.cli import main


@pytest.fixture
def commands(monkeypatch):
    """Do nothing but note the commands that the demo shows."""
    shown = []

    def note(_context, name, *arguments):
        shown.append([name, *map(str, arguments)])
        if name == "train-head":
            (Path(arguments[-1]) / "some-run").mkdir(parents=True)

    import sys

    monkeypatch.setattr(sys.modules["audiomos_cache.cli.cmd_demo"], "_run", note)
    monkeypatch.setattr(
        "audiomos_cache.testing.music.make_dataset", lambda root, **_: (root / "sets").mkdir(parents=True)
    )
    return shown


def demo(*arguments):
    return CliRunner().invoke(main, ["demo", *map(str, arguments)])


def test_it_runs_the_commands_of_the_line(commands, tmp_path):
    result = demo("--out", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert [command[0] for command in commands] == ["extract", "train-head", "fuse", "evaluate", "bundle", "score"]
    assert commands[0][1:3] == ["--data", str(tmp_path / "new" / "data")]
    assert sorted(path.name for path in (tmp_path / "new" / "new").iterdir()) == ["clean.wav", "damaged.wav"]
    assert "the table shows that the pipeline works, nothing more." in result.stdout
    assert "audiomos-cache extract --data MusicEval-phase1" in result.stdout


def test_twice_needs_overwrite(commands, tmp_path):
    assert demo("--out", tmp_path).exit_code == 0
    result = demo("--out", tmp_path)
    assert result.exit_code == 1
    assert "exists already; give another --out, or --overwrite" in result.stderr
    (tmp_path / "notes.txt").write_text("mine")
    assert demo("--out", tmp_path, "--overwrite").exit_code == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(commands) == 12


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_folder_that_no_demo_made_is_left_alone(commands, tmp_path, overwrite):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "precious").write_text("mine")
    result = demo("--out", tmp_path, *overwrite)
    assert result.exit_code == 1
    assert "holds runs/precious, which is not part of a demo and would be lost; give another --out" in result.stderr
    assert (tmp_path / "runs" / "precious").read_text() == "mine"
    assert commands == []


def test_an_interrupt_ends_the_whole_demo(monkeypatch, tmp_path):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "audiomos_cache.testing.music.make_dataset", lambda root, **_: (root / "sets").mkdir(parents=True)
    )
    monkeypatch.setattr("audiomos_cache.extraction.extract.load_dataset", interrupted)
    result = demo("--out", tmp_path)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "Interrupted. What was finished is kept."
    assert "train-head" not in result.stdout
