"""Fusing on files: which are read, which are refused, and the folder that is written."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xxhash
import yaml

from audiomos_cache.cache import Fingerprint
from audiomos_cache.dataset import read_labels
from audiomos_cache.errors import CacheError, ConfigError, DataError, OutputError, OutputExistsError
from audiomos_cache.evaluation import bootstrap_intervals
from audiomos_cache.fusion import METHODS, apply_fusion, load_fusion, read_record
from audiomos_cache.metrics import evaluate, points_of
from audiomos_cache.predictions import Predictions, read_predictions, write_answer, write_predictions
from tests.fusion.conftest import (
    DEV,
    EVAL,
    F00D,
    GOLDEN,
    LABELS,
    clip_ids,
    distribution,
    fuse,
    make_run,
    read_answer,
    scalar,
)


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
    with pytest.raises(DataError, match=r"m\.csv: no split 'test', expected one of dev, eval"):
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
        (b"a: [", "config.yaml: cannot be read as YAML ("),
        (b"\xff\x00", "config.yaml: cannot be read as YAML ("),
        (b"[" * 5000, "config.yaml: cannot be read as YAML (maximum recursion depth exceeded"),
        (b"seed: 2024-13-45", "config.yaml: cannot be read as YAML (month must be in 1..12); train the run again"),
        (b"seed: 1", "config.yaml: fingerprint is None, expected a text; train the run again"),
        (b"- 1", "config.yaml: fingerprint is None, expected a text; train the run again"),
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
        f"{run}/predictions/eval.loss.jsonl: does not exist; "
        f"make it with audiomos-cache predict --run {run} --split eval"
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


def test_files_of_different_clips_are_refused_by_their_own_names(tmp_path):
    with pytest.raises(DataError, match=r"dist_b_dev\.pt: missing clips of .*dist_a_eval\.pt: "):
        fuse(DEV, tmp_path / "out", labels=LABELS, apply=[EVAL[0], DEV[1], EVAL[2]])


def test_unknown_method(tmp_path):
    with pytest.raises(ConfigError, match="fusion method 'median' is not one of greedy, lightgbm, mean, rank, ridge"):
        fuse(EVAL, tmp_path / "out", method="median")
    assert sorted(METHODS) == ["greedy", "lightgbm", "mean", "rank", "ridge", "weighted"]


def test_a_folder_with_content_is_replaced_only_when_asked(tmp_path):
    out = tmp_path / "out"
    fuse(EVAL, out, method="mean", apply_split="dev")
    with pytest.raises(OutputExistsError) as error:
        fuse(EVAL, out, method="mean")
    assert str(error.value) == (
        f"{out}: holds answer.txt, fused.dev.jsonl, fusion.json; give another --out, or --overwrite"
    )
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
        f"{out}: holds thesis.tex, which no fusion wrote and --overwrite would lose; give another --out"
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

    monkeypatch.setattr("audiomos_cache.fusion.output.write_answer", full)
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
    with pytest.raises(OutputError, match=r"/out: cannot be written: Input/output error; mend that, or give another -"):
        fuse(EVAL[:1], out, method="mean", overwrite=True)
    assert len(json.loads((out / "fusion.json").read_text())["members"]) == 3
    assert list(tmp_path.iterdir()) == [out]


def test_a_split_that_cannot_name_a_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"found the split '\.\./x', expected letters"):
        fuse([tmp_path / "a.jsonl"], tmp_path / "out", method="mean", apply_split="../x")
    with pytest.raises(DataError, match=r"found the split '\.\./y', expected letters"):
        fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL, fit_split="../y")


# Folders of runs, files of all kinds


def test_a_folder_of_runs_is_each_run_in_it(tmp_path, caplog):
    runs = [make_run(tmp_path / "runs" / name, seed=place) for place, name in enumerate(("b", "a"))]
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    (tmp_path / "runs" / ".c.unfinished" / "run").mkdir(parents=True)
    fused = fuse([tmp_path / "runs"], tmp_path / "out", method="mean")
    assert fused.fusion.names == (str(runs[1]), str(runs[0]))
    assert caplog.messages[0] == f"{tmp_path}/runs: left out what is no finished run: .c.unfinished, notes.txt"


def test_a_member_that_comes_twice_is_refused(tmp_path):
    run = make_run(tmp_path / "runs" / "one")
    for sources in ([run, tmp_path / "runs"], [run, run], [tmp_path / "runs" / ".." / "runs" / "one", run]):
        with pytest.raises(DataError, match=r"given more than once: .*/one; give each member once"):
            fuse(sources, tmp_path / "out", method="mean")


def test_an_answer_is_fused_as_scores(tmp_path):
    write_answer(tmp_path / "answer.txt", scalar())
    write_predictions(tmp_path / "other.jsonl", distribution())
    fused = fuse([tmp_path / "answer.txt", tmp_path / "other.jsonl"], tmp_path / "out", method="mean")
    assert fused.predictions.mi.tolist() == [2.0, 3.0]


def test_files_of_runs_of_different_fingerprints_are_refused(tmp_path):
    files = [make_run(tmp_path / name, name) / "predictions" / "eval.loss.jsonl" for name in ("one", "two")]
    with pytest.raises(CacheError, match=r"two/predictions/eval\.loss\.jsonl: fingerprint .*; fuse runs of one cache"):
        fuse(files, tmp_path / "out", method="mean")


def test_a_pair_that_is_not_one_members_is_refused(tmp_path):
    for folder in ("dev", "eval"):
        for name in ("x", "y"):
            write_predictions(tmp_path / folder / f"{name}.jsonl", scalar())
    (tmp_path / "list.txt").write_text("a,3,1\nb,4,2\n")
    fit, apply = ([tmp_path / folder / f"{name}.jsonl" for name in "xy"] for folder in ("dev", "eval"))
    fuse(fit, tmp_path / "out", labels=tmp_path / "list.txt", apply=apply)
    with pytest.raises(DataError, match=r"eval/y\.jsonl: is not of the same member as .*dev/x\.jsonl; give both spl"):
        fuse(fit, tmp_path / "other", labels=tmp_path / "list.txt", apply=apply[::-1])

    runs = [make_run(tmp_path / name, seed=place) for place, name in enumerate(("one", "two"))]
    fit, apply = ([run / "predictions" / f"{split}.loss.jsonl" for run in runs] for split in ("dev", "eval"))
    fuse(fit, tmp_path / "runs-out", labels=tmp_path / "list.txt", apply=apply)
    with pytest.raises(DataError, match=r"two/predictions/eval\.loss\.jsonl: is not of the same member as .*/one/pre"):
        fuse(fit, tmp_path / "other", labels=tmp_path / "list.txt", apply=apply[::-1])


def test_pairs_that_nothing_tells_are_spelled_out(tmp_path, caplog):
    fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL)
    pairs = "; ".join(f"{fit} and {apply}" for fit, apply in zip(DEV, EVAL, strict=True))
    assert f"files do not say which member made them, so as given these are one's: {pairs}" in caplog.messages
    caplog.clear()
    fuse(DEV, tmp_path / "again", labels=LABELS, apply=DEV)
    assert not [message for message in caplog.messages if "one's" in message]


# Missing clips, scores off the scale


def test_clips_that_not_all_members_have_are_dropped_when_asked(tmp_path, caplog):
    random = np.random.default_rng(0)
    ids = clip_ids(40)
    truth = random.uniform(1, 5, 40)
    for split, missing in (("dev", (ids[:7], ids[5:9])), ("eval", ([], ids[:1]))):
        for name, out in zip("xy", missing, strict=True):
            kept = [clip for clip in ids if clip not in out]
            scores = [truth[ids.index(clip)] + random.normal(0, 0.3) for clip in kept]
            write_predictions(tmp_path / split / f"{name}.jsonl", Predictions.build(kept, scores, scores))
    (tmp_path / "list.txt").write_text("".join(f"{clip},{mi},{mi}\n" for clip, mi in zip(ids, truth, strict=True)))
    fit, apply = ([tmp_path / split / f"{name}.jsonl" for name in "xy"] for split in ("dev", "eval"))
    with pytest.raises(
        DataError, match=r"/dev/y\.jsonl: missing clips of \S+/dev/x\.jsonl: \S+S020_P001, \S+S027_P000; c"
    ):
        fuse(fit, tmp_path / "out", labels=tmp_path / "list.txt", apply=apply)
    fused = fuse(fit, tmp_path / "out", labels=tmp_path / "list.txt", apply=apply, allow_missing=True)
    assert fused.dropped == {"fit": 9, "apply": 1}
    assert set(fused.predictions.ids) == set(ids[1:])
    assert set(fused.out_of_fold.predictions.ids) == set(ids[9:])
    record = json.loads((tmp_path / "out" / "fusion.json").read_text())
    assert record["dropped"] == {"fit": 9, "apply": 1}
    assert set(record["fit_clips"]) == set(ids[9:])
    assert [message.split(":")[0] for message in caplog.messages if "left out" in message] == [
        "fit split",
        "apply split",
    ]
    assert "fit split: 9 clips left out, because not all members have them" in caplog.text


def test_a_clip_without_a_label_is_refused_even_when_missing_ones_are_allowed(tmp_path):
    write_predictions(tmp_path / "x.jsonl", scalar(ids="abc", mi=(1, 2, 3), ta=(1, 2, 3)))
    (tmp_path / "list.txt").write_text("a,3,1\nb,4,2\n")
    with pytest.raises(DataError, match=r"x\.jsonl: clips that are not in the labels: c"):
        fuse(
            [tmp_path / "x.jsonl"],
            tmp_path / "out",
            labels=tmp_path / "list.txt",
            apply=[EVAL[0]],
            allow_missing=True,
        )


def test_scores_off_the_scale_are_counted_and_clipped_in_the_answer(tmp_path, caplog):
    write_predictions(tmp_path / "x.jsonl", scalar(mi=(0.5, 6.0), ta=(3.0, 5.5)))
    fuse([tmp_path / "x.jsonl"], tmp_path / "out", method="mean")
    assert f"{tmp_path}/x.jsonl: 3 of 4 scores lie outside 1..5" in caplog.messages
    assert (tmp_path / "out" / "answer.txt").read_text() == "a,1.00000000,3.00000000\nb,5.00000000,5.00000000\n"
    assert read_predictions(tmp_path / "out" / "fused.jsonl").mi.tolist() == [0.5, 6.0], "kept as they are"


# Honest numbers


def test_the_scores_of_the_fit_split_are_those_of_the_out_of_fold_predictions(tmp_path):
    fused = fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL, fit_split="dev", folds=4, cv_group="system", seed=3)
    written = read_predictions(tmp_path / "out" / "out-of-fold.dev.jsonl")
    scores = evaluate(written, read_labels(LABELS))
    assert fused.out_of_fold.scores == scores
    assert json.loads((tmp_path / "out" / "fusion.json").read_text())["out_of_fold"] == {
        "folds": 4,
        "group": "system",
        "seed": 3,
        "scores": scores.to_json(),
    }
    in_fold = fuse(DEV, tmp_path / "two", labels=LABELS, apply=DEV).predictions
    assert evaluate(in_fold, read_labels(LABELS)).utt_mi.mse < 0.8 * scores.utt_mi.mse, "what is never shown"


def test_clips_that_were_fitted_on_are_named_with_what_there_is_instead(tmp_path, caplog):
    def advice():
        (message,) = [message for message in caplog.messages if "fitted on" in message]
        caplog.clear()
        start, _, advice = message.rpartition("; ")
        assert start.startswith("the fusion was fitted on 160 of the 160 clips that it is applied to, so numbers on t")
        return advice

    fuse(DEV, tmp_path / "out", labels=LABELS, apply=DEV, fit_split="dev")
    assert advice() == f"evaluate {tmp_path}/out/out-of-fold.dev.jsonl instead"
    assert (tmp_path / "out" / "out-of-fold.dev.jsonl").is_file()
    apply_fusion(tmp_path / "out", DEV, tmp_path / "again")
    assert advice() == f"evaluate {tmp_path}/out/out-of-fold.dev.jsonl instead"
    again = "fuse again with --folds 5 and evaluate its out-of-fold predictions instead"
    apply_fusion(tmp_path / "again", DEV, tmp_path / "third")
    assert advice() == again
    fuse(DEV, tmp_path / "none", labels=LABELS, apply=DEV, folds=0)
    assert advice() == again


def test_a_fusion_is_never_replaced_by_its_own_application(tmp_path):
    out = tmp_path / "out"
    fuse(DEV, out, labels=LABELS, apply=EVAL)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "out-of-fold.jsonl" in before
    (tmp_path / "link").symlink_to(out)
    for other in (out, tmp_path / "link", tmp_path / "out" / ".." / "out"):
        with pytest.raises(
            OutputExistsError, match="holds the fusion that is applied, whose out-of-fold predictions w"
        ):
            apply_fusion(out, EVAL, other, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(("group", "folds"), [("prompt", 119), ("system", 30), ("none", 150)])
def test_the_folds_that_are_told_are_those_that_were_made(tmp_path, group, folds):
    """150 are asked for, of 160 clips of 30 systems and 119 prompts."""
    tested = fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL, folds=150, cv_group=group).out_of_fold
    assert tested.folds.count == folds
    assert str(tested.folds).startswith(f"{folds} folds")
    assert json.loads((tmp_path / "out" / "fusion.json").read_text())["out_of_fold"]["folds"] == folds
    assert len(set(tested.folds.assign(tested.predictions.ids).tolist())) == folds


def test_without_folds_there_are_no_scores(tmp_path):
    fused = fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL, folds=0)
    assert fused.out_of_fold is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["answer.txt", "fused.jsonl", "fusion.json"]
    assert json.loads((tmp_path / "out" / "fusion.json").read_text())["out_of_fold"] is None
    with pytest.raises(ConfigError, match="greedy chooses its number of steps by cross-validation; give 2 folds or"):
        fuse(DEV, tmp_path / "greedy", labels=LABELS, apply=EVAL, folds=0, method="greedy")


def test_the_scores_of_the_fit_split_come_with_their_intervals(tmp_path):
    """Those that `evaluate` gives for the out-of-fold predictions with the same seed."""
    fused = fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL, seed=3, n_boot=300)
    points = points_of(read_predictions(tmp_path / "out" / "out-of-fold.jsonl"), read_labels(LABELS))
    expected = bootstrap_intervals(points, 300, 3)
    assert fused.out_of_fold.uncertainty == expected
    assert len(expected.intervals) == 16
    told = json.loads((tmp_path / "out" / "fusion.json").read_text())["out_of_fold"]["scores"]
    assert told["sys_mi"]["srcc_ci"] == list(expected.intervals["sys_mi", "srcc"])
    assert told["intervals"]["n_boot"] == 300


def test_prompts_of_one_text_are_held_out_together(tmp_path):
    """Eight systems speak 20 prompts; two ids each have one text, but for the list alone they are two prompts."""
    ids = clip_ids(160)
    random = np.random.default_rng(0)
    (tmp_path / "data" / "sets").mkdir(parents=True)
    labels = tmp_path / "data" / "sets" / "dev_mos_list.txt"
    labels.write_text(
        "".join(f"{clip}.wav,{mi},{mi}\n" for clip, mi in zip(ids, random.uniform(1, 5, 160), strict=True))
    )
    write_predictions(tmp_path / "x.jsonl", Predictions.build(ids, random.uniform(1, 5, 160), np.full(160, 3.0)))

    def pairs_apart(out):
        tested = fuse([tmp_path / "x.jsonl"], out, labels=labels, apply=[tmp_path / "x.jsonl"]).out_of_fold
        fold = {clip[-4:]: number for clip, number in zip(ids, tested.folds.assign(ids).tolist(), strict=True)}
        assert len(fold) == 20 and len(set(fold.values())) == 5
        return sum(fold[f"P{number:03d}"] != fold[f"P{number + 10:03d}"] for number in range(10))

    assert pairs_apart(tmp_path / "ids") > 5
    texts = "".join(f"P{number:03d}\ttext {number % 10}\n" for number in range(20))
    (tmp_path / "data" / "prompt_info.txt").write_text("id\ttext\n" + texts)
    assert pairs_apart(tmp_path / "texts") == 0


# Applying later


@pytest.fixture(scope="module")
def fused_files(tmp_path_factory):
    out = tmp_path_factory.mktemp("fused") / "out"
    fuse(DEV, out, labels=LABELS, apply=DEV)
    return out


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
    fused = fusion.apply([read_predictions(path) for path in EVAL])
    expected = read_answer(GOLDEN / "expected_answer_ridge.txt")[1]
    assert np.abs(np.stack([fused.mi, fused.ta], axis=1) - expected).max() < 1e-6
    assert fusion.method == "ridge" and len(fusion.names) == 3


def test_files_of_other_members_are_refused(tmp_path, fused_files):
    with pytest.raises(DataError, match=r"2 files, expected one for each of 3 members, in the order .*dist_a"):
        apply_fusion(fused_files, EVAL[:2], tmp_path / "out")
    with pytest.raises(DataError, match=r"dist_b_dev\.pt: is of the member .*dist_b_dev\.pt, expected .*dist_a_dev\.p"):
        apply_fusion(fused_files, [DEV[1], DEV[0], DEV[2]], tmp_path / "out")
    renamed = tmp_path / "mine.pt"
    shutil.copy(DEV[1], renamed)
    with pytest.raises(DataError, match=r"mine\.pt: is of the member .*dist_b_dev\.pt, expected .*dist_a_dev"):
        apply_fusion(fused_files, [renamed, *EVAL[1:]], tmp_path / "out")
    with pytest.raises(DataError, match="mi is a score, expected a distribution on 20 bins as in the fit split"):
        apply_fusion(fused_files, [EVAL[2], EVAL[1], EVAL[0]], tmp_path / "out")


def test_which_file_is_taken_for_which_member_is_told(tmp_path, fused_files, caplog):
    """Swapped files of one kind cannot be told from the right ones, so the user must see how they were paired."""
    files = [tmp_path / "m2.pt", tmp_path / "m1.pt", tmp_path / "m3.pt"]
    for source, file in zip((EVAL[1], EVAL[0], EVAL[2]), files, strict=True):
        shutil.copy(source, file)
    apply_fusion(fused_files, files, tmp_path / "out")
    pairs = "; ".join(f"{file} as {member}" for file, member in zip(files, DEV, strict=True))
    message = f"files do not say which member made them, so they are taken in the order given: {pairs}"
    assert message in caplog.messages


def numbered_run(folder, seed):
    """A run whose scores are its own, so that another in its place would be noticed."""
    run = make_run(folder, seed=seed, history=[{"epoch": 1, "loss": seed, "dev": {}, "best": ["loss"]}])
    for split in ("dev", "eval", "test"):
        scores = distribution(mi=(1 + seed / 4, 3.0), ta=(2.0, 5 - seed / 4))
        write_predictions(run / "predictions" / f"{split}.loss.jsonl", scores)
    return run


def test_runs_are_known_again_in_any_order_and_place(tmp_path):
    runs = [numbered_run(tmp_path / "runs" / f"r{seed}", seed) for seed in (1, 2, 3)]
    (tmp_path / "list.txt").write_text("a,1.6,2\nb,3,4.4\n")
    fusion = fuse(runs, tmp_path / "out", labels=tmp_path / "list.txt", method="weighted").fusion
    expected = apply_fusion(tmp_path / "out", runs, tmp_path / "one", apply_split="test").predictions
    moved = [tmp_path / "elsewhere" / name for name in ("c", "b", "a")]
    for run, place in zip(runs, moved, strict=True):
        shutil.copytree(run, place)
    for sources in (moved[::-1], [tmp_path / "elsewhere"]):
        found = apply_fusion(tmp_path / "out", sources, tmp_path / "two", apply_split="test", overwrite=True)
        assert np.array_equal(found.predictions.mi, expected.mi) and np.array_equal(found.predictions.ta, expected.ta)
    files = [run / "predictions" / "test.loss.jsonl" for run in moved[::-1]]
    found = apply_fusion(tmp_path / "out", files, tmp_path / "three", apply_split="test")
    assert np.array_equal(found.predictions.mi, expected.mi)
    assert not np.array_equal(fusion.apply([read_predictions(path) for path in files]).mi, expected.mi)


def test_another_run_is_refused_whatever_its_name(tmp_path):
    runs = [numbered_run(tmp_path / f"r{seed}", seed) for seed in (1, 2)]
    fuse(runs, tmp_path / "out", method="mean")
    shutil.rmtree(runs[1])
    numbered_run(runs[1], 3)
    for sources in (runs, [run / "predictions" / "test.loss.jsonl" for run in runs]):
        with pytest.raises(DataError) as error:
            apply_fusion(tmp_path / "out", sources, tmp_path / "later", apply_split="test")
        assert str(error.value) == (
            f"not the members that were fused: missing: {runs[1]}; no members: {sources[1]}; "
            "give those that the fusion was made of"
        )
    assert not (tmp_path / "later").exists()


def test_a_run_trained_on_the_clips_is_refused_later_too(tmp_path):
    run = make_run(tmp_path / "run", clips={"train": ["t"], "dev": ["a"]}, splits=("eval", "train"))
    path = run / "predictions" / "train.loss.jsonl"
    path.write_text(path.read_text().replace('"a"', '"t"'))
    fuse([run], tmp_path / "out", method="mean")
    with pytest.raises(DataError, match=r"trained on clips of the apply split, .*/run on t; leave"):
        apply_fusion(tmp_path / "out", [run], tmp_path / "later", apply_split="train")


def test_runs_for_a_fusion_of_files_are_refused(tmp_path, fused_files):
    run = make_run(tmp_path / "run")
    with pytest.raises(DataError, match=r"members that were given as files of no run: .*dist_a_dev\.pt.*; give"):
        apply_fusion(fused_files, [run], tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(format_version=2), "is ('audiomos-cache fusion', 2), expected"),
        (lambda record: record.update(format="x"), "is ('x', 1), expected ('audiomos-cache fusion', 1)"),
        (lambda record: record.update(method="median"), "not the record of a fusion (KeyError('median')); fuse again"),
        (lambda record: record.update(members=[]), "not the record of a fusion (ValueError('no members'))"),
        (lambda record: record["members"].pop(), "not the record of a fusion (ValueError('3 features, expected 2'))"),
        (lambda record: record["fusion"].pop("ta"), "not the record of a fusion (KeyError('ta'))"),
        (lambda record: record["fusion"]["mi"].update(intercept=float("nan")), "a number that is not finite"),
        (lambda record: record.pop("format"), "not the record of a fusion (KeyError('format'))"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, fused_files, change, message):
    record = json.loads((fused_files / "fusion.json").read_text())
    change(record)
    (tmp_path / "fusion.json").write_text(json.dumps(record))
    with pytest.raises(DataError) as error:
        read_record(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/fusion.json: ")
    assert message in str(error.value)


def test_a_folder_without_a_fusion_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no fusion\.json in it, so not a fusion; fuse makes fusions"):
        load_fusion(tmp_path)
    (tmp_path / "fusion.json").write_text("{")
    with pytest.raises(DataError, match=r"fusion\.json: not the record of a fusion \(JSONDecodeError"):
        load_fusion(tmp_path)
