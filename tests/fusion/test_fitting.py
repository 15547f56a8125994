"""The numbers that fusing shows: of clips that the fusion was not fitted on, with folds and intervals as made."""

import json

import numpy as np
import pytest

from audiomos_cache.dataset.labels import read_labels
from audiomos_cache.errors import ConfigError, OutputExistsError
from audiomos_cache.evaluation.bootstrap import bootstrap_intervals
from audiomos_cache.evaluation.metrics import compute_metrics, points_of
from audiomos_cache.evaluation.predictions import Predictions, read_predictions, write_predictions
from tests.support.fusion import DEV, EVAL, LABELS, apply_fusion, clip_ids, fuse


def test_the_scores_of_the_fit_split_are_those_of_the_out_of_fold_predictions(tmp_path):
    fused = fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL, fit_split="dev", folds=4, cv_group="system", seed=3)
    written = read_predictions(tmp_path / "out" / "out-of-fold.dev.jsonl")
    scores = compute_metrics(written, read_labels(LABELS))
    assert fused.out_of_fold.scores == scores
    assert json.loads((tmp_path / "out" / "fusion.json").read_text())["out_of_fold"] == {
        "folds": 4,
        "group": "system",
        "seed": 3,
        "scores": scores.to_json(),
    }
    in_fold = fuse(DEV, tmp_path / "two", labels=LABELS, apply=DEV).predictions
    assert compute_metrics(in_fold, read_labels(LABELS)).utt_mi.mse < 0.8 * scores.utt_mi.mse, "what is never shown"


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
    with pytest.raises(
        ConfigError, match="greedy is fitted by cross-validation, which 0 folds leave out; give --folds 2 or more"
    ):
        fuse(DEV, tmp_path / "greedy", labels=LABELS, apply=EVAL, folds=0, method="greedy")


def test_the_scores_of_the_fit_split_come_with_their_intervals(tmp_path):
    """Those that `evaluate` gives for the out-of-fold predictions with the same seed."""
    fused = fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL, seed=3, n_boot=300)
    points = points_of(read_predictions(tmp_path / "out" / "out-of-fold.jsonl"), read_labels(LABELS))
    expected = bootstrap_intervals(points, 300, 3)
    assert fused.out_of_fold.uncertainty == expected
    assert len(expected.intervals) == 16
    found = json.loads((tmp_path / "out" / "fusion.json").read_text())["out_of_fold"]["scores"]
    assert found["sys_mi"]["srcc_ci"] == list(expected.intervals["sys_mi", "srcc"])
    assert found["intervals"]["n_boot"] == 300


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
    prompts = "".join(f"P{number:03d}\ttext {number % 10}\n" for number in range(20))
    (tmp_path / "data" / "prompt_info.txt").write_text("id\ttext\n" + prompts)
    assert pairs_apart(tmp_path / "prompts") == 0
