"""Greedy selection, against values worked out by hand and trying every member; and what it does with noise."""

import itertools
import json

import numpy as np
import pytest

from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.fusion.align import fuse_predictions
from audiomos_cache.fusion.folds import Folds
from audiomos_cache.fusion.greedy import GreedyFusion, choose_steps, greedy_path, greedy_weights
from audiomos_cache.targets import gaussian_distribution
from tests.support.fusion import clip_ids, distribution, fit, good_and_random, labels_of, no_groups, scalar


def test_a_greedy_path_by_hand():
    """Errors +2, -1 and +3 of every clip: -1 alone, then +2 makes 1/2, then -1 makes 0, and again from there."""
    errors = np.array([[2.0, 2.0], [-1.0, -1.0], [3.0, 3.0]])
    assert greedy_path(errors, 4).tolist() == [[0, 1, 0], [1, 1, 0], [1, 2, 0], [1, 3, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_a_greedy_path_is_that_of_trying_every_member(seed):
    random = np.random.default_rng(seed)
    errors = random.normal(0, 1, (5, 40))
    taken, expected = [], []
    for _ in range(12):
        tries = [np.mean(np.mean(errors[[*taken, member]], axis=0) ** 2) for member in range(5)]
        taken.append(int(np.argmin(tries)))
        expected.append(np.bincount(taken, minlength=5).tolist())
    assert greedy_path(errors, 12).tolist() == expected


def test_of_equal_members_greedy_takes_the_first():
    errors = np.random.default_rng(0).normal(0, 1, 33)
    for order in itertools.permutations([errors * 2, errors, errors * -3, errors]):
        path = greedy_path(np.array(order), 1)
        assert path.argmax() == next(index for index, each in enumerate(order) if each is errors)


def test_the_number_of_steps_is_the_fewest_within_a_standard_error():
    """Compared with the held-out errors worked out one by one; the constant is the mean of the labels fitted on."""
    random = np.random.default_rng(3)
    truth = random.uniform(1, 5, 50)
    scores = truth + random.normal(0, 1, (6, 50)) * np.array([[0.5], [0.6], [0.7], [2], [2], [2]])
    fold = np.arange(50) % 5
    steps = 15
    held_out = np.empty((steps, 50))
    for clip in range(50):
        rest = fold != fold[clip]
        errors = np.vstack([scores - truth, np.mean(truth[rest]) - truth])
        path = greedy_path(errors[:, rest], steps)
        for step in range(steps):
            held_out[step, clip] = (path[step] @ errors[:, clip] / (step + 1)) ** 2
    best = held_out.mean(axis=1).argmin()
    allowed = [
        step
        for step in range(steps)
        if (difference := held_out[step] - held_out[best]).mean() <= difference.std(ddof=1) / np.sqrt(50)
    ]
    assert choose_steps(scores, truth, fold, steps) == allowed[0] + 1
    assert 0 < allowed[0] <= best, "a case in which the rule decides something"


def test_members_that_say_nothing_leave_the_mean_of_the_labels():
    """Wrong by more than the labels spread, whatever they are mixed with."""
    truth = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 3.0])
    scores = np.stack([truth + 9, truth + 12])
    assert greedy_weights(scores, truth, np.arange(6) % 3).tolist() == [0, 0, 1]


def test_the_constant_is_blended_as_a_member():
    """A quarter of (3, 4), nothing of the other, three quarters of 2; and likewise of the distributions."""
    members = [distribution(), distribution(mi=(1.0, 5.0))]
    content = {
        "weights": {"mi": [0.25, 0.0], "ta": [0.0, 1.0]},
        "constant": {"mi": {"score": 2.0, "weight": 0.75}, "ta": {"score": 3.0, "weight": 0.0}},
    }
    fusion = GreedyFusion.from_json(["x", "y"], content)
    fused = fuse_predictions(fusion, members)
    assert fused.mi.tolist() == [2.25, 2.5]
    assert np.allclose(fused.mi_dist, members[0].mi_dist / 4 + gaussian_distribution([2.0], 4, 0.35) * 3 / 4)
    assert np.allclose(fused.ta_dist, members[1].ta_dist)
    assert json.loads(json.dumps(fusion.to_json())) == content
    for members in ([distribution(), scalar()], [scalar(), distribution()]):
        assert fuse_predictions(fusion, members).mi_dist is None


@pytest.mark.parametrize(
    ("score", "weight", "message"),
    [
        (2.0, 0.5, "and a sum of 1"),
        (0.0, 0.75, "a constant of 0.0, expected 1 to 5"),
        (None, 0.75, "expected numbers"),
    ],
)
def test_a_damaged_constant_is_refused(score, weight, message):
    constant = {"score": score, "weight": weight}
    content = {"weights": {"mi": [0.25], "ta": [0.25]}, "constant": {"mi": constant, "ta": constant}}
    with pytest.raises(ValueError, match=message):
        GreedyFusion.from_json(["x"], content)


def test_the_number_of_steps_is_chosen_with_groups_kept_whole():
    """Members that know nothing but prompts by heart: clips of a prompt that is fitted on make them look good."""
    random = np.random.default_rng(0)
    ids = clip_ids(160)
    prompt = np.array([int(clip[-3:]) for clip in ids])
    truth = (3 + random.normal(0, 1, 20)[prompt] + random.normal(0, 0.1, 160)).clip(1, 5)
    scores = (3 + random.normal(0, 1, (40, 20)))[:, prompt] + random.normal(0, 0.1, (40, 160))
    labels = labels_of(ids, truth)
    members = [Predictions.build(ids, each, each) for each in scores]
    names = [str(number) for number in range(40)]
    by_prompt = Folds.by("prompt", labels)

    def taken(folds):
        return 1 - fit("greedy", names, members, labels, folds).weights["mi"][-1]

    grouped, ungrouped = taken(by_prompt), taken(no_groups(labels))
    order = np.argsort(ids)
    expected = greedy_weights(scores[:, order], truth[order], by_prompt.assign(np.array(ids)[order].tolist()))
    assert grouped == pytest.approx(1 - expected[-1])
    assert grouped <= 0.5 and ungrouped > 0.9


@pytest.mark.parametrize("around_the_mean", [False, True])
@pytest.mark.parametrize(("slope", "noise"), [(0.95, 0.2), (1, 0.5), (1.2, 0.5)])
def test_no_random_member_has_more_weight_than_a_good_one(slope, noise, around_the_mean):
    """50 studies each. Measured, the weight of the 40 random members together: 0.018 at most, on the mean of the 50."""
    together = []
    for seed in range(50):
        scores, truth, is_good = good_and_random(seed, slope=slope, noise=noise, random_around_the_mean=around_the_mean)
        weights = greedy_weights(scores, truth, np.arange(len(truth)) % 5)[:-1]
        assert weights[is_good].min() >= weights[~is_good].max(), seed
        together.append(weights[~is_good].sum())
    assert np.mean(together) < 0.03
