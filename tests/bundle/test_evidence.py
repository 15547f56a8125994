"""Intervals and the card's numbers come from labelled clips that the fusion was not fitted on."""

import json
import logging
import shutil

import numpy as np
import pytest

from audiomos_cache.bundle.load import load_bundle
from audiomos_cache.bundle.make import make_bundle
from audiomos_cache.dataset.labels import read_labels
from audiomos_cache.errors import DataError
from audiomos_cache.evaluation.predictions import predictions_bytes, read_predictions, write_predictions
from audiomos_cache.fusion.folds import assign_folds
from audiomos_cache.fusion.fuse import fuse
from audiomos_cache.hashes import write_recorded
from audiomos_cache.targets import bin_centres
from audiomos_cache.training.data import ClipSet
from tests.support.bundle import brute_force, refusal
from tests.support.commands import run as command

NO_LABELS = "no intervals and no table of scores: nothing was fitted on labels; give some with --labels"


@pytest.fixture
def said(caplog):
    """What is said on stderr."""
    caplog.set_level(logging.WARNING)
    return caplog


def card_of(out):
    return (out / "README.md").read_text()


def rows_of(card, title):
    """The rows of the table in a section, without its head."""
    section = card.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def deviation(dist):
    centres = bin_centres(dist.shape[1])
    mean = dist @ centres
    return np.sqrt(dist @ centres**2 - mean**2)


def expected_intervals(made, fused, spread_of, seed=0):
    """Brute force from files; ids contain the prompt after the system, but S001 has a prompt for each clip."""
    labels = read_labels(made.labels)
    rows = [labels.ids.index(clip) for clip in fused.ids]
    prompts = [clip if clip.startswith("S001_") else clip.partition("_")[2] for clip in fused.ids]
    fold = assign_folds(prompts, 5, seed)
    return {
        target: brute_force(getattr(fused, target), spread_of[target], getattr(labels, target)[rows], fold)
        for target in ("mi", "ta")
    }


def found_intervals(out):
    return {
        target: (each.factor, each.coverage, each.mean_width)
        for target, each in load_bundle(str(out)).calibrations.items()
    }


def test_intervals_of_a_ridge_are_out_of_fold(made, ridge_bundle):
    fused = read_predictions(made.fused("ridge") / "out-of-fold.dev.jsonl")
    with_dist = read_predictions(made.runs[0] / "predictions" / "dev.loss.jsonl")
    spread = {"mi": deviation(with_dist.mi_dist), "ta": deviation(with_dist.ta_dist)}
    found, expected = found_intervals(ridge_bundle), expected_intervals(made, fused, spread)
    assert found["mi"] == pytest.approx(expected["mi"])
    assert found["ta"] == pytest.approx(expected["ta"])


def test_intervals_of_a_weighted_mean_are_of_its_distributions(made, tmp_path):
    fuse(made.runs[:1], out=tmp_path / "fused", method="greedy", labels=made.labels, n_boot=0, seed=3)
    make_bundle(made.runs[:1], tmp_path / "model", tmp_path / "fused", check=False)
    fused = read_predictions(tmp_path / "fused" / "out-of-fold.dev.jsonl")
    spread = {"mi": deviation(fused.mi_dist), "ta": deviation(fused.ta_dist)}
    found, expected = found_intervals(tmp_path / "model"), expected_intervals(made, fused, spread, seed=3)
    assert found["mi"] == pytest.approx(expected["mi"])
    assert found["ta"] == pytest.approx(expected["ta"])


def test_intervals_of_one_run_are_of_its_own_predictions(made, tmp_path):
    make_bundle(made.runs[:1], tmp_path / "model", labels=made.labels, n_boot=0, check=False)
    fused = read_predictions(made.runs[0] / "predictions" / "dev.loss.jsonl")
    spread = {"mi": deviation(fused.mi_dist), "ta": deviation(fused.ta_dist)}
    found, expected = found_intervals(tmp_path / "model"), expected_intervals(made, fused, spread)
    assert found["mi"] == pytest.approx(expected["mi"])
    assert found["ta"] == pytest.approx(expected["ta"])


def test_the_card_tells_the_out_of_fold_scores_with_their_intervals(made, tmp_path):
    fuse(made.runs, out=tmp_path / "fused", method="ridge", labels=made.labels, n_boot=200)
    make_bundle(made.runs, tmp_path / "model", tmp_path / "fused", check=False)
    scores = json.loads((tmp_path / "fused" / "fusion.json").read_text())["out_of_fold"]["scores"]
    rows = rows_of(card_of(tmp_path / "model"), "Evaluation")
    assert [row[0] for row in rows] == ["clips, MI", "clips, TA", "systems, MI", "systems, TA"]
    for row, view in zip(rows, ("utt_mi", "utt_ta", "sys_mi", "sys_ta"), strict=True):
        for cell, measure in zip(row[1:], ("mse", "lcc", "srcc", "ktau"), strict=True):
            bounds = scores[view][f"{measure}_ci"]
            expected = f" ({bounds[0]:.3f}, {bounds[1]:.3f})" if bounds else ""
            assert cell == f"{scores[view][measure]:.4f}{expected}"
    card = " ".join(card_of(tmp_path / "model").split())
    assert "Out-of-fold, 5 folds by prompt: each clip by a fusion that was fitted without it. 16 clips" in card
    assert "2 of the 2 members chose their checkpoints on these clips, so these numbers may be optimistic" in card
    assert "95 % intervals (BCa, expanded for few systems; 200 resamples" in card


def test_the_card_tells_the_intervals(ridge_bundle):
    calibrations = load_bundle(str(ridge_bundle)).calibrations
    assert rows_of(card_of(ridge_bundle), "Intervals") == [
        [
            name,
            f"{each.factor:.4f}",
            "16",
            f"{each.coverage:.3f} ({each.coverage_ci[0]:.3f}, {each.coverage_ci[1]:.3f})",
            f"{each.mean_width:.3f}",
        ]
        for name, each in (("MI", calibrations["mi"]), ("TA", calibrations["ta"]))
    ]


@pytest.mark.parametrize(
    ("group", "resampled", "expected"),
    [
        (
            "prompt",
            "prompts",
            "Held out were clips of new prompts, by systems that other folds had; for a new system the coverage varies",
        ),
        (
            "system",
            "systems",
            "Held out were clips of new systems, mostly of prompts that other folds had; for a new prompt the co",
        ),
        (
            "none",
            "clips",
            "Held out were clips whose prompts and systems other folds had; for a new prompt or system the",
        ),
    ],
)
def test_the_card_says_what_the_coverage_is_of(made, tmp_path, group, resampled, expected):
    fuse(made.runs, out=tmp_path / "fused", method="ridge", labels=made.labels, n_boot=0, cv_group=group)
    make_bundle(made.runs, tmp_path / "model", tmp_path / "fused", check=False)
    card = card_of(tmp_path / "model")
    assert expected in card
    assert f"95 % intervals of the coverage (percentiles; 2000 resamples of {resampled})." in card
    assert "On fewer than 50 clips the coverage tends to be above 80 %" in card


def test_the_card_of_one_run_tells_what_evaluate_tells(made, tmp_path):
    make_bundle(made.runs[:1], tmp_path / "model", labels=made.labels, n_boot=100, check=False)
    file = made.runs[0] / "predictions" / "dev.loss.jsonl"
    scores = json.loads(command("evaluate", file, "--labels", made.labels, "--n-boot", 100, "--json"))
    rows = rows_of(card_of(tmp_path / "model"), "Evaluation")
    expected = scores["utt_mi"]
    assert rows[0][1] == f"{expected['mse']:.4f} ({expected['mse_ci'][0]:.3f}, {expected['mse_ci'][1]:.3f})"
    assert rows[3][3].split(" ")[0] == f"{scores['sys_ta']['srcc']:.4f}"
    assert "1 of the 1 members chose their checkpoints on these clips" in card_of(tmp_path / "model")


def test_the_card_warns_of_untrained_encoders(ridge_bundle):
    assert "untrained: shows that the pipeline works, nothing more" in card_of(ridge_bundle)


@pytest.mark.parametrize("fusion", ["mean", None])
def test_without_labels_there_are_no_intervals(made, tmp_path, said, fusion):
    runs = made.runs if fusion else made.runs[:1]
    make_bundle(runs, tmp_path / "model", made.fused(fusion) if fusion else None, check=False)
    assert said.messages == [NO_LABELS]
    assert load_bundle(str(tmp_path / "model")).calibrations == {}
    assert "None: this bundle was not calibrated" in card_of(tmp_path / "model")
    assert "None was recorded when this bundle was made." in card_of(tmp_path / "model")


def test_without_folds_there_are_no_intervals(made, tmp_path, said):
    fuse(made.runs, out=tmp_path / "fused", method="ridge", labels=made.labels, folds=0)
    said.clear()
    make_bundle(made.runs, tmp_path / "model", tmp_path / "fused", check=False)
    assert said.messages == [
        f"no intervals: {tmp_path / 'fused'} was made without folds; fuse again with --folds 5 to have some"
    ]
    assert load_bundle(str(tmp_path / "model")).calibrations == {}


@pytest.fixture
def moved(made, tmp_path):
    """A fusion whose labels lie elsewhere now."""
    labels = shutil.copy(made.labels, tmp_path / "list.txt")
    fuse(made.runs, out=tmp_path / "fused", method="ridge", labels=labels, n_boot=0)
    return labels.rename(tmp_path / "moved.txt")


def test_labels_that_moved_must_be_given(made, moved, tmp_path):
    assert refusal(made.runs, tmp_path / "fused", tmp_path / "model") == (
        f"{tmp_path / 'list.txt'}: does not exist, expected the labels of {tmp_path / 'fused'}; give the list that the "
        "fusion was fitted on with --labels, or fuse again"
    )
    make_bundle(made.runs, tmp_path / "model", tmp_path / "fused", labels=moved, check=False)
    assert load_bundle(str(tmp_path / "model")).calibrations.keys() == {"mi", "ta"}


def test_labels_that_changed_are_refused(made, moved, tmp_path):
    moved.write_text(moved.read_text().replace(".wav,", ".wav, "))
    found = refusal(made.runs, tmp_path / "fused", tmp_path / "model", labels=moved)
    assert found.startswith(f"{moved}: hash ")
    assert found.endswith(
        f" as of {tmp_path / 'fused'}; give the list that the fusion was fitted on with --labels, or fuse again"
    )


@pytest.mark.parametrize("change", ["other", "none"])
def test_predictions_that_changed_since_the_fusion_are_refused(made, tmp_path, change):
    runs = [shutil.copytree(run, tmp_path / run.name) for run in made.runs]
    file = runs[1] / "predictions" / "dev.loss.jsonl"
    predictions = read_predictions(file)
    file.unlink()
    if change == "other":
        write_predictions(file, predictions.take(predictions.ids[1:]))
    found = refusal(runs, made.fused("ridge"), tmp_path / "model")
    assert found.startswith(f"{file.with_name('*.loss.jsonl')}: none has the hash ")
    assert found.endswith(" of dev.loss.jsonl that the fusion was fitted on, so it was changed since; fuse again")


def test_predictions_that_were_fused_under_another_name_are_found(made, ridge_bundle, tmp_path):
    links = {}
    for split in ("dev", "eval"):
        links[split] = [tmp_path / f"{split}-{number}.jsonl" for number in range(2)]
        for link, run in zip(links[split], made.runs, strict=True):
            link.symlink_to(run / "predictions" / f"{split}.loss.jsonl")
    fuse(links["dev"], out=tmp_path / "fused", method="ridge", labels=made.labels, apply=links["eval"], n_boot=0)
    make_bundle(made.runs, tmp_path / "model", tmp_path / "fused", check=False)
    assert found_intervals(tmp_path / "model") == found_intervals(ridge_bundle)


def test_out_of_fold_predictions_of_other_clips_are_refused(made, tmp_path):
    fused = shutil.copytree(made.fused("ridge"), tmp_path / "fused")
    file = fused / "out-of-fold.dev.jsonl"
    predictions = read_predictions(file)
    write_predictions(file, predictions.take(predictions.ids[1:]))
    assert refusal(made.runs, fused, tmp_path / "model") == (
        f"{file}: is not of the clips that the fusion was fitted on; fuse again"
    )


def test_a_record_that_lacks_something_is_refused(made, tmp_path):
    fused = shutil.copytree(made.fused("ridge"), tmp_path / "fused")
    expected = json.loads((fused / "fusion.json").read_text())
    del expected["out_of_fold"]["seed"]
    (fused / "fusion.json").write_text(json.dumps(expected))
    assert refusal(made.runs, fused, tmp_path / "model", DataError) == (
        f"{fused / 'fusion.json'}: not the record of a fusion: out_of_fold.seed: missing; fuse again"
    )


def test_another_split_than_the_fusion_was_fitted_on_is_refused(made, tmp_path):
    assert refusal(made.runs, made.fused("ridge"), tmp_path / "model", fit_split="eval") == (
        f"--fit-split eval: {made.fused('ridge')} was fitted on dev; leave it out"
    )
    make_bundle(made.runs, tmp_path / "model", made.fused("ridge"), fit_split="dev", check=False)


def list_of(made, split, path):
    clips = ClipSet.of_split(made.cache, split)
    rows = zip(clips.ids, clips.mi.tolist(), clips.ta.tolist(), strict=True)
    path.write_text("".join(f"{clip},{mi},{ta}\n" for clip, mi, ta in rows))
    return path


def test_clips_that_a_member_was_trained_on_are_refused(made, tmp_path):
    labels = list_of(made, "train", tmp_path / "train.txt")
    found = refusal(made.runs[:1], None, tmp_path / "model", DataError, labels=labels, fit_split="train")
    assert found.startswith("trained on clips of the train split, which would make the fusion look better than it is: ")


def test_clips_that_no_member_has_seen_are_best(made, tmp_path):
    labels = list_of(made, "eval", tmp_path / "eval.txt")
    make_bundle(
        made.runs, tmp_path / "model", made.fused("mean"), labels=labels, fit_split="eval", n_boot=0, check=False
    )
    assert load_bundle(str(tmp_path / "model")).calibrations["mi"].clips == 8
    assert "chose their checkpoints" not in card_of(tmp_path / "model")


def test_labels_of_other_clips_are_refused(made, tmp_path):
    labels = list_of(made, "eval", tmp_path / "eval.txt")
    found = refusal(made.runs[:1], None, tmp_path / "model", DataError, labels=labels)
    assert "missing clips of the labels: S000_eval000" in found
    with pytest.raises(DataError, match=r"test\.loss\.jsonl: file not found, expected predictions of split 'test'"):
        make_bundle(made.runs[:1], tmp_path / "model", labels=labels, fit_split="test", check=False)


def manifest_of(made, path, prompt_of):
    """The labels as a manifest, with a prompt for each clip."""
    labels = read_labels(made.labels)
    rows = [
        {"path": f"{clip}.wav", "id": clip, "split": "dev", "prompt": prompt_of(row), "mi": mi, "ta": ta}
        for row, (clip, mi, ta) in enumerate(zip(labels.ids, labels.mi.tolist(), labels.ta.tolist(), strict=True))
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.parametrize("fusion", ["mean", "ridge"])
def test_a_manifests_prompts_make_the_folds(made, tmp_path, fusion):
    labels = manifest_of(made, tmp_path / "all.jsonl", lambda row: f"prompt {row % 3}")
    fuse(made.runs, out=tmp_path / "fused", method=fusion, labels=labels, n_boot=0)
    found = make_bundle(made.runs, tmp_path / "model", tmp_path / "fused", labels=labels, n_boot=0, check=False)
    intervals = found.manifest.intervals
    assert (intervals.folds, intervals.group, intervals.split) == (3, "prompt", "dev")
    assert intervals.labels.name == "all.jsonl"


def test_clips_of_one_prompt_calibrate_nothing(made, tmp_path, said):
    labels = manifest_of(made, tmp_path / "all.jsonl", lambda _: "the prompt")
    make_bundle(made.runs[:1], tmp_path / "model", labels=labels, n_boot=0, check=False)
    assert said.messages == ["no intervals: the labelled clips are all of one prompt, so none can be held out"]
    assert "| clips, MI |" in card_of(tmp_path / "model")


def test_few_clips_calibrate_nothing(made, tmp_path, said):
    run = shutil.copytree(made.runs[0], tmp_path / "run")
    file = run / "predictions" / "dev.loss.jsonl"
    few = read_predictions(file)
    few = few.take(few.ids[:4])
    write_recorded(run, "predictions/dev.loss.jsonl", predictions_bytes(few))
    lines = made.labels.read_text().splitlines(keepends=True)
    (tmp_path / "few.txt").write_text("".join(line for line in lines if line.partition(".wav")[0] in few.ids))
    make_bundle([run], tmp_path / "model", labels=tmp_path / "few.txt", n_boot=0, check=False)
    assert said.messages[-1] == "no intervals: 4 labelled clips are too few, or predicted too badly, for any"


def test_clips_that_not_all_members_have_are_left_out_as_in_the_fusion(made, tmp_path):
    runs = [shutil.copytree(run, tmp_path / run.name) for run in made.runs]
    file = runs[1] / "predictions" / "dev.loss.jsonl"
    predictions = read_predictions(file)
    others = predictions.take(predictions.ids[1:])
    write_recorded(runs[1], "predictions/dev.loss.jsonl", predictions_bytes(others))
    fuse(runs, out=tmp_path / "fused", method="ridge", labels=made.labels, n_boot=0, allow_missing=True)
    make_bundle(runs, tmp_path / "model", tmp_path / "fused", check=False)
    assert load_bundle(str(tmp_path / "model")).calibrations["ta"].clips == 15
