import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from audiomos_cache.cache.reader import CacheReader, open_cache
from audiomos_cache.errors import ArgumentError, CacheError, ConfigError, DataError, OutputExistsError
from audiomos_cache.evaluation.metrics import compute_metrics
from audiomos_cache.evaluation.predictions import read_predictions
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.presets import load_head_config
from audiomos_cache.runs import BESTS, Run, checkpoint_path, read_run_clips
from audiomos_cache.training import train_heads as train_heads_module
from audiomos_cache.training.batches import epoch_order
from audiomos_cache.training.data import ClipSet, Lists
from audiomos_cache.training.loop import Best, predictions_of, run_head, train
from audiomos_cache.training.predict import predict
from audiomos_cache.training.train_heads import train_heads
from tests.support.training import batches_of, extract, job, make_clips


@pytest.fixture(scope="module")
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    [result] = train_heads([job("pooling-dist", 1, "training.max_epochs=12")], cache, out)
    return result.folder


def test_gather_masks_and_converts(cache: Path) -> None:
    reader = CacheReader(cache, "train")
    batches = batches_of(cache, "train")
    features = batches.gather([3, 0, 7])
    for row, place in enumerate((3, 0, 7)):
        index = reader.ids.index(batches.clips.ids[place])
        frames, tokens = reader.read_frames(index), reader.read_prompt(index).tokens
        assert features.frame_mask[row].sum() == len(frames) == reader.valid_frames[index]
        np.testing.assert_array_equal(features.frames[row, : len(frames)].numpy(), frames.astype(np.float32))
        assert not features.frames[row, len(frames) :].any()
        np.testing.assert_array_equal(features.tokens[row][features.token_mask[row]].numpy(), tokens)
    assert features.frames.dtype == torch.float32
    kept = features.frames.clone()
    batches.gather([10, 11, 12])
    assert torch.equal(features.frames, kept), "a later batch must not write into an earlier one"


def test_epoch_order_depends_on_seed_and_epoch_alone() -> None:
    torch.manual_seed(0)
    first = epoch_order(50, seed=1, epoch=2)
    torch.manual_seed(5)
    assert epoch_order(50, seed=1, epoch=2) == first
    assert sorted(first) == list(range(50))
    assert epoch_order(50, seed=1, epoch=3) != first != epoch_order(50, seed=2, epoch=2)


def test_best_keeps_the_first_of_equals_and_prefers_numbers_to_nan() -> None:
    weights = [{"weight": torch.tensor(float(epoch))} for epoch in range(5)]
    best = Best()
    assert best.offer(math.nan, 1, weights[1]), "the first epoch is kept whatever its value"
    assert best.offer(0.5, 2, weights[2])
    assert not best.offer(0.5, 3, weights[3])
    assert not best.offer(math.nan, 4, weights[4])
    assert (best.epoch, best.weights) == (2, weights[2])


def test_the_state_after_an_epoch_does_not_change_with_the_next(cache: Path) -> None:
    states = []
    train(
        job("transformer-dist").config,
        1,
        batches_of(cache, "train"),
        batches_of(cache, "dev"),
        on_epoch=lambda state, _last: states.append((state, copy.deepcopy(state))),
    )
    assert [state.epoch for state, _ in states] == [1, 2, 3]
    for state, copied in states:
        assert state.history == copied.history
        for name in ("optimizer", "rng_states"):
            own, other = getattr(state, name), getattr(copied, name)
            assert own.keys() == other.keys() != set() and all(torch.equal(own[key], other[key]) for key in own)
        for epoch, weights in state.weights.items():
            assert all(torch.equal(weights[key], copied.weights[epoch][key]) for key in weights)
    first, last = states[0][0], states[-1][0]
    assert any(not torch.equal(first.weights[1][key], last.weights[3][key]) for key in first.weights[1])
    assert not torch.equal(first.rng_states["cpu"], last.rng_states["cpu"]), "dropout draws from it"


def test_same_seed_gives_the_same_bytes(cache: Path, tmp_path: Path) -> None:
    for out in ("a", "b"):
        train_heads([job("transformer-dist", 1), job("transformer-dist", 2)], cache, tmp_path / out)
    for best in BESTS:
        a, b = (checkpoint_path(tmp_path / out / "transformer-dist-seed1", best).read_bytes() for out in ("a", "b"))
        assert a == b
        assert a != checkpoint_path(tmp_path / "a" / "transformer-dist-seed2", best).read_bytes()
    histories = [(tmp_path / out / "transformer-dist-seed1" / "history.jsonl").read_text() for out in ("a", "b")]
    assert histories[0] == histories[1]


def test_checkpoints_are_those_of_the_best_epochs(cache: Path, run: Path) -> None:
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    measures = {
        "loss": [-line["dev_loss"] for line in history],
        "srcc": [line["dev"]["sys_mi"]["srcc"] for line in history],
        "combined": [(line["dev"]["utt_mi"]["srcc"] + line["dev"]["sys_ta"]["srcc"]) / 2 for line in history],
    }
    metrics = json.loads((run / "metrics.json").read_text())
    dev = batches_of(cache, "dev")
    for best, values in measures.items():
        assert metrics[best]["epoch"] == int(np.argmax(values)) + 1
        scores = compute_metrics(predictions_of(run_head(Run(run).load_head(best), dev), dev), dev.clips.labels)
        assert scores.to_json() == history[metrics[best]["epoch"] - 1]["dev"] == metrics[best]["dev"]
    assert "eval" not in metrics["loss"], "there are no labels to compare with"


def test_dev_loss_is_half_the_sum_of_both_kls(cache: Path) -> None:
    from scipy.special import rel_entr

    from audiomos_cache.targets import gaussian_distribution

    train_set, dev = batches_of(cache, "train"), batches_of(cache, "dev")
    config = load_head_config("pooling-dist", ("training.max_epochs=1",))[1]
    trained = train(config, 1, train_set, dev)
    predictions = predictions_of(run_head(trained.head, dev), dev)
    order = np.argsort(dev.clips.ids)
    kl = [
        rel_entr(gaussian_distribution(labels[order], 20, 0.25), dist).sum(axis=1).mean()
        for labels, dist in ((dev.clips.mi, predictions.mi_dist), (dev.clips.ta, predictions.ta_dist))
    ]
    assert trained.history[0]["dev_loss"] == pytest.approx(sum(kl) / 2, rel=1e-5)


def test_stops_when_nothing_has_improved_for_the_patience(cache: Path) -> None:
    train_set, dev = batches_of(cache, "train"), batches_of(cache, "dev")
    config = load_head_config("pooling-dist", ("training.lr=1e-30", "training.patience=4"))[1]
    trained = train(config, 1, train_set, dev)
    assert [line["epoch"] for line in trained.history] == [1, 2, 3, 4, 5]
    assert [bool(line["best"]) for line in trained.history] == [True, False, False, False, False]


def test_predictions_of_every_best_on_every_split(cache: Path, run: Path) -> None:
    files = sorted(path.name for path in (run / "predictions").iterdir())
    assert files == sorted(f"{split}.{best}.jsonl" for split in ("train", "dev", "eval") for best in BESTS)
    for split in ("train", "dev", "eval"):
        predictions = read_predictions(run / "predictions" / f"{split}.loss.jsonl")
        assert predictions.ids == tuple(sorted(CacheReader(cache, split).ids))
        assert predictions.mi_dist is not None
        np.testing.assert_allclose(predictions.mi_dist.sum(axis=1), 1, atol=1e-6)


def test_a_prediction_does_not_depend_on_the_batch(cache: Path, run: Path) -> None:
    head = Run(run).load_head("loss").eval()
    batches = batches_of(cache, "dev")
    together = run_head(head, batches)[0].mi
    for index in range(len(together)):
        one = batches.gather([index])
        with torch.inference_mode():
            alone = head(one.frames, one.frame_mask, one.tokens, one.token_mask).mi
        assert alone.item() == pytest.approx(together[index].item(), abs=1e-5)


def test_config_says_how_the_run_was_made(cache: Path, run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    reader = CacheReader(cache, "train")
    assert config["seed"] == 1
    assert config["fingerprint"] == reader.fingerprint.digest
    assert config["fingerprint_fields"] == reader.fingerprint.fields
    assert config["data"]["train"] == {
        "from": "train",
        "clips": 48,
        "labels_xxh3_128": ClipSet.of_split(cache, "train").labels_hash(),
    }
    assert config["encoders"]["audio_encoder"]["notice"].startswith("untrained: shows that the pipeline works")
    assert {"audiomos-cache", "torch", "numpy"} <= config["versions"].keys()
    assert HeadConfig.model_validate(config["head"]).output.kind == "distribution"


def test_lists_replace_the_splits_and_their_labels(cache: Path, tmp_path: Path) -> None:
    reader = CacheReader(cache, "train")
    lines = [f"{clip_id}.wav,2.0,3.0\n" for clip_id in reader.ids[:10]]
    (tmp_path / "train.txt").write_text("".join(lines))
    dev_lines = [f"{clip_id}.wav,{i % 5 + 1},2\n" for i, clip_id in enumerate(reader.ids[10:16])]
    (tmp_path / "dev.txt").write_text("".join(dev_lines))
    lists = Lists(train=tmp_path / "train.txt", dev=tmp_path / "dev.txt")
    [result] = train_heads([job()], cache, tmp_path / "runs", lists=lists)
    config = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert config["data"]["train"]["clips"] == 10
    assert config["data"]["dev"]["clips"] == 6
    clips = ClipSet.of_list(open_cache(cache), tmp_path / "train.txt")
    assert set(clips.mi) == {2.0}
    assert clips.ids == tuple(reader.ids[:10])


def test_refuses_unusable_lists(cache: Path, tmp_path: Path) -> None:
    reader = CacheReader(cache, "train")
    (tmp_path / "unknown.txt").write_text("nowhere.wav,2,3\n")
    with pytest.raises(DataError, match=r"unknown\.txt: .* has no features of nowhere; extract them first"):
        ClipSet.of_list(open_cache(cache), tmp_path / "unknown.txt")
    (tmp_path / "dev.txt").write_text(f"{reader.ids[0]}.wav,2,3\n")
    with pytest.raises(DataError, match=f"clips both in train and .*: {reader.ids[0]}; remove them"):
        train_heads([job()], cache, tmp_path / "runs", lists=Lists(dev=tmp_path / "dev.txt"))
    assert not (tmp_path / "runs").exists()


def test_refuses_a_cache_without_labels_or_splits(tmp_path: Path) -> None:
    clips = make_clips(tmp_path, "train", 3, 0, labelled=False)
    extract(clips, tmp_path / "cache")
    with pytest.raises(CacheError, match="split 'dev' not found; splits: train; run extract with --split dev first"):
        train_heads([job()], tmp_path / "cache", tmp_path / "runs")
    extract(make_clips(tmp_path, "dev", 3, 1), tmp_path / "cache")
    with pytest.raises(DataError, match="train: clips without labels: S000_train000, S001_train001, S002_train002;"):
        train_heads([job()], tmp_path / "cache", tmp_path / "runs")
    with pytest.raises(CacheError, match="no finished split in it; run extract first"):
        train_heads([job()], tmp_path / "empty", tmp_path / "runs")


def test_existing_runs_are_refused_before_anything_is_trained(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [result] = train_heads([job()], cache, tmp_path)
    before = checkpoint_path(result.folder, "loss").read_bytes()

    def refuse(*_arguments: object) -> None:
        raise AssertionError("nothing may be trained")

    with monkeypatch.context() as patch:
        patch.setattr(train_heads_module, "train", refuse)
        with pytest.raises(OutputExistsError, match=r"pooling-dist-seed1: exists already with a different "):
            train_heads([job(seed=2), job("pooling-dist", 1, "dropout=0.1")], cache, tmp_path)
    assert not (tmp_path / "pooling-dist-seed2").exists()
    (result.folder / "mine.txt").write_text("a note")
    (result.folder / "tensorboard" / "deep").mkdir(parents=True)
    (result.folder / "tensorboard" / "deep" / "events").write_text("")
    with pytest.raises(OutputExistsError, match=r"pooling-dist-seed1: holds mine\.txt, which is not part of a "):
        train_heads([job("pooling-dist", 1, "dropout=0.1")], cache, tmp_path, overwrite=True)
    for overwrite in (False, True):
        [found] = train_heads([job()], cache, tmp_path, overwrite=overwrite)
        assert found.seconds is None, "it is equal"
    assert (result.folder / "mine.txt").read_text() == "a note", "and kept as it is"
    (result.folder / "mine.txt").unlink()
    train_heads([job("pooling-dist", 1, "dropout=0.1")], cache, tmp_path, overwrite=True)
    assert checkpoint_path(result.folder, "loss").read_bytes() != before
    assert not (result.folder / "tensorboard").exists()


def test_the_same_job_twice_is_refused(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="would have the same name: pooling-dist-seed1;"):
        train_heads([job(), job()], cache, tmp_path)


def test_a_diverging_training_names_clips(cache: Path) -> None:
    train_set, dev = batches_of(cache, "train"), batches_of(cache, "dev")
    config = load_head_config("transformer-scalar", ("training.lr=1e30",))[1]
    with pytest.raises(DataError, match=r"S00\d_(train|dev)\d+"):
        train(config, 1, train_set, dev)


def test_predict_gives_the_runs_own_predictions(cache: Path, run: Path, tmp_path: Path) -> None:
    made = predict(run, cache, "eval", "loss", tmp_path / "new" / "p.jsonl", overwrite=False, device="cpu")
    assert made.path.read_bytes() == (run / "predictions" / "eval.loss.jsonl").read_bytes()
    with pytest.raises(OutputExistsError, match="exists already; give another --out"):
        predict(run, cache, "eval", "loss", None, overwrite=False, device="cpu")


def test_predict_writes_lines_of_json_and_nothing_else(cache: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"^--out .*x\.csv: the suffix is '\.csv', expected \.jsonl$"):
        predict(run, cache, out=tmp_path / "x.csv", device="cpu")
    assert not list(tmp_path.iterdir())


def test_predict_refuses_a_cache_of_another_fingerprint(run: Path, tmp_path: Path) -> None:
    clips = make_clips(tmp_path, "eval", 2, 0)
    extract(clips, tmp_path / "cache", pad_to_s=None)
    with pytest.raises(CacheError, match=r"first difference: max_seconds is 30\.0, expected 1\.5; predict with"):
        predict(run, tmp_path / "cache", "eval", "loss", None, overwrite=False, device="cpu")


def test_overwrite_replaces_runs_and_nothing_else(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pooling-dist-seed1"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    message = r"pooling-dist-seed1: holds notes\.txt, which is not part of a run and would be lost; leave these "
    with pytest.raises(OutputExistsError, match=message):
        train_heads([job()], cache, tmp_path, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"


def test_an_interrupted_overwrite_keeps_the_old_run(cache: Path, tmp_path: Path) -> None:
    [result] = train_heads([job()], cache, tmp_path)
    before = {path.name: path.read_bytes() for path in result.folder.rglob("*") if path.is_file()}

    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_heads([job("pooling-dist", 1, "dropout=0.1")], cache, tmp_path, overwrite=True, on_epoch=interrupt)
    assert {path.name: path.read_bytes() for path in result.folder.rglob("*") if path.is_file()} == before
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"pooling-dist-seed1", ".pooling-dist-seed1.training"}, "to go on from"


def test_a_head_that_cannot_be_built_is_found_before_any_is_trained(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3 does not divide 64, the width of the frames"):
        train_heads([job(), job("transformer-dist", 1, "temporal.heads=3")], cache, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_list_keeps_the_systems_of_the_cache(tmp_path: Path) -> None:
    clips = [replace(clip, system=f"mine{i % 2}") for i, clip in enumerate(make_clips(tmp_path, "dev", 6, 0))]
    extract(clips, tmp_path / "cache")
    (tmp_path / "dev.txt").write_text("".join(f"{clip.id}.wav,2,3\n" for clip in clips))
    assert set(ClipSet.of_list(open_cache(tmp_path / "cache"), tmp_path / "dev.txt").systems) == {"mine0", "mine1"}


def test_a_run_records_which_clips_it_has_seen(cache: Path, run: Path) -> None:
    clips = read_run_clips(run)
    assert clips is not None
    assert clips.train == set(CacheReader(cache, "train").ids)
    assert clips.dev == set(CacheReader(cache, "dev").ids)
    written = json.loads((run / "clips.json").read_text())
    assert [len(written["train"]), len(written["dev"])] == [48, 16]


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize("what", ["frames", "tokens"])
def test_features_that_are_not_finite_are_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, what: str
) -> None:
    """Not the learning rate is to blame, nor the rest of the batch."""
    name = {"frames": "read_frames", "tokens": "read_prompt"}[what]
    read, bad = getattr(CacheReader, name), CacheReader(cache, split).ids[5]

    def broken(self: CacheReader, index: int, *args: Any, **options: Any) -> Any:
        found = read(self, index, *args, **options)
        if self.ids[index] == bad:
            (found if what == "frames" else found.tokens)[0, 0] = np.nan
        return found

    monkeypatch.setattr(CacheReader, name, broken)
    monkeypatch.setattr(CacheReader, "prompt", lambda self, index: f"the prompt of {self.ids[index]}")
    with pytest.raises(CacheError) as caught:
        train_heads([job()], cache, tmp_path, preload="none")
    assert str(caught.value) == f"{cache}: NaN or Inf in the features of {bad}; extract again with --overwrite"
