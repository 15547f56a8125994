"""What `evaluate` prints: numbers, intervals, a comparison, the systems; as a table, JSON and CSV."""

import csv
import io
import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import rankdata

from audiomos_cache.cli import main
from tests.support import commands

GOLDEN = Path(__file__).parents[1] / "golden" / "fusion"
LABELS = ("--labels", GOLDEN / "eval_labels.txt")
A, B = GOLDEN / "dist_a_eval.pt", GOLDEN / "coral_c_eval.pt"
QUICK = ("--n-boot", "200")
TIES = (
    "systems of equal means tie; ranked by rounding, in the list's order, as the original does (--as-original): "
    "sys MI SRCC 0.8998, KTAU 0.7586; sys TA SRCC 0.9158, KTAU 0.7687"
)
VIEWS = ("utt_mi", "utt_ta", "sys_mi", "sys_ta")
MEASURES = ("mse", "lcc", "srcc", "ktau")


def invoke(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)], catch_exceptions=False)


run, fail = partial(commands.run, "evaluate"), partial(commands.fail, "evaluate")


def rows_of(folder, *arguments):
    """What `--out` writes as CSV."""
    run(*arguments, "--out", folder / "rows.csv", "--overwrite")
    return table((folder / "rows.csv").read_text())


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
    assert max(map(len, lines[:-1])) <= 80
    assert lines[0] == "dist_a_eval.pt"
    rows = cells(printed)
    assert rows[::2] == [
        ["utt MI", "0.2056", "0.8902", "0.8851", "0.7324"],
        ["utt TA", "0.1983", "0.8411", "0.8493", "0.6913"],
        ["sys MI", "0.1431", "0.9035", "0.8973", "0.7564"],
        ["sys TA", "0.0580", "0.9511", "0.9116", "0.7670"],
    ]
    for numbers, intervals in zip(rows[::2], rows[1::2], strict=True):
        for number, interval in zip(numbers[1:], intervals[1:], strict=True):
            low, high = map(float, interval.split(","))
            assert low < float(number) < high
    (header,) = [line.replace("┃", " ").split() for line in lines if "┃" in line]
    assert header == ["score", "MSE", "LCC", "SRCC", "KTAU"]
    assert lines[-4:] == [
        "60 clips, 24 systems",
        "95 % intervals: BCa, expanded for few systems",
        "10000 resamples of systems, seed 0",
        TIES,
    ]


def test_intervals_below_zero_do_not_wrap(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(f"S{n % 12}_P{n}", *rng.uniform(1, 5, 2).round(3).tolist()) for n in range(60)]
    (tmp_path / "list.txt").write_text("".join(f"{i},{6 - m:.3f},{6 - t:.3f}\n" for i, m, t in rows))
    # What is not quite the opposite: -0.9 and the like.
    other = "".join(json.dumps({"id": i, "mi": m + k, "ta": t + k}) + "\n"
                    for (i, m, t), k in zip(rows, rng.normal(0, 0.5, 60).tolist(), strict=True))  # fmt: skip
    (tmp_path / "p.jsonl").write_text(other)
    printed = run(tmp_path / "p.jsonl", "--labels", tmp_path / "list.txt", *QUICK)
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    found = cells(printed)
    assert len(found) == 8
    for interval in (cell for row in found[1::2] for cell in row[2:]):
        assert re.fullmatch(r"-\d\.\d{3}, -\d\.\d{3}", interval)


def test_where_equal_means_decide_it_is_said_and_the_originals_numbers_can_be_had():
    expected = json.loads((GOLDEN / "expected_metrics_dist_a_eval.json").read_text())
    shown, original = (
        json.loads(run(A, *LABELS, "--json", "--n-boot", "0", *extra)) for extra in ((), ("--as-original",))
    )
    assert (shown["as_original"], shown["ties"]) == (False, TIES)
    assert original["as_original"] is True
    assert original["ties"] == (
        "systems of equal means are ranked by rounding, in the list's order, as the original does; if they tied: "
        "sys MI SRCC 0.8973, KTAU 0.7564; sys TA SRCC 0.9116, KTAU 0.7670"
    )
    for view in VIEWS:
        assert original[view] == pytest.approx(expected[view], abs=1e-9)
    assert run(A, *LABELS, *QUICK).splitlines()[-1] == TIES


def test_the_order_of_the_lines_does_not_change_the_output(tmp_path):
    lines = (GOLDEN / "eval_labels.txt").read_text().splitlines(keepends=True)
    (tmp_path / "sorted.txt").write_text("".join(sorted(lines)))
    one, other = (
        json.loads(run(A, "--labels", path, *QUICK, "--json")) for path in (LABELS[1], tmp_path / "sorted.txt")
    )
    assert one.pop("ties") and other.pop("ties")
    assert one == other


@pytest.fixture
def fused(tmp_path):
    """A fusion that was fitted on the clips of the dev list, and applied to them; the dev list."""
    labels, dev = GOLDEN / "dev_mos_list.txt", [GOLDEN / f"{name}_dev.pt" for name in ("dist_a", "dist_b")]
    applied = (argument for path in dev for argument in ("--apply", path))
    arguments = ("fuse", *dev, *applied, "--labels", labels, "--out", tmp_path / "fused",
                 "--fit-split", "dev", "--apply-split", "dev")  # fmt: skip
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return tmp_path / "fused", labels


@pytest.mark.parametrize("name", ["fused.dev.jsonl", "answer.txt"])
def test_what_a_fusion_says_of_the_clips_it_was_fitted_on_is_refused(fused, tmp_path, name):
    folder, labels = fused
    ids = sorted(line.split(",")[0].removesuffix(".wav") for line in labels.read_text().splitlines())
    message = (
        f"the fusion was fitted on 160 of its 160 clips, so numbers on them would look better than it is: "
        f"{', '.join(ids[:5])}, ... (160 in all); evaluate {folder}/out-of-fold.dev.jsonl, the same clips out-of-fold, "
        "or clips that were held out"
    )
    assert fail(folder / name, "--labels", labels) == f"Error: {folder / name}: {message}"
    held_out = folder / "out-of-fold.dev.jsonl"
    assert fail(held_out, folder / name, "--labels", labels) == f"Error: {folder / name}: {message}"
    (tmp_path / "link.jsonl").symlink_to(folder / "fused.dev.jsonl")
    assert message in fail(tmp_path / "link.jsonl", "--labels", labels)
    assert len(cells(run(held_out, "--labels", labels, *QUICK))) == 8


def test_a_fusion_without_out_of_fold_predictions_is_refused_too(fused):
    folder, labels = fused
    (folder / "out-of-fold.dev.jsonl").unlink()
    line = fail(folder / "fused.dev.jsonl", "--labels", labels)
    assert line.endswith(
        "evaluate clips that were held out, or the out-of-fold predictions that fuse writes with --folds"
    )


def test_a_fusion_whose_record_is_damaged_is_refused(fused):
    folder, labels = fused
    (folder / "fusion.json").write_text("{}")
    line = fail(folder / "fused.dev.jsonl", "--labels", labels)
    assert line.startswith(f"Error: {folder}/fusion.json: format is None, expected 'audiomos-cache fusion'")


def test_a_file_of_a_fusions_name_alone_is_evaluated(fused, tmp_path):
    folder, labels = fused
    (tmp_path / "answer.txt").write_bytes((folder / "answer.txt").read_bytes())
    assert len(cells(run(tmp_path / "answer.txt", "--labels", labels, *QUICK))) == 8


def test_a_fusion_that_learned_nothing_is_evaluated(tmp_path):
    arguments = ("fuse", A, B, "--method", "mean", "--out", tmp_path / "fused")
    CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    for name in ("fused.jsonl", "answer.txt"):
        assert len(cells(run(tmp_path / "fused" / name, *LABELS, *QUICK))) == 8


def test_without_resamples_there_are_the_numbers_alone():
    printed = run(A, *LABELS, "--n-boot", "0")
    assert len(cells(printed)) == 4
    assert [line.strip() for line in printed.splitlines()[-2:]] == ["60 clips, 24 systems", TIES]
    content = json.loads(run(A, *LABELS, "--n-boot", "0", "--json"))
    assert content.keys() == {*VIEWS, "n_clips", "n_systems", "as_original", "ties"}
    assert content["utt_mi"].keys() == set(MEASURES)


def test_json_and_csv_hold_the_same_numbers_and_intervals(tmp_path):
    content = json.loads(run(A, *LABELS, *QUICK, "--json"))
    printed = json.loads(run(A, *LABELS, "--n-boot", "0", "--json"))
    rows = rows_of(tmp_path, A, *LABELS, *QUICK)
    assert [(row["level"], row["score"], row["measure"]) for row in rows] == [
        (level, score, measure.upper()) for level in ("utterance", "system") for score in ("MI", "TA")
        for measure in MEASURES
    ]  # fmt: skip
    expected = [[content[v][m], *content[v][f"{m}_ci"]] for v in VIEWS for m in MEASURES]
    assert [[float(row[c]) for c in ("value", "ci_low", "ci_high")] for row in rows] == expected
    for view in VIEWS:
        assert {measure: content[view][measure] for measure in MEASURES} == printed[view]
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


def test_too_few_systems_have_no_interval_and_it_is_reported(two_systems, tmp_path):
    printed = run(*two_systems)
    assert printed.splitlines()[-1] == "no intervals: they take 3 systems and 100 resamples, or more"
    assert len(cells(printed)) == 4
    content = json.loads(run(*two_systems, "--json"))
    assert content["sys_mi"]["mse_ci"] is None
    assert content["intervals"]["notes"] == ["no intervals: they take 3 systems and 100 resamples, or more"]
    assert {row["ci_low"] for row in rows_of(tmp_path, *two_systems)} == {""}


def test_a_split_of_a_manifest(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"id": "a", "mi": 2.0, "ta": 3.0}\n{"id": "b", "mi": 4.0, "ta": 3.0}\n')
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,prompt,system,split,mi,ta\na.wav,x,s,dev,2,3\nb.wav,x,s,dev,4,3\nc.wav,x,s,eval,,\n")
    arguments = (tmp_path / "p.jsonl", "--labels", manifest)
    scores = json.loads(run(*arguments, "--split", "dev", "--json"))
    assert (scores["n_clips"], scores["n_systems"]) == (2, 1)  # the ids alone would make it two systems
    assert scores["utt_mi"]["mse"] == 0.0
    line = fail(*arguments, "--split", "test")
    assert line == f"Error: {manifest}: split 'test' not found, expected one of dev, eval"
    assert json.loads(run(*arguments, "--json")) == scores, "the split that the predictions' clips are of"
    (tmp_path / "p.jsonl").write_text('{"id": "a", "mi": 2.0, "ta": 3.0}\n{"id": "c", "mi": 4.0, "ta": 3.0}\n')
    line = fail(*arguments)
    assert line == f"Error: {manifest}: no label for c, expected mi and ta in every row", "clips of two splits"


def test_compare_shows_both_their_differences_and_a_sentence_for_each_target():
    printed = run(A, B, *LABELS, *QUICK)
    lines = [line.rstrip() for line in printed.splitlines()]
    assert lines[:2] == ["A: dist_a_eval.pt", "B: coral_c_eval.pt"]
    rows = cells(printed)
    assert len(rows) == 2 * 16
    name, a, b, difference, *_ = rows[0]
    assert (name, a, b, difference) == ("utt MI MSE", "0.2056", "0.3169", "-0.1113")
    assert max(map(len, lines[:-5])) <= 80
    assert lines[-5].startswith("A: systems of equal means tie") and lines[-4].startswith("B: systems of equal")
    assert lines[-3] == "200 resamples are too few to find any difference, at least 320 must be drawn"
    assert lines[-2:] == [
        f"{target}: the data cannot distinguish dist_a_eval.pt from coral_c_eval.pt: no difference has p < 0.05 in "
        "both tests, corrected for the sixteen numbers."
        for target in ("MI", "TA")
    ]


def test_comparison_in_json_and_csv(tmp_path):
    content = json.loads(run(A, B, *LABELS, *QUICK, "--json"))
    rows = rows_of(tmp_path, A, B, *LABELS, *QUICK)
    compared = content["compare"]
    assert compared["file"] == "coral_c_eval.pt"
    alone = json.loads(run(B, *LABELS, "--n-boot", "0", "--json"))
    assert compared["scores"] | {name: alone[name] for name in ("as_original", "ties")} == alone
    assert compared["ties"] == alone["ties"]
    assert len(rows) == 16
    for row, (view, measure) in zip(rows, ((v, m) for v in VIEWS for m in MEASURES), strict=True):
        found = compared["differences"][view][measure]
        assert found["value"] == pytest.approx(content[view][measure] - compared["scores"][view][measure])
        assert [float(row["ci_low"]), float(row["ci_high"])] == found["ci"]
        for name in ("p_bootstrap", "p_permutation", "holm_bootstrap", "holm_permutation"):
            assert float(row[name]) == found[name]
            assert 0 < found[name] <= 1
    assert compared["verdicts"]["mi"].startswith("MI: the data cannot distinguish dist_a_eval.pt from coral_c_eval.pt")


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path):
    (tmp_path / A.name).write_bytes(A.read_bytes())
    printed = run(A, tmp_path / A.name, *LABELS, *QUICK)
    assert printed.splitlines()[:2] == [f"A: {A}", f"B: {tmp_path / A.name}"]
    assert f"from {tmp_path / A.name}: no difference" in printed


def test_predictions_of_other_clips_are_refused_by_their_name():
    dev = GOLDEN / "dist_a_dev.pt"
    line = fail(A, dev, *LABELS)
    assert line.startswith(f"Error: {dev}: missing clips of the labels: audiomos2025-track1-")
    assert line.endswith("both must hold the same clips")


def test_by_system_lists_means_bias_and_ranks(two_systems, tmp_path):
    rows = rows_of(tmp_path, *two_systems, "--by", "system")
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


def test_systems_of_equal_means_share_their_rank(tmp_path):
    rows = rows_of(tmp_path, A, *LABELS, "--by", "system")
    for target in ("mi", "ta"):
        means = [round(float(row[f"{target}_true"]), 9) for row in rows]
        assert len(set(means)) < len(rows)
        ranks = [float(row[f"{target}_rank"]) for row in rows]
        assert ranks == pytest.approx(rankdata([-mean for mean in means]))


def test_the_columns_of_systems_have_names_of_their_own(two_systems):
    printed = run(*two_systems, "--by", "system")
    header = [line for line in printed.splitlines() if "┃" in line]
    names = [" ".join(column).split() for column in zip(*(line.split("┃")[1:-1] for line in header), strict=True)]
    assert len({tuple(name) for name in names}) == 9
    assert max(map(len, printed.splitlines()[:-1])) <= 80


def test_more_resamples_than_memory_holds_are_wrong_usage():
    result = invoke(A, *LABELS, "--n-boot", 100_000_000)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("Error: --n-boot 100000000: expected 0 to 100000\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((B, "--by", "system"), "--by system lists the systems of one file, found 2 files; give one"),
        (
            ("--by", "system", "--n-boot", "200", "--seed", "0"),
            "--by system shows means and ranks, without resamples; leave out --n-boot, --seed",
        ),
        (
            ("--by", "system", "--as-original"),
            "--by system shows means and ranks, without resamples; leave out --as-original",
        ),
        ((B, "--n-boot", "0"), "a comparison of files needs resamples; leave out --n-boot 0"),
        ((A,), f"given more than once: {A}; give each file once"),
        (("--out", "t.txt"), "--out t.txt: the suffix is '.txt', expected one of .csv, .json, .tex"),
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
    assert notes[0] == "4 systems are few: such intervals are too short"
    undefined = "utt_ta lcc, utt_ta srcc, utt_ta ktau, sys_ta lcc, sys_ta srcc, sys_ta ktau"
    assert f"{undefined}: no interval, it is not defined" in notes


def test_help_says_where_a_split_counts():
    assert "Read only this split of a manifest." in " ".join(run("--help").split())


def test_several_files_are_each_compared_with_the_first(tmp_path):
    other = GOLDEN / "dist_b_eval.pt"
    printed = run(A, B, other, *LABELS, *QUICK)
    lines = [line.rstrip() for line in printed.splitlines()]
    assert [line for line in lines if re.match(r"[ABC]: \S+\.pt$", line)] == [
        "A: dist_a_eval.pt", "B: coral_c_eval.pt", "A: dist_a_eval.pt", "C: dist_b_eval.pt",
    ]  # fmt: skip
    assert len([line for line in lines if line.startswith("┃ score")]) == 2 and "A - C" in printed
    found = json.loads(run(A, B, other, *LABELS, *QUICK, "--json"))["compare"]
    alone = [json.loads(run(A, each, *LABELS, *QUICK, "--json"))["compare"] for each in (B, other)]
    assert found == alone
    rows = rows_of(tmp_path, A, B, other, *LABELS, *QUICK)
    assert [row["other"] for row in rows] == ["coral_c_eval.pt"] * 16 + ["dist_b_eval.pt"] * 16


def test_the_suffix_of_out_is_the_format(tmp_path):
    for name in ("t.csv", "t.json", "t.tex"):
        printed = run(A, *LABELS, *QUICK, "--out", tmp_path / name)
        assert printed.splitlines()[-1] == str(tmp_path / name)
    assert (tmp_path / "t.json").read_text() == run(A, *LABELS, *QUICK, "--json")
    assert [row["measure"] for row in table((tmp_path / "t.csv").read_text())[:4]] == ["MSE", "LCC", "SRCC", "KTAU"]
    content = json.loads((tmp_path / "t.json").read_text())
    first = [f"{content['utt_mi'][m]:.4f} [{low:.3f}, {high:.3f}]"
             for m, (low, high) in ((m, content["utt_mi"][f"{m}_ci"]) for m in MEASURES)]  # fmt: skip
    lines = (tmp_path / "t.tex").read_text().splitlines()
    assert lines[:5] == [
        r"\begin{tabular}{lrrrr}", r"\toprule", r"score & MSE & LCC & SRCC & KTAU \\", r"\midrule",
        rf"utt MI & {' & '.join(first)} \\",
    ]  # fmt: skip
    assert len(lines) == 10


def test_out_is_replaced_only_when_asked(tmp_path):
    (tmp_path / "t.csv").write_text("mine")
    line = fail(A, *LABELS, *QUICK, "--out", tmp_path / "t.csv")
    assert line == f"Error: {tmp_path}/t.csv: exists already; give another --out, or --overwrite"
    assert (tmp_path / "t.csv").read_text() == "mine"
