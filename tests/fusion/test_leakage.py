"""Clips that members were trained on, which is refused, or chose their checkpoints on, which is reported."""

import json
from pathlib import Path

import numpy as np
import pytest

from audiomos_cache.errors import DataError
from audiomos_cache.fusion.leakage import criterion, selection_excess
from audiomos_cache.runs import BESTS
from audiomos_cache.targets import MEASURES, VIEWS
from tests.support.fusion import fuse, make_run

UNSEEN = {"train": ["t1", "t2"], "dev": ["d1"]}


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a.wav,3,1\nb.wav,4,2\n")
    return path


def scores(value):
    return {level: dict.fromkeys(MEASURES, value) for level in VIEWS} | {"n_clips": 2, "n_systems": 1}


def history(values, best):
    return [
        {
            "epoch": epoch + 1,
            "dev_loss": 2 - 3 * value,
            "dev": scores(value),
            "best": ["loss"] if epoch == best else [],
        }
        for epoch, value in enumerate(values)
    ]


def other_clips(run, split):
    """Give a run predictions of other clips for a split, so that its two splits differ."""
    path = run / "predictions" / f"{split}.loss.jsonl"
    path.write_text(path.read_text().replace('"a"', '"y"').replace('"b"', '"z"'))
    return run


@pytest.mark.parametrize(
    ("trained_on", "split", "named"),
    [(["a"], "fit", "a"), (["z", "x", "y"], "apply", "y, z")],
)
@pytest.mark.parametrize("method", ["ridge", "weighted"])
def test_a_run_that_was_trained_on_the_clips_is_refused(tmp_path, labels, trained_on, split, named, method):
    honest = other_clips(make_run(tmp_path / "honest", clips=UNSEEN), "eval")
    leaky = other_clips(make_run(tmp_path / "leaky", clips={"train": trained_on, "dev": []}), "eval")
    fuse([honest], tmp_path / "fine", method=method, labels=labels)
    with pytest.raises(DataError) as error:
        fuse([honest, leaky], tmp_path / "out", method=method, labels=labels)
    assert str(error.value) == (
        f"trained on clips of the {split} split, which would make the fusion look better than it is: "
        f"{leaky} on {named}; leave these clips or these members out"
    )
    assert not (tmp_path / "out").exists()


def test_a_mean_refuses_what_was_trained_on_its_clips_too(tmp_path):
    run = make_run(tmp_path / "run", clips={"train": ["b"], "dev": []})
    with pytest.raises(DataError, match=r"trained on clips of the apply split, .*: \S+/run on b; leave"):
        fuse([run], tmp_path / "out", method="mean")
    files = [run / "predictions" / "eval.loss.jsonl"]
    with pytest.raises(DataError, match=r"trained on clips of the apply split"):
        fuse(files, tmp_path / "out", method="mean")  # a file that lies in a run is the run's


def test_a_file_of_a_run_is_known_however_it_is_reached(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", clips={"train": ["b"], "dev": []})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file.jsonl").symlink_to(run / "predictions" / "eval.loss.jsonl")
    (elsewhere / "folder").symlink_to(run / "predictions")
    monkeypatch.chdir(run / "predictions")
    reached = [
        Path("eval.loss.jsonl"),
        Path("..") / "predictions" / "eval.loss.jsonl",
        elsewhere / "file.jsonl",
        elsewhere / "folder" / "eval.loss.jsonl",
    ]
    for path in reached:
        with pytest.raises(
            DataError, match=r"trained on clips of the apply split, .*eval.* on b; leave|file.* on b; le"
        ):
            fuse([path], tmp_path / "out", method="mean")

    kept = elsewhere / "kept-on-another-disk"
    (run / "predictions" / "eval.loss.jsonl").rename(kept)
    (run / "predictions" / "eval.loss.jsonl").symlink_to(kept)
    with pytest.raises(DataError, match="trained on clips of the apply split"):
        fuse([Path("eval.loss.jsonl")], tmp_path / "out", method="mean")


def test_what_does_not_say_what_it_has_seen_is_named(tmp_path, caplog):
    known = make_run(tmp_path / "known", clips=UNSEEN)
    older = make_run(tmp_path / "older")
    fuse([known, older], tmp_path / "out", method="mean")
    (message,) = caplog.messages
    assert message.startswith("not checked, because only runs of this version record their clips")
    assert message.endswith(f"fused: {older}")


# Early stopping


def test_early_stopping_on_the_fit_clips_is_told_with_an_estimate(tmp_path, labels):
    """Chosen at 0.9 among epochs of 0.8 and, in another run, at 0.9 among epochs of 0.7: 0.15 on the mean."""
    runs = [
        make_run(tmp_path / name, clips={"train": ["t"], "dev": ["a", "b", "c"]}, history=history(values, 6), seed=seed)
        for seed, (name, values) in enumerate({"one": [0.8] * 6 + [0.9] + [0.8] * 6, "two": [0.7] * 6 + [0.9]}.items())
    ]
    fused = fuse([*runs, make_run(tmp_path / "other", clips=UNSEEN)], tmp_path / "out", labels=labels)
    found = json.loads((tmp_path / "out" / "fusion.json").read_text())["early_stopping"]["fit"]
    assert found["clips"] == {str(run): 2 for run in runs}
    assert found["estimated_of"] == 2
    assert found["members_lead_in_what_they_were_chosen_by"] == {"loss": pytest.approx(0.45)}
    assert found["members_lead"]["sys_mi"]["srcc"] == pytest.approx(0.15)
    assert found["members_lead"]["sys_mi"]["mse"] == pytest.approx(-0.15), "a lower error is what looks better"
    assert fused.early_stopping[0].split == "fit"


@pytest.mark.parametrize("seed", range(3))
def test_the_criterion_is_the_trainings(seed):
    from audiomos_cache.training.checkpoint import measures

    random = np.random.default_rng(seed)
    line = {"dev_loss": random.random(), "dev": {view: dict.fromkeys(MEASURES, random.random()) for view in VIEWS}}
    assert {best: criterion(line, best) for best in BESTS} == pytest.approx(measures(line))
    line["dev"]["sys_mi"]["srcc"] = line["dev"]["utt_mi"]["srcc"] = None
    assert [criterion(line, best) for best in ("srcc", "combined")] == [None, None]


def test_what_cannot_be_estimated_is_none(tmp_path, labels):
    run = make_run(tmp_path / "run", clips={"train": ["t"], "dev": ["a"]}, history=history([0.5] * 4, 3))
    (stopping, *_) = fuse([run], tmp_path / "out", labels=labels).early_stopping
    assert (stopping.clips, stopping.leads, stopping.estimated) == ({str(run): 1}, None, 0)


def test_members_that_chose_on_other_clips_need_no_word(tmp_path, labels):
    run = make_run(tmp_path / "run", clips=UNSEEN, history=history([0.5] * 9, 4))
    assert fuse([run], tmp_path / "out", labels=labels).early_stopping == ()


def test_a_damaged_history_is_refused(tmp_path, labels):
    run = make_run(tmp_path / "run", clips={"train": [], "dev": ["a"]}, history=[{"epoch": 1}])
    with pytest.raises(DataError, match=r"history\.jsonl: cannot be read as a history \(KeyError\('best'\)\); train"):
        fuse([run], tmp_path / "out", labels=labels)


def test_the_lead_is_over_the_median_of_five_epochs_on_either_side():
    values = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 0.6, 0.61, 0.62, 0.63, 0.64, 9.0]
    lead = selection_excess([scores(value) for value in values], 6)
    expected = 0.9 - np.median([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.61, 0.62, 0.63, 0.64])
    assert lead["utt_ta"]["ktau"] == pytest.approx(expected)
    assert selection_excess([scores(value) for value in values[:4]], 0) is None
    undefined = [scores(value) for value in values]
    undefined[7]["utt_mi"]["lcc"] = None
    assert selection_excess(undefined, 6)["utt_mi"] == pytest.approx(
        {"mse": -expected, "lcc": None, "srcc": expected, "ktau": expected}
    )


@pytest.mark.parametrize(
    ("shared", "least", "most"),
    [(0.0, 0.9, 1.15), (0.5, 0.8, 1.0), (0.9, 0.5, 0.7)],  # measured: 1.04, 0.91, 0.60
)
def test_the_lead_is_about_what_luck_gave_the_chosen_epoch(shared, least, most):
    """Simulated trainings of known worth; the more luck neighbours share, the less of it is found."""
    random = np.random.default_rng(1)
    worth = 0.9 - 0.3 * np.exp(-np.arange(60) / 5)
    luck, estimated = [], []
    for _ in range(400):
        lucky = random.normal(0, 0.01, 60)
        for epoch in range(1, 60):
            lucky[epoch] = shared * lucky[epoch - 1] + np.sqrt(1 - shared**2) * lucky[epoch]
        chosen = int((worth + lucky).argmax())
        luck.append(lucky[chosen])
        estimated.append(selection_excess([scores(value) for value in worth + lucky], chosen)["utt_mi"]["srcc"])
    assert np.mean(luck) > 0.01, "luck enough to matter"
    assert least < np.mean(estimated) / np.mean(luck) < most
