import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

import audiomos_cache
from audiomos_cache.cli import main
from tests.support.commands import fail, run

COMMANDS = Path(audiomos_cache.__file__).parent / "cli"
GOLDEN = Path(__file__).parents[1] / "golden" / "fusion"


def golden(name):
    return str(GOLDEN / name)


def test_fuse_files_by_ridge(tmp_path):
    models = ("dist_a", "dist_b", "coral_c")
    applied = [option for model in models for option in ("--apply", golden(f"{model}_eval.pt"))]
    fitted = [golden(f"{model}_dev.pt") for model in models]
    out = tmp_path / "fused"
    printed = run("fuse", *fitted, "--labels", golden("dev_mos_list.txt"), *applied, "--out", out)
    lines = printed.splitlines()
    assert lines[0] == f"{out}/answer.txt: ridge of 3 members, 60 clips"
    assert lines[1] == (
        "Out-of-fold on the fit split: each clip by a fusion that was fitted without it, 5 folds by prompt."
    )
    scores = json.loads(run("evaluate", out / "out-of-fold.jsonl", "--labels", golden("dev_mos_list.txt"), "--json"))
    rows = [line.replace("│", " ").split() for line in lines if "│" in line]
    assert [row[:3] for row in rows[::2]] == [
        ["utt", "MI", f"{scores['utt_mi']['mse']:.4f}"],
        ["utt", "TA", f"{scores['utt_ta']['mse']:.4f}"],
        ["sys", "MI", f"{scores['sys_mi']['mse']:.4f}"],
        ["sys", "TA", f"{scores['sys_ta']['mse']:.4f}"],
    ]
    views = ("utt_mi", "utt_ta", "sys_mi", "sys_ta")
    expected = [[f"{low:.3f},", f"{high:.3f}"] for low, high in (scores[view]["mse_ci"] for view in views)]
    assert [row[:2] for row in rows[1::2]] == expected
    lines, expected = (
        [line.split(",") for line in path.read_text().splitlines()]
        for path in (out / "answer.txt", GOLDEN / "expected_answer_ridge.txt")
    )
    assert [line[0] for line in lines] == [line[0] for line in expected]
    for line, expected_line in zip(lines, expected, strict=True):
        assert list(map(float, line[1:])) == pytest.approx(list(map(float, expected_line[1:])), abs=1e-6)


def test_a_fusion_is_applied_later(tmp_path):
    models = ("dist_a", "dist_b", "coral_c")
    dev, other = ([golden(f"{model}_{split}.pt") for model in models] for split in ("dev", "eval"))
    applied = [option for path in dev for option in ("--apply", path)]
    out, later = tmp_path / "fused", tmp_path / "later"
    run("fuse", *dev, "--labels", golden("dev_mos_list.txt"), *applied, "--out", out, "--folds", 0)
    printed = run("fuse", "--from", out, *other, "--apply-split", "eval", "--out", later)
    assert printed == f"{later}/answer.txt: ridge of 3 members, 60 clips\n"
    lines, expected = (
        [line.split(",") for line in path.read_text().splitlines()]
        for path in (later / "answer.txt", GOLDEN / "expected_answer_ridge.txt")
    )
    for line, expected_line in zip(lines, expected, strict=True):
        assert line[0] == expected_line[0]
        assert list(map(float, line[1:])) == pytest.approx(list(map(float, expected_line[1:])), abs=1e-6)


def test_what_made_a_fusion_is_not_said_again(tmp_path):
    arguments = ["fuse", "--from", "fused", "a.pt", "--out", str(tmp_path / "out"), "--method", "mean", "--folds", "3"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Error: --method, --folds: the fusion of --from is made already; leave it out" in result.stderr


def run_of(folder, epochs):
    """Write a run that chose its last but fifth epoch by all measures on the clips a and b."""
    (folder / "predictions").mkdir(parents=True)
    (folder / "config.yaml").write_text(f"name: {folder.name}\nfingerprint: unknown\nfingerprint_fields: null\n")
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in epochs))
    (folder / "clips.json").write_text('{"train": ["t"], "dev": ["a", "b"]}')
    for split, ids in (("dev", "ab"), ("eval", "yz")):
        rows = [{"id": clip, "mi": 3.0 + place, "ta": 2.0} for place, clip in enumerate(ids)]
        for best in ("loss", "srcc", "combined"):
            path = folder / "predictions" / f"{split}.{best}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def epoch(loss, utt_mi, utt_ta, sys_mi, sys_ta, chosen=False):
    srccs = {"utt_mi": utt_mi, "utt_ta": utt_ta, "sys_mi": sys_mi, "sys_ta": sys_ta}
    dev = {view: {"mse": 0.5, "lcc": 0.5, "srcc": srcc, "ktau": 0.5} for view, srcc in srccs.items()}
    return {"dev_loss": loss, "dev": dev, "best": ["loss", "srcc", "combined"] if chosen else []}


@pytest.mark.parametrize(
    ("best", "told"),
    [
        (
            "loss",
            "dev loss at least 0.1000; beside that, utterance SRCC MI 0.0200, utterance SRCC TA no sign of it, "
            "system SRCC MI no sign of it, system SRCC TA 0.0400",
        ),
        (
            "srcc",
            "system SRCC MI no sign of it; beside that, utterance SRCC MI 0.0200, utterance SRCC TA no sign of it, "
            "system SRCC TA 0.0400",
        ),
        (
            "combined",
            "the mean of utterance SRCC MI and system SRCC TA at least 0.0300; beside that, utterance SRCC TA no sign "
            "of it, system SRCC MI no sign of it",
        ),
    ],
)
def test_early_stopping_is_told_under_the_scores(tmp_path, best, told):
    """Chosen among equal epochs: better in the loss, in utterance MI and system TA; worse in the others or as good."""
    others = [epoch(0.9, 0.5, 0.5, 0.5, 0.5)] * 5
    epochs = [*others, epoch(0.8, 0.52, 0.49, 0.5, 0.54, chosen=True), *others]
    long, short = run_of(tmp_path / "long", epochs), run_of(tmp_path / "short", epochs[4:7])
    (tmp_path / "list.txt").write_text("a,3,1\nb,4,2\n")
    labels = ("--labels", tmp_path / "list.txt", "--best", best)
    note = "members chose their checkpoints on clips of the fit split, so these scores may be optimistic"
    printed = run("fuse", long, short, *labels, "--out", tmp_path / "out", "--n-boot", 0).splitlines()
    assert printed[-1] == (
        f"2 of 2 {note}. How far the members' chosen epochs lead those around them, on the mean of 1: in what they "
        f"were chosen by, {told}. This is of the members, not of the fusion. All measures are in fusion.json."
    )
    printed = run("fuse", short, *labels, "--out", tmp_path / "other").splitlines()
    assert printed[-1] == f"1 of 1 {note}; by how much cannot be told from their histories."


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
    from audiomos_cache.fusion.folds import GROUPS
    from audiomos_cache.fusion.methods import METHODS

    options = {option.name: option for option in main.commands["fuse"].params}
    assert list(options["method"].type.choices) == list(METHODS)
    assert list(options["cv_group"].type.choices) == list(GROUPS)


@pytest.mark.parametrize("name", ["fuse", "evaluate", "submit"])
def test_help_has_an_example(name):
    assert f"  audiomos-cache {name} " in run(name, "--help")


def test_help_shows_defaults():
    printed = " ".join(run("fuse", "--help").split())
    for default in ("ridge", "(dev with runs)", "(eval with runs)", "loss", "5; x>=0", "prompt"):
        assert f"[default: {default}]" in printed


@pytest.mark.process
@pytest.mark.parametrize("name", ["fuse", "evaluate", "submit"])
def test_importing_a_command_loads_nothing_heavy(name):
    code = (
        "import runpy, sys\n"
        f"runpy.run_path({str(COMMANDS / f'cmd_{name}.py')!r})\n"
        "print(sorted({'numpy', 'torch', 'scipy', 'sklearn', 'rich'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "[]\n"
