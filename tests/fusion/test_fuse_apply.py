"""Fusions that are applied later, and which records are refused."""

import json

import numpy as np
import pytest

from audiomos_cache.errors import DataError
from audiomos_cache.evaluation.predictions import read_predictions
from audiomos_cache.fusion.align import fuse_predictions
from audiomos_cache.fusion.record import load_fusion, read_record
from tests.support.fusion import DEV, EVAL, GOLDEN, LABELS, apply_fusion, fuse, make_run, read_answer


def test_a_fusion_is_applied_later_to_other_files(tmp_path, fused_files):
    fuse(DEV, tmp_path / "at-once", labels=LABELS, apply=EVAL)
    fused = apply_fusion(fused_files, EVAL, tmp_path / "later", apply_split="eval")
    assert (tmp_path / "later" / "answer.txt").read_bytes() == (tmp_path / "at-once" / "answer.txt").read_bytes()
    assert read_predictions(tmp_path / "later" / "fused.eval.jsonl").mi.tolist() == fused.predictions.mi.tolist()
    again = apply_fusion(tmp_path / "later", EVAL, tmp_path / "third")  # what was applied can be applied
    assert np.array_equal(again.predictions.mi, fused.predictions.mi)
    first, later = (json.loads((folder / "fusion.json").read_text()) for folder in (fused_files, tmp_path / "later"))
    assert later["fusion"] == first["fusion"] and later["fit_clips"] == first["fit_clips"]
    assert [member["fit"] for member in later["members"]] == [member["fit"] for member in first["members"]]
    assert [member["apply"]["path"] for member in later["members"]] == list(map(str, EVAL))


def test_load_fusion_gives_what_can_be_applied(fused_files):
    fusion = load_fusion(fused_files)
    fused = fuse_predictions(fusion, [read_predictions(path) for path in EVAL])
    expected = read_answer(GOLDEN / "expected_answer_ridge.txt")[1]
    assert np.abs(np.stack([fused.mi, fused.ta], axis=1) - expected).max() < 1e-6
    assert fusion.method == "ridge" and len(fusion.names) == 3


def test_a_run_trained_on_the_clips_is_refused_later_too(tmp_path):
    run = make_run(tmp_path / "run", clips={"train": ["t"], "dev": ["a"]}, splits=("eval", "train"))
    path = run / "predictions" / "train.loss.jsonl"
    path.write_text(path.read_text().replace('"a"', '"t"'))
    fuse([run], tmp_path / "out", method="mean")
    with pytest.raises(DataError, match=r"trained on clips of the apply split, .*/run on t; leave"):
        apply_fusion(tmp_path / "out", [run], tmp_path / "later", apply_split="train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(format_version=2), "format version is 2, expected 1; update audiomos-cache"),
        (lambda record: record.update(format="x"), "format is 'x', expected 'audiomos-cache fusion'; fuse again"),
        (
            lambda record: record.update(method="median"),
            "not the record of a fusion (ValueError(\"method 'median' is not one of mean, weighted, ridge, lightgbm, ",
        ),
        (
            lambda record: record.update(members=[]),
            "members: []: list should have at least 1 item after valid",
        ),
        (lambda record: record.update(members="abc"), "members: 'abc': input should be a valid list"),
        (lambda record: record.update(members=["abc"]), "members.0: 'abc' is a value, expected keys"),
        (lambda record: record["members"][0].update(name=3), "members.0.name: 3: input should be a valid string"),
        (
            lambda record: record["members"][0].update(best="x"),
            "members.0.best: 'x' is not one of loss, srcc",
        ),
        (lambda record: record["members"][0].update(fit={"path": 1}), "members.0.fit.path: 1: input should be a valid"),
        (lambda record: record.update(fusion="x"), "fusion: 'x': input should be a valid dictionary"),
        (lambda record: record.update(fusion={"mi": "x", "ta": "y"}), "string indices must be integers"),
        (lambda record: record.update(labels="x"), "labels: 'x' is a value, expected keys"),
        (lambda record: record.update(fit_clips=[1]), "fit_clips.0: 1: input should be a valid string"),
        (lambda record: record.update(fit_split=5), "fit_split: 5: input should be a valid string"),
        (lambda record: record.update(dropped={"fit": -1}), "dropped.fit: -1: input should be greater than or equal"),
        (lambda record: record["out_of_fold"].update(folds=1), "out_of_fold.folds: 1: input should be greater than or"),
        (
            lambda record: record["out_of_fold"].update(group="x"),
            "out_of_fold.group: 'x' is not one of prompt, sys",
        ),
        (lambda record: record["out_of_fold"].update(scores=[]), "out_of_fold.scores: [] is a value, expected keys"),
        (
            lambda record: record["out_of_fold"]["scores"]["utt_mi"].update(mse="0.5"),
            "out_of_fold.scores.utt_mi.mse: '0.5': input should be a valid number",
        ),
        (
            lambda record: record["out_of_fold"]["scores"]["utt_mi"].update(mse_ci=[1.0]),
            "out_of_fold.scores.utt_mi.mse_ci: [1.0]: list should have at least 2 items",
        ),
        (lambda record: record.update(early_stopping={"fit": 3}), "early_stopping.fit: 3 is a value, expected keys"),
        (lambda record: record["fusion"]["mi"].update(intercept=int("9" * 400)), "OverflowError"),
        (lambda record: record["fusion"]["mi"].update(intercept="1_0"), "'1_0', expected numbers"),
        (lambda record: record["fusion"]["mi"].update(intercept=True), "True, expected numbers"),
        (lambda record: record["fusion"]["mi"].update(bins=10**9), "on 1000000000 bins"),
        (lambda record: record["members"].pop(), "not the record of a fusion (ValueError('3 features, expected 2'))"),
        (lambda record: record["fusion"].pop("ta"), "not the record of a fusion (KeyError('ta'))"),
        (lambda record: record["fusion"]["mi"].update(intercept=float("nan")), "not JSON (found NaN, "),
        (lambda record: record.pop("format"), "format is None, expected 'audiomos-cache fusion'; fuse again"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, fused_files, change, message):
    record = json.loads((fused_files / "fusion.json").read_text())
    change(record)
    (tmp_path / "fusion.json").write_text(json.dumps(record))
    with pytest.raises(DataError) as error:
        read_record(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/fusion.json: ") and str(error.value).isprintable()
    assert message in str(error.value)


def test_a_folder_without_a_fusion_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no fusion\.json in it, so not a fusion; fuse makes fusions"):
        load_fusion(tmp_path)
    (tmp_path / "fusion.json").write_text("{")
    with pytest.raises(DataError, match=r"fusion\.json: not JSON \(Expecting property name .*; fuse again"):
        load_fusion(tmp_path)
