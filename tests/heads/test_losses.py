import math

import numpy as np
import pytest
import torch
from scipy import stats

from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.losses import (
    CoralObjective,
    GaussianObjective,
    L1Objective,
    MseObjective,
    RatersObjective,
    objective_of,
)
from audiomos_cache.heads.outputs import TargetOutput

LABELS = np.array([1.0, 2.6, 5.0])
RATINGS = np.array([[1.0, 1.0, 1.0], [2.0, 3.0, 5.0], [5.0, 4.0, np.nan]])
KINDS = [  # output kind, loss
    ("scalar", "l1"),
    ("scalar", "mse"),
    ("distribution", "gaussian"),
    ("distribution", "one_hot"),
    ("distribution", "raters"),
    ("coral", "coral"),
]


def built(kind, **keys):
    return objective_of(HeadConfig.model_validate({"output": {"kind": kind, **keys}}))


def objective(kind, loss=None):
    loss = loss or {"scalar": "l1", "distribution": "gaussian", "coral": "coral"}[kind]
    return built(kind, loss=loss, **({"bins": 5} if loss == "raters" else {}))


def targets_of(judge):
    return torch.from_numpy(judge.targets(RATINGS if judge.wants_ratings else LABELS))


def distribution(*rows):
    dist = torch.tensor(rows)
    return TargetOutput(dist @ torch.linspace(1, 5, dist.shape[1], dtype=dist.dtype), dist=dist)


def logits(*rows):
    return TargetOutput(torch.zeros(len(rows)), logits=torch.tensor(rows))


def test_absolute_error_by_hand():
    loss = L1Objective().loss(TargetOutput(torch.tensor([1.5, 4.0])), torch.tensor([2.0, 1.0]))
    assert loss.item() == pytest.approx((0.5 + 3.0) / 2)


def test_squared_error_by_hand():
    loss = MseObjective().loss(TargetOutput(torch.tensor([1.5, 4.0])), torch.tensor([2.0, 1.0]))
    assert loss.item() == pytest.approx((0.25 + 9.0) / 2)


@pytest.mark.parametrize("scalar", [L1Objective, MseObjective])
def test_the_targets_of_a_scalar_are_the_labels(scalar):
    assert scalar().targets(LABELS).tolist() == [1.0, 2.6, 5.0]


def test_divergence_by_hand():
    # 1/2 ln(1/2 / 1/4) + 1/2 ln(1/2 / 3/4) in the first row, 0 in the second; 0 ln 0 is 0.
    target = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    loss = GaussianObjective(2, 0.25).loss(distribution([0.25, 0.75], [0.0, 1.0]), target)
    assert loss.item() == pytest.approx(0.5 * (0.5 * math.log(2) + 0.5 * math.log(2 / 3)), abs=1e-6)


def test_divergence_from_the_listeners_by_hand():
    # Two of three gave a 2, one a 4: 2/3 ln(2/3 / 1/2) + 1/3 ln(1/3 / 1/4).
    target = torch.from_numpy(RatersObjective().targets(np.array([[2.0, 4.0, 2.0]])))
    loss = RatersObjective().loss(distribution([0.25, 0.5, 0.0, 0.25, 0.0]), target)
    assert loss.item() == pytest.approx(2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(4 / 3), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_divergence_is_scipys_relative_entropy(seed):
    generator = np.random.default_rng(seed)
    predicted, target = generator.dirichlet(np.ones(20), (2, 8))
    loss = objective("distribution").loss(distribution(*predicted.tolist()), torch.from_numpy(target))
    assert loss.item() == pytest.approx(stats.entropy(target, predicted, axis=1).mean(), abs=1e-5)


def test_a_prediction_of_zero_costs_the_floor():
    loss = objective("distribution", "one_hot").loss(distribution([1.0, 0.0]), torch.tensor([[0.0, 1.0]]))
    assert loss.item() == pytest.approx(-math.log(1e-10), rel=1e-6)


def test_ordinal_cross_entropy_by_hand():
    rows = [[2.0, 0.5, -1.0, -3.0], [0.0, -0.1, -0.2, -0.3]]
    labels = [[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]

    def cost(logit, label):
        exceeding = 1 / (1 + math.exp(-logit))
        return -math.log(exceeding if label else 1 - exceeding)

    by_row = [sum(map(cost, row, label)) for row, label in zip(rows, labels, strict=True)]
    loss = CoralObjective(5).loss(logits(*rows), torch.tensor(labels))
    assert loss.item() == pytest.approx(sum(by_row) / 2, abs=1e-6)


def test_ordinal_cross_entropy_is_finite_far_out():
    loss = CoralObjective(5).loss(logits([500.0, 400.0, -400.0, -500.0]), torch.tensor([[0.0, 1.0, 0.0, 1.0]]))
    assert loss.item() == pytest.approx(1000)


def perfect(kind, target):
    if kind == "scalar":
        return TargetOutput(target.float())
    if kind == "distribution":
        return TargetOutput(torch.zeros(len(target)), dist=target)
    return TargetOutput(torch.zeros(len(target)), logits=(target - 0.5) * 60)


def other_outputs(kind, count, bins):
    generator = torch.Generator().manual_seed(0)
    for spread in torch.logspace(-1, 1, 50):
        raw = torch.randn(count, 20, generator=generator) * spread
        yield {
            "scalar": TargetOutput(3 + raw[:, 0]),
            "distribution": TargetOutput(torch.zeros(count), dist=raw[:, :bins].softmax(dim=1)),
            "coral": TargetOutput(torch.zeros(count), logits=raw[:, :4]),
        }[kind]


@pytest.mark.parametrize(("kind", "loss"), KINDS)
def test_the_perfect_prediction_is_the_minimum(kind, loss):
    judge = objective(kind, loss)
    target = targets_of(judge)
    best = judge.loss(perfect(kind, target), target).item()
    assert best == pytest.approx(0, abs=1e-6)
    others = [judge.loss(output, target).item() for output in other_outputs(kind, len(LABELS), target.shape[-1])]
    assert len(others) == 50 and min(others) > best + 0.01


@pytest.mark.parametrize(("kind", "loss"), KINDS)
def test_a_loss_has_a_gradient_that_leads_downhill(kind, loss):
    judge = objective(kind, loss)
    target = targets_of(judge)
    raw = torch.zeros(3, 5 if loss == "raters" else 20, requires_grad=True)

    def loss_of(raw):
        outputs = {
            "scalar": lambda: TargetOutput(3 + raw[:, 0]),
            "distribution": lambda: TargetOutput(raw[:, 0], dist=raw.softmax(dim=1)),
            "coral": lambda: TargetOutput(raw[:, 0], logits=raw[:, :4]),
        }
        return judge.loss(outputs[kind](), target)

    before = loss_of(raw)
    before.backward()
    with torch.no_grad():
        assert loss_of(raw - 0.1 * raw.grad) < before - 1e-3


def test_objectives_make_the_targets_of_their_kind():
    gaussian = objective("distribution").targets(LABELS)
    assert gaussian.shape == (3, 20) and ((gaussian > 1e-3).sum(axis=1) > 3).all()
    one_hot = objective("distribution", "one_hot").targets(LABELS)
    assert one_hot.argmax(axis=1).tolist() == [0, 7, 19] and one_hot.sum() == 3
    assert objective("coral").targets(LABELS).tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert objective("scalar").targets(LABELS).tolist() == LABELS.tolist()
    assert objective("scalar", loss="mse").targets(LABELS).tolist() == LABELS.tolist()
    third, half = 1 / 3, 1 / 2
    assert objective("distribution", "raters").targets(RATINGS).tolist() == [
        [1, 0, 0, 0, 0], [0, third, third, 0, third], [0, 0, 0, half, half]
    ]  # fmt: skip


@pytest.mark.parametrize(("kind", "loss"), KINDS)
def test_only_the_raters_objective_wants_ratings(kind, loss):
    assert objective(kind, loss).wants_ratings == (loss == "raters")


def test_mean_opinion_scores_are_no_ratings():
    with pytest.raises(ValueError, match=r"found labels of shape \(3,\), expected each clip's ratings, \(N, R\)"):
        objective("distribution", "raters").targets(LABELS)


def test_bins_and_sigma_reach_the_objective():
    made = built("distribution", bins=5, loss={"kind": "gaussian", "sigma": 1e-3})
    assert made.targets(np.array([2.2])).tolist() == [[0, 1, 0, 0, 0]]


def test_sigma_decides_the_targets_of_a_gaussian():
    narrow, wide = (built("distribution", loss={"kind": "gaussian", "sigma": sigma}) for sigma in (0.25, 0.5))
    assert not np.array_equal(narrow.targets(LABELS), wide.targets(LABELS))


@pytest.mark.parametrize(("loss", "expected"), [("l1", 1.5), ("mse", 2.5)])
def test_the_loss_of_a_scalar_is_the_one_that_is_named(loss, expected):
    output, target = TargetOutput(torch.tensor([1.0, 4.0])), torch.tensor([2.0, 2.0])
    assert objective("scalar", loss=loss).loss(output, target).item() == expected
