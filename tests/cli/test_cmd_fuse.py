import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import audiomos_cache
from audiomos_cache.cli import main
from audiomos_cache.evaluation.predictions import read_predictions
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
        rows = [{"id": clip, "mi": 3.0 + index, "ta": 2.0} for index, clip in enumerate(ids)]
        for best in ("loss", "srcc", "combined"):
            path = folder / "predictions" / f"{split}.{best}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def epoch(loss, utt_mi, utt_ta, sys_mi, sys_ta, chosen=False):
    srccs = {"utt_mi": utt_mi, "utt_ta": utt_ta, "sys_mi": sys_mi, "sys_ta": sys_ta}
    dev = {view: {"mse": 0.5, "lcc": 0.5, "srcc": srcc, "ktau": 0.5} for view, srcc in srccs.items()}
    return {"dev_loss": loss, "dev": dev, "best": ["loss", "srcc", "combined"] if chosen else []}


@pytest.mark.parametrize(
    ("best", "leads"),
    [
        (
            "loss",
            "dev loss at least 0.1000; in other numbers, utterance SRCC MI 0.0200, utterance SRCC TA no sign of it, "
            "system SRCC MI no sign of it, system SRCC TA 0.0400",
        ),
        (
            "srcc",
            "system SRCC MI no sign of it; in other numbers, utterance SRCC MI 0.0200, utterance SRCC TA no sign of "
            "it, system SRCC TA 0.0400",
        ),
        (
            "combined",
            "the mean of utterance SRCC MI and system SRCC TA at least 0.0300; in other numbers, utterance SRCC TA no "
            "sign of it, system SRCC MI no sign of it",
        ),
    ],
)
def test_early_stopping_is_reported_under_the_scores(tmp_path, best, leads):
    """Chosen among equal epochs: better in the loss, in utterance MI and system TA; worse in the others or as good."""
    others = [epoch(0.9, 0.5, 0.5, 0.5, 0.5)] * 5
    epochs = [*others, epoch(0.8, 0.52, 0.49, 0.5, 0.54, chosen=True), *others]
    long, short = run_of(tmp_path / "long", epochs), run_of(tmp_path / "short", epochs[4:7])
    (tmp_path / "list.txt").write_text("a,3,1\nb,4,2\n")
    labels = ("--labels", tmp_path / "list.txt", "--best", best)
    note = "members chose their checkpoints on clips of the fit split, so these scores may be optimistic"
    printed = run("fuse", long, short, *labels, "--out", tmp_path / "out").splitlines()
    assert printed[-1] == (
        f"2 of 2 {note}. How far the members' chosen epochs lead those around them, on the mean of 1: in what they "
        f"were chosen by, {leads}. This is of the members, not of the fusion. All measures are in fusion.json."
    )
    printed = run("fuse", short, *labels, "--out", tmp_path / "other").splitlines()
    assert printed[-1] == f"1 of 1 {note}; their histories are too short to estimate by how much."


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
    assert (
        line
        == f"Error: {tmp_path}: holds notes.txt, which is not part of a fusion and would be lost; give another --out"
    )


def test_ridge_without_labels_says_what_to_give(tmp_path):
    files = (golden("dist_a_dev.pt"), "--apply", golden("dist_a_eval.pt"))
    line = fail("fuse", *files, "--out", tmp_path / "out")
    assert line == "Error: ridge: no labels to fit on; give the fit split's list with --labels"


def test_unknown_names_are_wrong_usage_and_list_the_known_ones(tmp_path):
    command = ["fuse", golden("dist_a_dev.pt"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*command, "--method", "ridg"])
    assert result.exit_code == 2
    assert result.stderr.endswith("'ridg' is not one of ridge, mean, weighted, lightgbm, greedy\n")
    result = CliRunner().invoke(main, [*command, "--cv-group", "rater"])
    assert result.exit_code == 2
    assert result.stderr.endswith("cv_group is 'rater', expected one of prompt, system, none\n")


def test_the_help_names_what_is_known():
    from audiomos_cache.fusion.folds import GROUPS
    from audiomos_cache.registry import BUILT_IN

    printed = run("fuse", "--help")
    assert all(name in printed for name in (*BUILT_IN["fusion"], *GROUPS))


@pytest.fixture
def trimmed_mean():
    """A user's fusion, which is forgotten after the test."""
    from audiomos_cache import registry
    from audiomos_cache.fusion.base import Blend, Fusion

    @registry.register("fusion", "trimmed-mean")
    class TrimmedMean(Fusion):
        def blend(self, members):
            return Blend(
                {target: np.sort(scores, axis=0)[1:-1].mean(axis=0) for target, scores in members.scores.items()}
            )

    TrimmedMean.__module__ = "my_fusions"
    yield TrimmedMean
    del registry._parts["fusion"]["trimmed-mean"]


def test_a_users_fusion_fuses_and_is_refused_until_it_is_imported(tmp_path, trimmed_mean):
    from audiomos_cache import registry

    files = [golden(f"{model}_eval.pt") for model in ("dist_a", "dist_b", "coral_c")]
    out = tmp_path / "fused"
    printed = run("fuse", *files, "--method", "trimmed-mean", "--out", out)
    assert printed == f"{out}/answer.txt: trimmed-mean of 3 members, 60 clips\n"
    members = [read_predictions(Path(file)) for file in files]
    fused = read_predictions(out / "fused.jsonl")
    assert np.array_equal(fused.mi, np.median([member.mi for member in members], axis=0)), "of three members"
    record = json.loads((out / "fusion.json").read_text())
    assert record["method"] == "trimmed-mean"
    assert [(part["name"], part["module"]) for part in record["parts"]] == [("trimmed-mean", "my_fusions")]
    again = run("fuse", "--from", out, *files, "--out", tmp_path / "again")
    assert again == f"{tmp_path}/again/answer.txt: trimmed-mean of 3 members, 60 clips\n"
    assert (tmp_path / "again" / "answer.txt").read_bytes() == (out / "answer.txt").read_bytes()

    del registry._parts["fusion"]["trimmed-mean"]
    line = fail("fuse", "--from", out, *files, "--out", tmp_path / "third")
    assert line == (
        f"Error: {out}/fusion.json: needs --import my_fusions, which registers fusion trimmed-mean "
        f"(my_fusions.{trimmed_mean.__qualname__}, version None); give it before the command"
    )
    registry.register("fusion", "trimmed-mean")(type("Other", (trimmed_mean,), {"__module__": "my_fusions"}))
    line = fail("fuse", "--from", out, *files, "--out", tmp_path / "third")
    assert line == (
        f"Error: {out}/fusion.json: fusion 'trimmed-mean' is my_fusions.Other here, expected "
        f"my_fusions.{trimmed_mean.__qualname__}"
    )
    assert not (tmp_path / "third").exists()
    del registry._parts["fusion"]["trimmed-mean"]
    evaluated = run("evaluate", out / "fused.jsonl", "--labels", golden("eval_labels.txt"), "--json")
    assert json.loads(evaluated)["n_clips"] == 60, "to evaluate its predictions takes no import"
    registry.register("fusion", "trimmed-mean")(trimmed_mean)


@pytest.mark.parametrize("name", ["fuse", "evaluate", "submit"])
def test_help_has_an_example(name):
    assert f"  audiomos-cache {name} " in run(name, "--help")


def test_help_shows_defaults():
    printed = " ".join(run("fuse", "--help").split())
    for default in ("ridge", "dev with runs", "eval with runs", "loss", "5; x>=0", "prompt"):
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
