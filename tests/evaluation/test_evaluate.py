"""`evaluate` as a notebook calls it; what it computes is tested through the command, in tests/cli."""

import json
from pathlib import Path

import pytest

from audiomos_cache.errors import ArgumentError, OutputExistsError
from audiomos_cache.evaluation.evaluate import evaluate

GOLDEN = Path(__file__).parents[1] / "golden" / "fusion"
LABELS = str(GOLDEN / "eval_labels.txt")
A, B = (str(GOLDEN / f"{name}_eval.pt") for name in ("dist_a", "coral_c"))


def test_one_file_prints_as_a_table_and_becomes_a_dict():
    result = evaluate(A, LABELS, n_boot=200)
    lines = repr(result).splitlines()
    assert lines[0] == "dist_a_eval.pt"
    assert lines[1].split() == ["score", "MSE", "LCC", "SRCC", "KTAU"]
    low, high = result.uncertainty.intervals["utt_mi", "mse"]
    assert lines[2].startswith(f"utt MI  0.2056 [{low:.3f}, {high:.3f}]")
    assert lines[6] == "60 clips, 24 systems"
    assert lines[7:] == list(result.notes)
    assert json.loads(result.to_json()) == result.to_dict()
    assert result.to_dict()["utt_mi"]["mse"] == result.scores.utt_mi.mse


def test_several_files_print_their_numbers_and_the_verdicts():
    result = evaluate([A, B], LABELS, n_boot=200)
    (comparison,) = result.comparisons
    text = repr(result)
    assert text.startswith("dist_a_eval.pt\n") and "\ncoral_c_eval.pt\n" in text
    assert text.splitlines()[-2:] == list(comparison.verdicts.values())
    assert result.uncertainty is None


def test_systems_print_and_are_rows():
    result = evaluate([A], LABELS, by="system")
    assert [row["system"] for row in result.rows()] == sorted({row["system"] for row in result.rows()})
    assert len(repr(result).splitlines()) == 2 + 24
    assert not result.notes


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.tex"])
@pytest.mark.parametrize("options", [{}, {"by": "system"}, {"files": [A, B]}])
def test_every_result_has_every_format(tmp_path, name, options):
    files = options.get("files", [A])
    evaluate(files, LABELS, by=options.get("by"), n_boot=200, out=tmp_path / name)
    text = (tmp_path / name).read_text()
    first = {"t.csv": ("level,", "system,"), "t.json": ("{",), "t.tex": (r"\begin{tabular}",)}[name]
    assert text.startswith(first) and text.endswith("\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "clip"}, "by is 'clip', expected system"),
        ({"n_boot": -1}, "--n-boot -1: expected 0 to 100000"),
        ({"files": [A, Path(A).parent / "." / Path(A).name]}, r"given more than once: .*; give each file once"),
        ({"split": "dev"}, r"--split goes with a manifest; .* is a list of one split; leave out --split dev"),
        ({"files": []}, "no file of predictions, expected one or more"),
        ({"out": "t.xlsx"}, r"--out t\.xlsx: the suffix is '\.xlsx', expected one of \.csv, \.json, \.tex"),
    ],
)
def test_arguments_that_cannot_be_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        evaluate(**{"files": A, "labels": LABELS} | options)


def test_a_folder_is_refused_before_the_work(tmp_path):
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(OutputExistsError, match=r"dir\.csv: is a folder, expected a file to write; "):
        evaluate("nowhere.pt", "nowhere.txt", out=tmp_path / "dir.csv", overwrite=True)


def test_the_numbers_do_not_replace_what_they_are_of(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_bytes(Path(LABELS).read_bytes())
    with pytest.raises(ArgumentError, match=r"labels\.csv: is one of the files that are read; give another"):
        evaluate(A, labels, n_boot=0, out=labels, overwrite=True)
    assert labels.read_bytes() == Path(LABELS).read_bytes()
