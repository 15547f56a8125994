"""The losses that a config names are those that a head is trained on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from scipy.special import rel_entr

from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cli import main
from audiomos_cache.errors import ConfigError, DataError
from audiomos_cache.evaluation.predictions import read_predictions
from audiomos_cache.heads.losses import objective_of
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.presets import load_head_config
from audiomos_cache.heads.ranking import ranking_of
from audiomos_cache.targets import rater_distribution
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import NO_LISTS, Lists, open_clips
from audiomos_cache.training.frame_sources import FramesOnDisk
from audiomos_cache.training.loop import train
from audiomos_cache.training.train_heads import train_heads
from audiomos_cache.training.trainer import (
    LabelledBatches,
    MixedLoss,
    StandardLoss,
    draw_mixup,
    epoch_generator,
)
from tests.support.training import RATERS, PretendLayers, batches_of, files_of, job, results_of, write_ratings


@pytest.fixture
def rater_lists(cache: Path, tmp_path: Path) -> list[Path]:
    """A list for each labelled split."""
    return [
        write_ratings(tmp_path / f"{split}_person_mos.txt", CacheReader(cache, split).ids, seed)
        for seed, split in enumerate(("train", "dev"))
    ]


def shares_of(path: Path, clip_id: str, column: int) -> list[float]:
    ranks = [line.split(",")[column] for line in path.read_text().splitlines() if line.startswith(f"{clip_id}.wav,")]
    return [ranks.count(str(rank)) / len(ranks) for rank in range(1, 6)]


def test_a_head_is_trained_on_ratings_and_judged_by_them(cache: Path, tmp_path: Path, rater_lists: list[Path]) -> None:
    [result] = train_heads([job("pooling-dist", 1, *RATERS)], cache, tmp_path / "runs", lists=Lists(raters=rater_lists))
    history = [json.loads(line) for line in (result.folder / "history.jsonl").read_text().splitlines()]
    epoch = json.loads((result.folder / "metrics.json").read_text())["loss"]["epoch"]
    predictions = read_predictions(result.folder / "predictions" / "dev.loss.jsonl")
    divergence = [
        rel_entr([shares_of(rater_lists[1], clip_id, column) for clip_id in predictions.ids], dist).sum(axis=1).mean()
        for column, dist in ((2, predictions.mi_dist), (3, predictions.ta_dist))
    ]
    assert history[epoch - 1]["dev_loss"] == pytest.approx(sum(divergence) / 2, rel=1e-5)
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_a_run_remembers_the_ratings_it_was_trained_on(cache: Path, tmp_path: Path, rater_lists: list[Path]) -> None:
    def hashes(lists: Lists) -> list[str]:
        clips = open_clips(cache, lists)
        return [clips.train.ratings_hash(), clips.dev.ratings_hash()]

    lists = Lists(raters=rater_lists)
    jobs = [job("pooling-dist", 1, *RATERS), job("transformer-dist", 1)]
    raters, plain = (
        yaml.safe_load((result.folder / "config.yaml").read_text())["data"]
        for result in train_heads(jobs, cache, tmp_path / "runs", lists=lists)
    )
    assert [raters[role]["ratings_xxh3_128"] for role in ("train", "dev")] == hashes(lists)
    assert set(plain["train"]) == set(plain["dev"]) == {"from", "clips", "labels_xxh3_128"}, "that head read none"

    joined = tmp_path / "joined.txt"
    lines = [line for path in rater_lists for line in path.read_text().splitlines()]
    joined.write_text("\n".join(reversed(lines)))
    assert hashes(Lists(raters=[joined])) == hashes(lists), "whatever the order"
    name, rater, mi, ta = lines[0].split(",")
    joined.write_text("\n".join([f"{name},{rater},{6 - int(mi) if mi != '3' else 4},{ta}", *lines[1:]]))
    changed = hashes(Lists(raters=[joined]))
    assert changed[0] != hashes(lists)[0] and changed[1] == hashes(lists)[1]


def test_ratings_that_are_missing_or_unread_are_found_before_anything_is_trained(
    cache: Path, tmp_path: Path, rater_lists: list[Path]
) -> None:
    raters, plain = job("pooling-dist", 1, *RATERS), job("transformer-dist", 1)
    out = tmp_path / "runs"
    with pytest.raises(ConfigError) as unread:
        train_heads([plain], cache, out, lists=Lists(raters=rater_lists))
    assert str(unread.value) == (
        f"--rater-list {rater_lists[0]}, {rater_lists[1]}: no head here is trained on single ratings; leave it out, or "
        "--set output.loss=raters --set output.bins=5"
    )
    with pytest.raises(ConfigError) as missing:
        train_heads([plain, raters], cache, out)
    assert str(missing.value) == (
        "pooling-dist-seed1: output.loss is 'raters', and no ratings are given; give --rater-list, such as a "
        "person_mos list of MusicEval"
    )
    with pytest.raises(DataError) as unrated:
        train_heads([plain, raters], cache, out, lists=Lists(raters=rater_lists[:1]))
    first = ", ".join(CacheReader(cache, "dev").ids[:5])
    assert str(unrated.value) == (
        f"{rater_lists[0]}: no ratings of {first}, ... (16 in all), expected one or more of every clip"
    )
    assert not out.exists()


def test_several_rater_lists_on_the_command_line(cache: Path, tmp_path: Path, rater_lists: list[Path]) -> None:
    command = ["train-head", "--cache", str(cache), "--head", "pooling-dist", "--out", str(tmp_path / "runs")]
    settings = [f"--set={each}" for each in (*RATERS, "training.max_epochs=1")]
    lists = [word for path in rater_lists for word in ("--rater-list", str(path))]
    result = CliRunner().invoke(main, [*command, *settings, *lists], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    data = yaml.safe_load((tmp_path / "runs" / "pooling-dist-seed1984" / "config.yaml").read_text())["data"]
    assert data["dev"]["ratings_xxh3_128"] == open_clips(cache, Lists(raters=rater_lists)).dev.ratings_hash()


@pytest.mark.parametrize(("name", "power"), [("l1", 1), ("mse", 2)])
def test_a_scalar_is_trained_with_the_loss_that_is_named(cache: Path, name: str, power: int) -> None:
    train_set, dev = batches_of(cache, "train"), batches_of(cache, "dev")
    config = job("transformer-scalar", 1, f"output.loss={name}", "training.max_epochs=1").config
    trained = train(config, 1, train_set, dev)
    trained.head.eval()
    features = dev.gather(range(16))
    with torch.inference_mode():
        output = trained.head(*features)
    missed = [
        np.mean(np.abs(score.numpy() - labels) ** power)
        for score, labels in ((output.mi, dev.clips.mi), (output.ta, dev.clips.ta))
    ]
    assert trained.history[0]["dev_loss"] == pytest.approx(sum(missed) / 2, rel=1e-5)


@pytest.mark.parametrize("kind", ["listwise", "pairwise", "adaptive_margin"])
def test_a_ranking_is_added_where_a_head_is_trained_and_nowhere_else(cache: Path, kind: str) -> None:
    settings = (f"ranking.kind={kind}", "ranking.weight_mi=0.5", "ranking.weight_ta=0.25")
    config = job("pooling-dist", 1, *settings).config
    targeted = LabelledBatches(batches_of(cache, "train"), objective_of(config))
    torch.manual_seed(0)
    head = build_head(config, 64, 2).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(3)  # so that scores differ visibly from clip to clip
    indices = [5, 0, 17, 3, 30, 41, 22, 12]
    ranking = ranking_of(config)
    features = targeted.features.gather(indices)
    objective, whole = StandardLoss(config).of(head, features, targeted, indices)
    output = head(*features)
    labels = (torch.tensor(scores[indices], dtype=torch.float32) for scores in (targeted.clips.mi, targeted.clips.ta))
    term = 0.5 * ranking.ranking.loss(output.mi, next(labels)) + 0.25 * ranking.ranking.loss(output.ta, next(labels))
    assert term.item() > 0.01
    assert objective.item() == pytest.approx(targeted.loss(output, indices).item())
    assert (whole - objective).item() == pytest.approx(term.item(), rel=1e-4)

    dev = batches_of(cache, "dev")
    with_ranking, without = (train(each, 1, targeted.features, dev) for each in (config, job("pooling-dist", 1).config))
    weights = [trained.head.state_dict()["mi.1.linear.weight"] for trained in (with_ranking, without)]
    assert not torch.equal(*weights), "the ranking took part"
    outputs = with_ranking.head.eval()(*dev.gather(range(16)))
    judged = LabelledBatches(dev, objective_of(config)).loss(outputs, range(16)).item() / 2
    assert with_ranking.history[-1]["dev_loss"] == pytest.approx(judged, rel=1e-5), "it depends on the batch"


@pytest.mark.parametrize("layers", [(9,), (6, 9)])
def test_mixed_clips_are_compared_with_both_targets(
    cache: Path, pretend_layers: PretendLayers, layers: tuple[int, ...]
) -> None:
    pretend_layers(*layers)
    config = job("pooling-dist", 1, *(["layers=weighted"] if len(layers) > 1 else [])).config
    targeted = LabelledBatches(batches_of(cache, "train"), objective_of(config))
    torch.manual_seed(0)
    head = build_head(config, 64, 2, layers=len(layers)).eval()
    indices = [5, 0, 17, 3]
    order, lam = draw_mixup(4, 0.4, epoch_generator(11, 2))
    assert 0.001 < lam < 0.999 and order.tolist() != [0, 1, 2, 3], "draws that show something"
    one, other = targeted.features.gather(indices), targeted.features.gather([indices[i] for i in order])
    mixed = MixedLoss(0.4, 11)
    mixed.begin(2)
    loss, whole = mixed.of(head, one, targeted, indices)
    assert loss is whole
    length = one.frames.shape[-2]
    frames, mask = lam * one.frames, one.frame_mask.clone()
    frames[..., : other.frames.shape[-2], :] += (1 - lam) * other.frames  # zero where a clip has ended
    mask[:, :length] |= other.frame_mask
    output = head(frames, mask, one.tokens, one.token_mask)
    expected = lam * targeted.loss(output, indices) + (1 - lam) * targeted.loss(output, [indices[i] for i in order])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_an_epoch_mixes_depends_on_seed_and_epoch_alone() -> None:
    torch.manual_seed(0)
    first = draw_mixup(32, 0.4, epoch_generator(1, 2))
    torch.manual_seed(5)
    again = draw_mixup(32, 0.4, epoch_generator(1, 2))
    assert torch.equal(first[0], again[0]) and first[1] == again[1]
    for seed, epoch in ((1, 3), (2, 2), (2**63 - 1, 2)):
        order, lam = draw_mixup(32, 0.4, epoch_generator(seed, epoch))
        assert not torch.equal(order, first[0]) and lam != first[1]


def test_mixup_takes_part_and_the_same_seed_gives_the_same_bytes(cache: Path, tmp_path: Path) -> None:
    plain, mixed, again = (
        train_heads([job("pooling-dist", 1, f"training.feature_mixup={alpha}")], cache, tmp_path / out)[0].folder
        for out, alpha in (("plain", 0.0), ("mixed", 0.4), ("again", 0.4))
    )
    assert results_of(mixed) == results_of(again)
    assert files_of(mixed, "*.safetensors") != files_of(plain, "*.safetensors")


def test_ratings_become_the_targets_of_the_right_clips(cache: Path, rater_lists: list[Path]) -> None:
    clips = open_clips(cache, Lists(raters=rater_lists)).dev
    assert clips.ratings is not None and clips.ratings.ids == clips.ids
    shares = rater_distribution(clips.ratings.ta)
    for row, clip_id in enumerate(clips.ids):
        assert shares[row].tolist() == pytest.approx(shares_of(rater_lists[1], clip_id, 3))


def test_ratings_stay_with_their_clips_whatever_order_a_list_has_them_in(
    cache: Path, tmp_path: Path, rater_lists: list[Path]
) -> None:
    ids = open_clips(cache, NO_LISTS).dev.ids
    shuffled = tmp_path / "dev.txt"
    shuffled.write_text("".join(f"{clip_id}.wav,3,3\n" for clip_id in sorted(ids, key=lambda clip_id: clip_id[::-1])))
    clips = open_clips(cache, Lists(dev=shuffled, raters=rater_lists)).dev
    config = load_head_config("pooling-dist", ("output.loss=raters", "output.bins=5"))[1]
    source = FramesOnDisk(torch.device("cpu"))
    for upstream in (False, True):
        targeted = LabelledBatches(FeatureBatches(clips, (0,), source, upstream=upstream), objective_of(config))
        assert targeted.clips.ids == tuple(sorted(ids)) != clips.ids
        expected = [shares_of(rater_lists[1], clip_id, 3) for clip_id in sorted(ids)]
        assert targeted._targets[1].numpy() == pytest.approx(np.array(expected), abs=1e-6)
