import itertools
import math

import pytest
import torch
from scipy import special, stats
from torch.nn import functional

from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.model import HeadOutput
from audiomos_cache.heads.outputs import TargetOutput
from audiomos_cache.heads.ranking import (
    RANKINGS,
    AdaptiveMarginRanking,
    ListwiseRanking,
    PairwiseRanking,
    ranking_of,
)

RANKED = sorted(set(RANKINGS) - {"none"})


def built(kind, **keys):
    return ranking_of(HeadConfig.model_validate({"ranking": {"kind": kind, **keys}}))


def cost(ranking, scores, labels):
    return ranking.loss(torch.tensor(scores), torch.tensor(labels)).item()


def random_batch(seed, clips=12):
    """Scores, and labels in steps of 0.2, as five listeners give them; some of them are equal."""
    generator = torch.Generator().manual_seed(seed)
    scores = 3 + torch.randn(clips, generator=generator, dtype=torch.float64)
    labels = 1 + torch.randint(21, (clips,), generator=generator) / 5
    assert len(labels.unique()) < clips
    return scores, labels.double()


def test_listwise_by_hand():
    # Softmax of the scores: 1/4 and 3/4; of the labels: 1/5 and 4/5.
    expected = 1 / 5 * math.log(4) + 4 / 5 * math.log(4 / 3)
    scores, labels = [2.0, 2 + math.log(3)], [1.0, 1 + math.log(4)]
    assert cost(ListwiseRanking(), scores, labels) == pytest.approx(expected, abs=1e-6)
    doubled = ([2 * score for score in scores], [2 * label for label in labels])
    assert cost(ListwiseRanking(temperature=2.0), *doubled) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_listwise_is_scipys_entropy_plus_divergence(seed):
    scores, labels = random_batch(seed)
    target, found = special.softmax(labels.numpy() / 0.5), special.softmax(scores.numpy() / 0.5)
    expected = stats.entropy(target) + stats.entropy(target, found)
    assert ListwiseRanking(0.5).loss(scores, labels).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("margin", "expected"), [(0.0, 0.25), (0.3, 0.4)])
def test_pairwise_by_hand(margin, expected):
    # 4 over 3: half a point wrong, and the margin. 4 over 2.9: two points right. 3 over 2.9: within the tolerance.
    assert cost(PairwiseRanking(margin), [3.0, 3.5, 1.0], [4.0, 3.0, 2.9]) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_pairwise_is_torchs_margin_loss_over_the_pairs_that_count(seed):
    scores, labels = random_batch(seed)
    pairs = [(i, j) for i, j in itertools.permutations(range(12), 2) if abs(labels[i] - labels[j]) > 0.5]
    i, j = torch.tensor(pairs).T
    expected = functional.margin_ranking_loss(scores[i], scores[j], (labels[i] - labels[j]).sign(), margin=0.1)
    assert PairwiseRanking(0.1, 0.5).loss(scores, labels).item() == pytest.approx(expected.item(), abs=1e-9)


def test_a_gap_as_wide_as_the_tolerance_does_not_count():
    """In float32 3.4 - 3.2 is a hair over 0.2."""
    gap = torch.tensor(3.4) - torch.tensor(3.2)
    assert gap > torch.tensor(0.2)
    assert cost(PairwiseRanking(tolerance=0.2), [3.0, 4.0], [3.4, 3.2]) == 0
    assert cost(PairwiseRanking(tolerance=0.19), [3.0, 4.0], [3.4, 3.2]) == 1


def test_adaptive_margin_by_hand():
    # Labels over 0..1: 1, 1/2, 0. Margins 0.4, 0.8, 0.4 and weights 7, 7, 4 of (5, 3), (5, 1), (3, 1).
    expected = (7 * 0.4 + 7 * (0.8 - 0.1) + 4 * (0.4 - 0.1)) / 3
    assert cost(AdaptiveMarginRanking(), [4.0, 4.0, 3.9], [5.0, 3.0, 1.0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_adaptive_margin_is_the_mean_over_the_unordered_pairs(seed):
    scores, labels = random_batch(seed)
    rank = (labels - labels.min()) / (labels.max() - labels.min())
    costs = []
    for i, j in itertools.combinations(range(12), 2):
        better, worse = (i, j) if labels[i] > labels[j] else (j, i)
        gap = labels[better] - labels[worse]
        if gap > 0:
            costs.append((1 + 3 * rank[better]) * max(0, 0.5 * gap - (scores[better] - scores[worse])))
    found = AdaptiveMarginRanking(margin_scale=0.5, preference=4.0).loss(scores, labels)
    assert found.item() == pytest.approx((sum(costs) / len(costs)).item(), abs=1e-9)


@pytest.mark.parametrize("kind", RANKED)
@pytest.mark.parametrize("seed", range(3))
def test_the_labels_themselves_are_the_minimum(kind, seed):
    ranking = RANKINGS[kind]()
    _, labels = random_batch(seed)
    perfect = labels.clone().requires_grad_()
    best = ranking.loss(perfect, labels)
    best.backward()
    assert perfect.grad.abs().max() < 1e-9
    assert kind == "listwise" or best == 0
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(100, 12, generator=generator) * torch.logspace(-1, 1, 100)[:, None]
    others = [ranking.loss(labels + each, labels).item() for each in noise]
    assert len(others) == 100 and min(others) >= best.item() and max(others) > best.item() + 0.1
    assert ranking.loss(-labels, labels) > best + 0.1


@pytest.mark.parametrize("kind", RANKED)
def test_a_step_downhill_costs_less(kind):
    scores, labels = random_batch(0)
    scores.requires_grad_()
    before = RANKINGS[kind]().loss(scores, labels)
    before.backward()
    assert RANKINGS[kind]().loss(scores.detach() - 0.1 * scores.grad, labels) < before - 1e-3


@pytest.mark.parametrize("ranking", [ListwiseRanking(), PairwiseRanking(margin=0.1), AdaptiveMarginRanking()])
def test_equal_scores_of_different_labels_part(ranking):
    scores = torch.full((3,), 3.0, requires_grad=True)
    ranking.loss(scores, torch.tensor([4.0, 1.0, 2.0])).backward()
    best, worst, _ = (-scores.grad).tolist()
    assert best > 0 > worst


@pytest.mark.parametrize("kind", RANKED)
def test_the_order_of_the_batch_and_a_shift_do_not_matter(kind):
    scores, labels = random_batch(1)
    expected = RANKINGS[kind]().loss(scores, labels).item()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert RANKINGS[kind]().loss(scores[order], labels[order]).item() == pytest.approx(expected, abs=1e-9)
    assert RANKINGS[kind]().loss(scores + 7, labels).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "labels"),
    [*((kind, [3.4]) for kind in RANKINGS), *((kind, [3.4, 3.4, 3.4]) for kind in RANKINGS if kind != "listwise")],
)
def test_nothing_to_compare_costs_nothing_and_keeps_the_graph(kind, labels):
    scores = torch.linspace(1, 5, len(labels)).requires_grad_()
    loss = RANKINGS[kind]().loss(scores, torch.tensor(labels))
    assert loss.item() == 0 and loss.shape == ()
    (loss + scores.sum()).backward()  # as it is added to an objective's
    assert scores.grad.tolist() == [1.0] * len(labels)
    if kind != "none":
        assert loss.requires_grad


def test_listwise_of_equal_labels_asks_for_equal_scores():
    labels = torch.full((3,), 3.4)
    equal, unequal = torch.full((3,), 2.0, requires_grad=True), torch.tensor([2.0, 2.0, 3.0], requires_grad=True)
    losses = [ListwiseRanking().loss(scores, labels) for scores in (equal, unequal)]
    assert losses[0].item() == pytest.approx(math.log(3)) and losses[1] > losses[0]
    sum(losses).backward()
    assert equal.grad.abs().max() < 1e-6
    assert unequal.grad[2] > 0 > unequal.grad[0]


@pytest.mark.parametrize("kind", RANKED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_no_less_than_float32_is_computed_in(kind, dtype):
    scores, labels = torch.tensor([300.0, -300.0], dtype=dtype), torch.tensor([1.0, 5.0], dtype=dtype)
    loss = RANKINGS[kind]().loss(scores, labels)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.isfinite() and loss > 500


def head_output(mi, ta):
    return HeadOutput(TargetOutput(torch.tensor(mi)), TargetOutput(torch.tensor(ta)))


# MI is half a point wrong, TA two points.
@pytest.mark.parametrize(("weight_mi", "weight_ta", "expected"), [(0.01, 0.0, 0.005), (1.0, 1.0, 2.5), (0.0, 0.1, 0.2)])
def test_weights_by_hand(weight_mi, weight_ta, expected):
    ranking = built("pairwise", weight_mi=weight_mi, weight_ta=weight_ta)
    loss = ranking.loss(head_output([3.0, 3.5], [2.0, 4.0]), torch.tensor([5.0, 1.0]), torch.tensor([5.0, 1.0]))
    assert loss.item() == pytest.approx(expected)


def test_without_a_ranking_a_loss_stays_as_it_is():
    ranking = built("none")
    labels = torch.tensor([5.0, 1.0])
    assert ranking.loss(head_output([math.inf, math.nan], [1.0, 2.0]), labels, labels).item() == 0


def test_a_ranking_is_built_of_what_a_config_says():
    assert built("listwise", temperature=2.0).ranking == ListwiseRanking(temperature=2.0)
    assert built("pairwise", margin=0.1, tolerance=0.3).ranking == PairwiseRanking(margin=0.1, tolerance=0.3)
    made = built("adaptive_margin", margin_scale=0.4, preference=5.0).ranking
    assert made == AdaptiveMarginRanking(margin_scale=0.4, preference=5.0)


@pytest.mark.parametrize("kind", RANKINGS)
def test_a_config_has_each_kind_with_its_published_values(kind):
    assert built(kind).ranking == RANKINGS[kind]()
