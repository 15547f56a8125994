"""What is given to a fusion: folders of runs, files of all kinds, missing clips, scores off the scale."""

import json

import numpy as np
import pytest
import yaml

from audiomos_cache.errors import CacheError, DataError
from audiomos_cache.evaluation.predictions import Predictions, read_predictions, write_answer, write_predictions
from tests.support.fusion import DEV, EVAL, LABELS, clip_ids, distribution, fuse, make_run, scalar


def test_a_folder_of_runs_is_each_run_in_it(tmp_path, caplog):
    runs = [make_run(tmp_path / "runs" / name, seed=seed) for seed, name in enumerate(("b", "a"))]
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    (tmp_path / "runs" / ".c.unfinished" / "run").mkdir(parents=True)
    fused = fuse([tmp_path / "runs"], tmp_path / "out", method="mean")
    assert fused.fusion.names == (str(runs[1]), str(runs[0]))
    assert caplog.messages[0] == f"{tmp_path}/runs: left out, not finished runs: .c.unfinished, notes.txt"


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


@pytest.mark.parametrize("fields", ["a string", 3, [1]])
def test_a_fingerprint_that_is_none_is_refused_by_its_file(tmp_path, fields):
    run = make_run(tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"fingerprint_fields": fields}))
    with pytest.raises(DataError, match=rf"^{run}/config\.yaml: fingerprint_fields .*; train the run again$"):
        fuse([run], tmp_path / "out", method="mean")


def test_a_pair_that_is_not_one_members_is_refused(tmp_path):
    for folder in ("dev", "eval"):
        for name in ("x", "y"):
            write_predictions(tmp_path / folder / f"{name}.jsonl", scalar())
    (tmp_path / "list.txt").write_text("a,3,1\nb,4,2\n")
    fit, apply = ([tmp_path / folder / f"{name}.jsonl" for name in "xy"] for folder in ("dev", "eval"))
    fuse(fit, tmp_path / "out", labels=tmp_path / "list.txt", apply=apply)
    with pytest.raises(DataError, match=r"eval/y\.jsonl: is not of the same member as .*dev/x\.jsonl; give both spl"):
        fuse(fit, tmp_path / "other", labels=tmp_path / "list.txt", apply=apply[::-1])

    runs = [make_run(tmp_path / name, seed=seed) for seed, name in enumerate(("one", "two"))]
    fit, apply = ([run / "predictions" / f"{split}.loss.jsonl" for run in runs] for split in ("dev", "eval"))
    fuse(fit, tmp_path / "runs-out", labels=tmp_path / "list.txt", apply=apply)
    with pytest.raises(DataError, match=r"two/predictions/eval\.loss\.jsonl: is not of the same member as .*/one/pre"):
        fuse(fit, tmp_path / "other", labels=tmp_path / "list.txt", apply=apply[::-1])


def test_pairs_of_files_without_a_run_are_listed(tmp_path, caplog):
    fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL)
    pairs = "; ".join(f"{fit} and {apply}" for fit, apply in zip(DEV, EVAL, strict=True))
    assert f"files without a run, so these pairs are taken as one member's each: {pairs}" in caplog.messages
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
    assert f"{tmp_path}/x.jsonl: 3 of 4 scores are outside 1..5" in caplog.messages
    assert (tmp_path / "out" / "answer.txt").read_text() == "a,1.00000000,3.00000000\nb,5.00000000,5.00000000\n"
    assert read_predictions(tmp_path / "out" / "fused.jsonl").mi.tolist() == [0.5, 6.0], "kept as they are"
