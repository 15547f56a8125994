"""Fusing on files: which are read, which are refused, and the folder that is written."""

import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import xxhash
import yaml

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.dataset.labels import read_labels
from audiomos_cache.errors import ArgumentError, CacheError, ConfigError, DataError, OutputError, OutputExistsError
from audiomos_cache.evaluation.predictions import read_predictions
from tests.support.fusion import DEV, EVAL, F00D, GOLDEN, LABELS, fuse, make_run, read_answer


@pytest.mark.parametrize(
    ("files", "expected"), [(EVAL, "expected_answer_ridge.txt"), (DEV, "expected_dev_answer_ridge.txt")]
)
def test_ridge_gives_the_originals_answer(tmp_path, files, expected):
    fuse(DEV, tmp_path / "out", labels=LABELS, apply=files)
    ids, scores = read_answer(tmp_path / "out" / "answer.txt")
    expected_ids, expected_scores = read_answer(GOLDEN / expected)
    assert ids == expected_ids
    assert np.abs(scores - expected_scores).max() < 1e-6


# Runs, files, the folder that is written


def test_runs_by_mean(tmp_path):
    runs = [make_run(tmp_path / name, splits=["eval"]) for name in ("one", "two")]
    fused = fuse(runs, tmp_path / "out", method="mean")
    assert fused.predictions.mi.tolist() == [3.0, 4.0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "answer.txt",
        "fused.eval.jsonl",
        "fusion.json",
    ]
    assert read_predictions(tmp_path / "out" / "fused.eval.jsonl").mi.tolist() == [3.0, 4.0]
    assert (tmp_path / "out" / "answer.txt").read_text() == "a,3.00000000,1.00000000\nb,4.00000000,2.00000000\n"


def test_runs_by_ridge_on_the_splits_and_the_best_that_were_asked_for(tmp_path):
    run = make_run(tmp_path / "run", splits=["test", "demo"], best="srcc")
    (tmp_path / "list.txt").write_text("b.wav,4.0,2.0\na.wav,3.0,1.0\n")
    fuse(
        [run],
        tmp_path / "out",
        labels=tmp_path / "list.txt",
        fit_split="test",
        apply_split="demo",
        best="srcc",
    )
    record = json.loads((tmp_path / "out" / "fusion.json").read_text())
    assert (tmp_path / "out" / "fused.demo.jsonl").is_file()
    assert (record["fit_split"], record["apply_split"], record["fingerprint"]) == ("test", "demo", F00D)
    assert record["members"][0]["fit"]["path"] == str(run / "predictions" / "test.srcc.jsonl")


def test_record_tells_what_went_in(tmp_path):
    fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL)
    record = json.loads((tmp_path / "out" / "fusion.json").read_text())

    def identity(path):
        return {"path": str(path), "xxh3_128": xxhash.xxh3_128_hexdigest(path.read_bytes())}

    assert record["method"] == "ridge"
    assert (record["format"], record["format_version"]) == ("audiomos-cache fusion", 1)
    assert [member["name"] for member in record["members"]] == [str(path) for path in DEV]
    assert [member["fit"] for member in record["members"]] == [identity(path) for path in DEV]
    assert [member["apply"] for member in record["members"]] == [identity(path) for path in EVAL]
    assert record["labels"] == identity(LABELS)
    assert record["versions"].keys() >= {"audiomos-cache", "numpy", "scipy", "scikit-learn"}
    assert np.array(record["fusion"]["mi"]["coefficients"]).shape == (3, 20)
    assert record["fit_clips"] == sorted(read_labels(LABELS).ids)


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    contents = []
    for name in ("one", "two"):
        fuse(DEV, tmp_path / name, labels=LABELS, apply=EVAL)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert len(contents[0]) == 4
    assert contents[0] == contents[1]


def test_mean_of_files_needs_no_fit_split(tmp_path):
    alone = fuse(EVAL, tmp_path / "one", method="mean")
    paired = fuse(DEV, tmp_path / "two", method="mean", apply=EVAL, labels=LABELS)
    assert np.array_equal(alone.predictions.mi, paired.predictions.mi)
    assert len(alone.predictions.ids) == 60
    assert alone.out_of_fold is None
    record = json.loads((tmp_path / "two" / "fusion.json").read_text())
    assert record["fit_clips"] == [] and record["fit_split"] is None and record["labels"] is None
    assert all(member["fit"] is None for member in record["members"])


def test_runs_are_of_dev_and_eval_unless_told(tmp_path):
    run = make_run(tmp_path / "run")
    (tmp_path / "list.txt").write_text("b.wav,4.0,2.0\na.wav,3.0,1.0\n")
    fuse([run], tmp_path / "out", labels=tmp_path / "list.txt")
    record = json.loads((tmp_path / "out" / "fusion.json").read_text())
    assert (record["fit_split"], record["apply_split"]) == ("dev", "eval")
    assert record["members"][0]["fit"]["path"] == str(run / "predictions" / "dev.loss.jsonl")


def test_files_claim_no_split_unless_told(tmp_path):
    fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL)
    record = json.loads((tmp_path / "out" / "fusion.json").read_text())
    assert (record["fit_split"], record["apply_split"]) == (None, None)
    assert read_predictions(tmp_path / "out" / "fused.jsonl").ids == read_predictions(EVAL[0]).ids

    fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL, fit_split="dev", apply_split="mine", overwrite=True)
    record = json.loads((tmp_path / "out" / "fusion.json").read_text())
    assert (record["fit_split"], record["apply_split"]) == ("dev", "mine")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["answer.txt", "fused.mine.jsonl", "fusion.json", "out-of-fold.dev.jsonl"]


def test_labels_may_be_the_fit_splits_rows_of_a_manifest(tmp_path):
    run = make_run(tmp_path / "run")
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,prompt,split,mi,ta\nc.wav,x,eval,,\nb.wav,x,dev,4,2\na.wav,y,dev,3,1\n")
    (tmp_path / "list.txt").write_text("b.wav,4,2\na.wav,3,1\n")
    by_manifest = fuse([run], tmp_path / "one", labels=manifest)
    by_list = fuse([run], tmp_path / "two", labels=tmp_path / "list.txt")
    assert np.array_equal(by_manifest.predictions.mi, by_list.predictions.mi)
    with pytest.raises(DataError, match=r"m\.csv: split 'test' not found, expected one of dev, eval"):
        fuse([make_run(tmp_path / "other", splits=["test", "eval"])], tmp_path / "x", labels=manifest, fit_split="test")


def test_runs_of_different_fingerprints_are_refused(tmp_path):
    runs = [make_run(tmp_path / "one", "aaaa"), make_run(tmp_path / "two", "bbbb")]
    with pytest.raises(CacheError) as error:
        fuse(runs, tmp_path / "out", method="mean")
    first, *forms = str(error.value).splitlines()
    assert first.startswith(f"{runs[1]}: fingerprint ")
    assert first.endswith(
        f"; first difference: audio_encoder.name is 'bbbb', expected 'aaaa'; fuse runs of one cache only, as {runs[0]}"
    )
    assert forms == [
        '  found:    {"audio_encoder":{"name":"bbbb"}}',
        '  expected: {"audio_encoder":{"name":"aaaa"}}',
    ]


def test_an_imported_run_fuses_with_any(tmp_path):
    runs = [make_run(tmp_path / name, name) for name in ("one", "two")]
    config = yaml.safe_load((runs[0] / "config.yaml").read_text())
    (runs[0] / "config.yaml").write_text(
        yaml.safe_dump(config | {"fingerprint": "unknown", "fingerprint_fields": None})
    )
    fuse(runs, tmp_path / "out", method="mean")
    record = json.loads((tmp_path / "out" / "fusion.json").read_text())
    assert record["fingerprint"] == Fingerprint.of({"audio_encoder": {"name": "two"}}).digest


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "run: no config.yaml in it, nor in a folder in it, so no run; train-head makes runs"),
        (b"a: [", "config.yaml: cannot be read as YAML: expected"),
        (b"\xff\x00", "config.yaml: cannot be read as YAML: 'utf-8' codec"),
        (b"[" * 1000, "config.yaml: cannot be read as YAML: nested too deeply; train the run again"),
        (b"seed: 1", "config.yaml: fingerprint is None, expected a string; train the run again"),
        (b"- 1", "config.yaml: found list, expected keys such as head, seed, fingerprint; train the run again"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path, config, message):
    run = make_run(tmp_path / "run")
    (run / "config.yaml").unlink()
    if config is not None:
        (run / "config.yaml").write_bytes(config)
    with pytest.raises(DataError) as error:
        fuse([run], tmp_path / "out", method="mean")
    assert message in str(error.value)


def test_a_run_without_predictions_of_the_split_is_refused(tmp_path):
    run = make_run(tmp_path / "run", splits=["dev"])
    with pytest.raises(DataError) as error:
        fuse([run], tmp_path / "out", method="mean")
    assert str(error.value) == (
        f"{run}/predictions/eval.loss.jsonl: file not found, expected predictions of split 'eval' (found of dev); "
        f"audiomos-cache predict {run} --cache CACHE --split eval makes them, or choose another split"
    )


def test_runs_and_files_do_not_mix(tmp_path):
    run = make_run(tmp_path / "run")
    message = "run folders and predictions files do not mix; give only the one kind"
    with pytest.raises(DataError, match=message):
        fuse([DEV[0], run], tmp_path / "out", labels=LABELS)
    with pytest.raises(DataError, match=message):
        fuse([run], tmp_path / "out", labels=LABELS, apply=EVAL)


def test_ridge_wants_a_file_to_apply_for_each_to_fit(tmp_path):
    with pytest.raises(DataError) as error:
        fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL[:2])
    assert str(error.value) == (
        "2 files of the apply split, expected 3: give --apply FILE once for each file of the fit split, "
        "in the same order"
    )


def test_a_file_that_is_missing_or_no_predictions_is_named_before_the_number_of_files(tmp_path):
    missing, binary = tmp_path / "none.jsonl", tmp_path / "binary.jsonl"
    binary.write_bytes(bytes(range(256)))
    for apply in ([], [EVAL[0]]):
        with pytest.raises(DataError, match=f"^{missing}: file not found, expected predictions"):
            fuse([DEV[0], missing], out=tmp_path / "out", labels=LABELS, apply=apply)
        with pytest.raises(DataError, match=f"^{binary}:1: not a line of JSON"):
            fuse([DEV[0], binary], out=tmp_path / "out", labels=LABELS, apply=apply)


def test_files_of_different_clips_are_refused_by_their_own_names(tmp_path):
    with pytest.raises(DataError, match=r"dist_b_dev\.pt: missing clips of .*dist_a_eval\.pt: "):
        fuse(DEV, tmp_path / "out", labels=LABELS, apply=[EVAL[0], DEV[1], EVAL[2]])


def test_unknown_method(tmp_path):
    with pytest.raises(ConfigError, match="fusion 'median' is not one of mean, weighted, ridge, lightgbm, greedy"):
        fuse(EVAL, tmp_path / "out", method="median")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"best": "mse"}, "best is 'mse', expected one of loss, srcc, combined"),
        ({"cv_group": "rater"}, "cv_group is 'rater', expected one of prompt, system, none"),
    ],
)
def test_unknown_values_are_refused_before_files_are_read(tmp_path, options, message):
    with pytest.raises(ArgumentError, match=message):
        fuse([tmp_path / "missing.jsonl"], tmp_path / "out", labels=LABELS, **options)


def test_what_made_a_fusion_cannot_be_given_again(tmp_path):
    with pytest.raises(ArgumentError, match="--method, --labels, --folds: the fusion to apply is made already"):
        fuse(EVAL, tmp_path / "out", from_fusion=tmp_path, method="mean", labels=LABELS, folds=3, n_boot=10_000)


def test_the_result_prints_as_a_summary_and_becomes_a_dict(tmp_path):
    result = fuse(list(map(str, DEV)), str(tmp_path / "out"), labels=str(LABELS), apply=list(map(str, EVAL)))
    lines = repr(result).splitlines()
    assert lines[0] == f"{tmp_path}/out/answer.txt: ridge of 3 members, 60 clips"
    assert lines[1].endswith("each clip by a fusion that was fitted without it, 5 folds by prompt.")
    assert lines[2].split() == ["score", "MSE", "LCC", "SRCC", "KTAU"]
    assert lines[3].split() == ["utt", "MI", *(f"{value:.4f}" for value in astuple(result.out_of_fold.scores.utt_mi))]
    content = json.loads(json.dumps(result.to_dict()))
    assert (content["method"], content["clips"], len(content["members"])) == ("ridge", 60, 3)
    assert content["out_of_fold"] == json.loads((tmp_path / "out" / "fusion.json").read_text())["out_of_fold"]


def test_a_folder_with_content_is_replaced_only_when_asked(tmp_path):
    out = tmp_path / "out"
    fuse(EVAL, out, method="mean", apply_split="dev")
    with pytest.raises(OutputExistsError) as error:
        fuse(EVAL, out, method="mean")
    assert str(error.value) == (f"{out}: exists already; give another --out, or --overwrite")
    fuse(EVAL, out, method="mean", overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["answer.txt", "fused.jsonl", "fusion.json"]
    assert list(tmp_path.iterdir()) == [out]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    fuse(EVAL, tmp_path / "out", method="mean")
    assert (tmp_path / "out" / "answer.txt").is_file()


def test_overwrite_never_loses_what_no_fusion_wrote(tmp_path):
    out = tmp_path / "out"
    fuse(EVAL, out, method="mean")
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(OutputExistsError) as error:
        fuse(EVAL, out, method="mean", overwrite=True)
    assert str(error.value) == (
        f"{out}: holds thesis.tex, which is not part of a fusion and would be lost; give another --out"
    )
    assert (out / "thesis.tex").read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputExistsError, match="out: is a file, expected a folder to make; give another --out"):
        fuse(EVAL, tmp_path / "out", method="mean", overwrite=True)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_failure_while_writing_leaves_the_old_folder_whole(tmp_path, monkeypatch):
    out = tmp_path / "out"
    fuse(EVAL, out, method="mean")
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("audiomos_cache.fusion.record.write_answer", full)
    with pytest.raises(OSError, match="No space left"):
        fuse(EVAL[:1], out, method="mean", overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_failure_while_replacing_puts_the_old_folder_back(tmp_path, monkeypatch):
    out = tmp_path / "out"
    fuse(EVAL, out, method="mean")
    rename = Path.rename

    def refuse_new(path, target):
        if path.name.endswith(".new"):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(OutputError, match=r"/out: cannot be written: Input/output error; fix that, or give another -"):
        fuse(EVAL[:1], out, method="mean", overwrite=True)
    assert len(json.loads((out / "fusion.json").read_text())["members"]) == 3
    assert list(tmp_path.iterdir()) == [out]


def test_a_split_that_cannot_name_a_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"found the split '\.\./x', expected letters"):
        fuse([tmp_path / "a.jsonl"], tmp_path / "out", method="mean", apply_split="../x")
    with pytest.raises(DataError, match=r"found the split '\.\./y', expected letters"):
        fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL, fit_split="../y")
