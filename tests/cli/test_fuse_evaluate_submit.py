import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

import audiomos_cache
from audiomos_cache.cli import main

COMMANDS = Path(audiomos_cache.__file__).parent / "cli"
GOLDEN = Path(__file__).parents[1] / "golden" / "fusion"


def golden(name):
    return str(GOLDEN / name)


def run(*arguments):
    """Run a command that must succeed, and give its stdout."""
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(*arguments):
    """Run a command that must end with our error, and give its one line."""
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    (line,) = result.stderr.splitlines()
    return line


def test_fuse_files_by_ridge(tmp_path):
    models = ("dist_a", "dist_b", "coral_c")
    applied = [option for model in models for option in ("--apply", golden(f"{model}_eval.pt"))]
    fitted = [golden(f"{model}_dev.pt") for model in models]
    out = tmp_path / "fused"
    printed = run("fuse", *fitted, "--labels", golden("dev_mos_list.txt"), *applied, "--out", out)
    assert printed == f"{out}/answer.txt: ridge of 3 predictions, 60 clips\n"
    lines, expected = (
        [line.split(",") for line in path.read_text().splitlines()]
        for path in (out / "answer.txt", GOLDEN / "expected_answer_ridge.txt")
    )
    assert [line[0] for line in lines] == [line[0] for line in expected]
    for line, expected_line in zip(lines, expected, strict=True):
        assert list(map(float, line[1:])) == pytest.approx(list(map(float, expected_line[1:])), abs=1e-6)


def test_fuse_then_evaluate_then_submit(tmp_path):
    out, answer = tmp_path / "fused", tmp_path / "answer.zip"
    run("fuse", golden("dist_a_eval.pt"), golden("coral_c_eval.pt"), "--method", "mean", "--out", out)
    fused = out / "fused.jsonl"
    assert json.loads((out / "fusion.json").read_text())["apply_split"] is None
    scores = json.loads(run("evaluate", fused, "--labels", golden("eval_labels.txt"), "--json"))
    assert scores["n_clips"] == 60
    assert 0 < scores["sys_ta"]["srcc"] <= 1
    printed = run("submit", fused, "--list", golden("eval_list.txt"), "--out", answer)
    assert printed == f"{answer}: answer.txt with 60 clips\n"
    with zipfile.ZipFile(answer) as archive:
        assert archive.read("answer.txt") == (out / "answer.txt").read_bytes()


def test_fuse_refuses_an_occupied_folder_before_reading(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    line = fail("fuse", tmp_path / "notes.txt", "--out", tmp_path)
    assert line == f"Error: {tmp_path}: holds notes.txt; give another --out, or --overwrite"


def test_ridge_without_labels_says_what_to_give(tmp_path):
    files = (golden("dist_a_dev.pt"), "--apply", golden("dist_a_eval.pt"))
    line = fail("fuse", *files, "--out", tmp_path / "out")
    assert line == "Error: ridge: no labels to fit on; give the fit split's list with --labels"


def test_the_choices_are_the_registrys():
    from audiomos_cache.fusion import METHODS

    (option,) = (option for option in main.commands["fuse"].params if option.name == "method")
    assert list(option.type.choices) == list(METHODS)


@pytest.mark.parametrize("name", ["fuse", "evaluate", "submit"])
def test_help_has_an_example(name):
    assert f"  audiomos-cache {name} " in run(name, "--help")


def test_help_shows_defaults():
    printed = " ".join(run("fuse", "--help").split())
    for default in ("ridge", "(dev with runs)", "(eval with runs)", "loss"):
        assert f"[default: {default}]" in printed


@pytest.mark.parametrize("name", ["fuse", "evaluate", "submit"])
def test_importing_a_command_loads_nothing_heavy(name):
    code = (
        "import runpy, sys\n"
        f"runpy.run_path({str(COMMANDS / name)!r} + '.py')\n"
        "print(sorted({'numpy', 'torch', 'scipy', 'sklearn', 'rich'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "[]\n"
