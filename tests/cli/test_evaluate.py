"""What `evaluate` prints: numbers, intervals, a comparison, the systems; as a table, JSON and CSV."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from audiomos_cache.cli import main

GOLDEN = Path(__file__).parents[1] / "golden" / "fusion"
LABELS = ("--labels", GOLDEN / "eval_labels.txt")
A, B = GOLDEN / "dist_a_eval.pt", GOLDEN / "coral_c_eval.pt"
QUICK = ("--n-boot", "200")
VIEWS = ("utt_mi", "utt_ta", "sys_mi", "sys_ta")
MEASURES = ("mse", "lcc", "srcc", "ktau")


def invoke(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)], catch_exceptions=False)


def run(*arguments):
    """Run a command that must succeed, and give its stdout."""
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(*arguments):
    """Run a command that must end with our error, and give its one line."""
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    (line,) = result.stderr.splitlines()
    return line


def cells(printed):
    """The cells of a table's rows, without its head."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def two_systems(tmp_path):
    """Predictions and labels of two clips of one system and one of another, and the arguments to evaluate them."""
    rows = (("S1_P1", 2.0, 3.0), ("S1_P2", 4.0, 3.0), ("S2_P1", 3.5, 2.0))
    lines = (json.dumps(dict(zip(("id", "mi", "ta"), row, strict=True))) + "\n" for row in rows)
    (tmp_path / "p.jsonl").write_text("".join(lines))
    (tmp_path / "list.txt").write_text("S1_P1.wav,1.0,3.0\nS1_P2.wav,3.0,4.0\nS2_P1.wav,2.5,4.5\n")
    return tmp_path / "p.jsonl", "--labels", tmp_path / "list.txt"


def test_the_table_is_in_the_fields_order_with_each_interval_under_its_number():
    printed = run(A, *LABELS)
    lines = [line.rstrip() for line in printed.splitlines()]
    assert max(map(len, lines)) <= 80
    assert lines[0] == "dist_a_eval.pt"
    rows = cells(printed)
    assert rows[::2] == [
        ["utt MI", "0.2056", "0.8902", "0.8851", "0.7324"],
        ["utt TA", "0.1983", "0.8411", "0.8493", "0.6913"],
        ["sys MI", "0.1431", "0.9035", "0.8998", "0.7586"],
        ["sys TA", "0.0580", "0.9511", "0.9158", "0.7687"],
    ]
    for numbers, intervals in zip(rows[::2], rows[1::2], strict=True):
        for number, interval in zip(numbers[1:], intervals[1:], strict=True):
            low, high = map(float, interval.strip("()").split(","))
            assert low < float(number) < high
    (header,) = [line.replace("┃", " ").split() for line in lines if "┃" in line]
    assert header == ["score", "MSE", "LCC", "SRCC", "KTAU"]
    assert lines[-2:] == ["60 clips, 24 systems", "95 % intervals (BCa) of 10000 resamples of systems, seed 0"]


def test_without_resamples_there_are_the_numbers_alone():
    printed = run(A, *LABELS, "--n-boot", "0")
    assert len(cells(printed)) == 4
    assert printed.splitlines()[-1].strip() == "60 clips, 24 systems"
    content = json.loads(run(A, *LABELS, "--n-boot", "0", "--json"))
    assert content.keys() == {*VIEWS, "n_clips", "n_systems"}
    assert content["utt_mi"].keys() == set(MEASURES)


def test_json_and_csv_hold_the_same_numbers_and_intervals():
    content = json.loads(run(A, *LABELS, *QUICK, "--json"))
    plain = json.loads(run(A, *LABELS, "--n-boot", "0", "--json"))
    rows = table(run(A, *LABELS, *QUICK, "--csv"))
    assert [(row["level"], row["score"], row["measure"]) for row in rows] == [
        (level, score, measure.upper()) for level in ("utterance", "system") for score in ("MI", "TA")
        for measure in MEASURES
    ]  # fmt: skip
    expected = [[content[v][m], *content[v][f"{m}_ci"]] for v in VIEWS for m in MEASURES]
    assert [[float(row[c]) for c in ("value", "ci_low", "ci_high")] for row in rows] == expected
    for view in VIEWS:
        assert {measure: content[view][measure] for measure in MEASURES} == plain[view]
    assert content["intervals"] == {
        "level": 0.95, "method": "BCa, expanded for few systems", "resampled": "systems with all their clips",
        "n_boot": 200, "seed": 0, "notes": [],
    }  # fmt: skip


def test_the_seed_decides():
    one, again, other = (run(A, *LABELS, *QUICK, "--json", "--seed", seed) for seed in (1, 1, 2))
    assert one == again
    assert json.loads(one)["sys_mi"]["srcc_ci"] != json.loads(other)["sys_mi"]["srcc_ci"]


def test_the_systems_truth_comes_from_a_file(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"id": "S1_P1", "mi": 2.0, "ta": 3.0}\n')
    (tmp_path / "list.txt").write_text("S1_P1.wav,2.0,3.0\n")
    (tmp_path / "systems.csv").write_text("S1,4.0,3.5\n")
    arguments = (tmp_path / "p.jsonl", "--labels", tmp_path / "list.txt")
    scores = json.loads(run(*arguments, "--system-truth", tmp_path / "systems.csv", "--json", "--n-boot", "0"))
    assert scores["utt_mi"] == {"mse": 0.0, "lcc": None, "srcc": None, "ktau": None}
    assert (scores["sys_mi"]["mse"], scores["sys_ta"]["mse"]) == (4.0, 0.25)
    assert "n/a" in run(*arguments)


def test_too_few_systems_have_no_interval_and_it_is_said(two_systems):
    printed = run(*two_systems)
    assert printed.splitlines()[-1] == "no intervals: fewer than 3 systems to resample"
    assert len(cells(printed)) == 4
    content = json.loads(run(*two_systems, "--json"))
    assert content["sys_mi"]["mse_ci"] is None
    assert content["intervals"]["notes"] == ["no intervals: fewer than 3 systems to resample"]
    result = invoke(*two_systems, "--csv")
    assert result.stderr == "no intervals: fewer than 3 systems to resample\n"
    assert {row["ci_low"] for row in table(result.stdout)} == {""}


def test_a_split_of_a_manifest(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"id": "a", "mi": 2.0, "ta": 3.0}\n{"id": "b", "mi": 4.0, "ta": 3.0}\n')
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,prompt,system,split,mi,ta\na.wav,x,s,dev,2,3\nb.wav,x,s,dev,4,3\nc.wav,x,s,eval,,\n")
    arguments = (tmp_path / "p.jsonl", "--labels", manifest)
    scores = json.loads(run(*arguments, "--split", "dev", "--json"))
    assert (scores["n_clips"], scores["n_systems"]) == (2, 1)  # the ids alone would make it two systems
    assert scores["utt_mi"]["mse"] == 0.0
    line = fail(*arguments, "--split", "test")
    assert line == f"Error: {manifest}: no split 'test', expected one of dev, eval"
    line = fail(*arguments)
    assert line == f"Error: {manifest}: no label for c, expected mi and ta in every row"


def test_compare_shows_both_their_differences_and_a_sentence_for_each_target():
    printed = run(A, "--compare", B, *LABELS, *QUICK)
    lines = [line.rstrip() for line in printed.splitlines()]
    assert lines[:2] == ["A: dist_a_eval.pt", "B: coral_c_eval.pt"]
    rows = cells(printed)
    assert len(rows) == 2 * 16
    name, a, b, difference, *_ = rows[0]
    assert (name, a, b, difference) == ("utt MI MSE", "0.2056", "0.3169", "-0.1113")
    assert max(map(len, lines[:-2])) <= 80
    assert lines[-2:] == [
        f"{target}: the data cannot tell dist_a_eval.pt from coral_c_eval.pt: no difference has p < 0.05 in both "
        "tests, corrected for the sixteen numbers."
        for target in ("MI", "TA")
    ]


def test_comparison_in_json_and_csv():
    content = json.loads(run(A, "--compare", B, *LABELS, *QUICK, "--json"))
    rows = table(run(A, "--compare", B, *LABELS, *QUICK, "--csv"))
    compared = content["compare"]
    assert compared["file"] == "coral_c_eval.pt"
    assert compared["scores"] == json.loads(run(B, *LABELS, "--n-boot", "0", "--json"))
    assert len(rows) == 16
    for row, (view, measure) in zip(rows, ((v, m) for v in VIEWS for m in MEASURES), strict=True):
        found = compared["differences"][view][measure]
        assert found["value"] == pytest.approx(content[view][measure] - compared["scores"][view][measure])
        assert [float(row["ci_low"]), float(row["ci_high"])] == found["ci"]
        for name in ("p_bootstrap", "p_permutation", "holm_bootstrap", "holm_permutation"):
            assert float(row[name]) == found[name]
            assert 0 < found[name] <= 1
    assert compared["verdicts"]["mi"].startswith("MI: the data cannot tell dist_a_eval.pt from coral_c_eval.pt")


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path):
    (tmp_path / A.name).write_bytes(A.read_bytes())
    printed = run(A, "--compare", tmp_path / A.name, *LABELS, *QUICK)
    assert printed.splitlines()[:2] == [f"A: {A}", f"B: {tmp_path / A.name}"]
    assert f"from {tmp_path / A.name}: no difference" in printed


def test_predictions_of_other_clips_are_refused_by_their_name():
    dev = GOLDEN / "dist_a_dev.pt"
    line = fail(A, "--compare", dev, *LABELS)
    assert line.startswith(f"Error: {dev}: missing clips of the labels: audiomos2025-track1-")
    assert line.endswith("both must hold the same clips")


def test_by_system_lists_means_bias_and_ranks(two_systems):
    rows = table(run(*two_systems, "--by", "system", "--csv"))
    assert [row.pop("system") for row in rows] == ["S1", "S2"]
    first, second = ({name: float(value) for name, value in row.items()} for row in rows)
    # MI: predicted 3.0 and 3.5, listeners 2.0 and 2.5; TA: predicted 3.0 and 2.0, listeners 3.5 and 4.5.
    assert first == {
        "clips": 2, "mi_predicted": 3, "mi_true": 2, "mi_bias": 1, "mi_rank": 2, "mi_predicted_rank": 2,
        "mi_rank_change": 0, "ta_predicted": 3, "ta_true": 3.5, "ta_bias": -0.5, "ta_rank": 2, "ta_predicted_rank": 1,
        "ta_rank_change": 1,
    }  # fmt: skip
    assert (second["clips"], second["ta_bias"], second["ta_rank_change"]) == (1, -2.5, -1)
    content = json.loads(run(*two_systems, "--by", "system", "--json"))
    assert content["systems"][0] == {"system": "S1"} | first
    assert content["n_systems"] == 2
    assert cells(run(*two_systems, "--by", "system"))[1] == (
        ["S1", "2", "TA", "3.500", "3.000", "-0.500", "2", "1", "+1"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--json", "--csv"), "--json and --csv: give one of them"),
        (("--compare", B, "--by", "system"), "--by system shows one file's systems; leave out --compare"),
        (("--compare", B, "--n-boot", "0"), "--compare needs resamples; leave out --n-boot 0"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(options, message):
    result = invoke(A, *LABELS, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == f"Error: {message}"


def test_numbers_that_are_not_defined_are_null_and_said(tmp_path):
    rows = [(f"S{n}_P{k}", 3.0 + 0.1 * n + 0.2 * k, 3.0) for n in range(4) for k in range(2)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"id": i, "mi": m, "ta": t}) + "\n" for i, m, t in rows))
    noise = np.random.default_rng(0).uniform(-1, 1, (len(rows), 2)).round(2)
    lines = [f"{i},{m + n:.3f},{t + k:.3f}\n" for (i, m, t), (n, k) in zip(rows, noise.tolist(), strict=True)]
    (tmp_path / "list.txt").write_text("".join(lines))
    content = json.loads(run(tmp_path / "p.jsonl", "--labels", tmp_path / "list.txt", "--json", *QUICK))
    assert (content["utt_ta"]["srcc"], content["utt_ta"]["srcc_ci"]) == (None, None)
    assert content["utt_ta"]["mse_ci"] is not None
    notes = content["intervals"]["notes"]
    assert notes[0] == "4 systems are few: such intervals are too short, and p-values too small"
    undefined = "utt_ta lcc, utt_ta srcc, utt_ta ktau, sys_ta lcc, sys_ta srcc, sys_ta ktau"
    assert f"{undefined}: no interval, it is not defined" in notes


def test_help_says_where_a_split_counts():
    assert "With a manifest only: the split whose rows to read." in " ".join(run("--help").split())
