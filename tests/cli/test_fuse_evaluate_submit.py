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


def test_evaluate_prints_a_table_in_the_fields_order():
    printed = run("evaluate", golden("dist_a_eval.pt"), "--labels", golden("eval_labels.txt"))
    lines = [line.rstrip() for line in printed.splitlines()]
    assert lines[0] == "dist_a_eval.pt"
    rows = [line.replace("│", " ").split() for line in lines if "│" in line]
    assert rows == [
        ["utterance", "MI", "0.2056", "0.8902", "0.8851", "0.7324"],
        ["utterance", "TA", "0.1983", "0.8411", "0.8493", "0.6913"],
        ["system", "MI", "0.1431", "0.9035", "0.8998", "0.7586"],
        ["system", "TA", "0.0580", "0.9511", "0.9158", "0.7687"],
    ]
    (header,) = [line.replace("┃", " ").split() for line in lines if "┃" in line]
    assert header == ["level", "score", "MSE", "LCC", "SRCC", "KTAU"]
    assert lines[-1] == "60 clips, 24 systems"


def test_evaluate_takes_the_systems_truth_from_a_file(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"id": "S1_P1", "mi": 2.0, "ta": 3.0}\n')
    (tmp_path / "list.txt").write_text("S1_P1.wav,2.0,3.0\n")
    (tmp_path / "systems.csv").write_text("S1,4.0,3.5\n")
    arguments = (tmp_path / "p.jsonl", "--labels", tmp_path / "list.txt")
    scores = json.loads(run("evaluate", *arguments, "--system-truth", tmp_path / "systems.csv", "--json"))
    assert scores["utt_mi"] == {"mse": 0.0, "lcc": None, "srcc": None, "ktau": None}
    assert (scores["sys_mi"]["mse"], scores["sys_ta"]["mse"]) == (4.0, 0.25)
    assert "n/a" in run("evaluate", *arguments)


def test_evaluate_on_a_split_of_a_manifest(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"id": "a", "mi": 2.0, "ta": 3.0}\n{"id": "b", "mi": 4.0, "ta": 3.0}\n')
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,prompt,system,split,mi,ta\na.wav,x,s,dev,2,3\nb.wav,x,s,dev,4,3\nc.wav,x,s,eval,,\n")
    arguments = (tmp_path / "p.jsonl", "--labels", manifest)
    scores = json.loads(run("evaluate", *arguments, "--split", "dev", "--json"))
    assert (scores["n_clips"], scores["n_systems"]) == (2, 1)  # the ids alone would make it two systems
    assert scores["utt_mi"]["mse"] == 0.0
    line = fail("evaluate", *arguments, "--split", "test")
    assert line == f"Error: {manifest}: no split 'test', expected one of dev, eval"
    line = fail("evaluate", *arguments)
    assert line == f"Error: {manifest}: no label for c, expected mi and ta in every row"


def test_submit_refuses_the_wrong_clips_and_an_existing_zip(tmp_path):
    answer = tmp_path / "answer.zip"
    rest = ("--list", golden("eval_list.txt"), "--out", answer)
    run("submit", golden("dist_a_eval.pt"), *rest)
    expected = f"Error: {answer}: exists already; give another path, or --overwrite"
    assert fail("submit", golden("dist_a_eval.pt"), *rest) == expected
    run("submit", golden("dist_a_eval.pt"), *rest, "--overwrite")
    line = fail("submit", golden("dist_a_dev.pt"), *rest, "--overwrite")
    assert line.startswith("Error: predictions: missing clips of the list: audiomos2025-track1-S001_P132, ")
    assert line.endswith(" ... (160 in all); both must hold the same clips")


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


def test_help_says_where_a_split_counts():
    assert "With a manifest only: the split whose rows to read." in " ".join(run("evaluate", "--help").split())


@pytest.mark.parametrize("name", ["fuse", "evaluate", "submit"])
def test_importing_a_command_loads_nothing_heavy(name):
    code = (
        "import runpy, sys\n"
        f"runpy.run_path({str(COMMANDS / name)!r} + '.py')\n"
        "print(sorted({'numpy', 'torch', 'scipy', 'sklearn', 'rich'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "[]\n"
