"""Each loss against a slow hand-written version, a closed form, or a public library's answer."""

import math

import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import NTXentLoss
from pytorch_metric_learning.miners import BatchEasyHardMiner
from torch import nn

from thesis_lib.contrastive.losses import SupConLoss
from thesis_lib.pairwise.losses import (
    MINED_AMONG,
    BatchHardLoss,
    DebiasedNTXent,
    MarginLoss,
    MinedNegativeLoss,
    build_loss,
)
from thesis_lib.pairwise.parameters import Method


def features(count: int = 6, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(count, 5, generator=generator) for _ in range(2)]


def slow_debiased(first, second, labels, temperature, tau_plus, labelled):
    """Eqs. 7 and 8 of Chuang et al., a view and a negative at a time."""
    views = [(v / v.norm(), i) for role in (first, second) for i, v in enumerate(role)]
    total = 0.0
    for view, i in views:
        (other,) = [v for v, j in views if j == i and v is not view]
        positive = math.exp(float(view @ other) / temperature)
        negatives = [
            math.exp(float(view @ v) / temperature)
            for v, j in views
            if (labels[j] != labels[i] if labelled else j != i)
        ]
        mean = sum(negatives) / len(negatives)
        g = max((mean - tau_plus * positive) / (1 - tau_plus), math.exp(-1 / temperature))
        total += -math.log(positive / (positive + len(negatives) * g))
    return total / len(views)


@pytest.mark.parametrize("tau_plus", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_debiased_loss_is_the_papers(tau_plus, labelled, temperature):
    first, second = features()
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    ours = DebiasedNTXent(temperature, tau_plus, labelled)([first, second], labels)
    assert ours.item() == pytest.approx(slow_debiased(first, second, labels, temperature, tau_plus, labelled), rel=1e-4)


def test_the_clamp_is_reached_and_stated():
    """All features alike but opposite views: the estimate falls below what a cosine allows."""
    same = torch.tensor([[1.0, 0.0]] * 3)
    ours = DebiasedNTXent(0.5, 0.9)([same, same], torch.arange(3))
    raw = (math.exp(2) - 0.9 * math.exp(2)) / 0.1  # equal cosines: e^(1/t) again, so nothing to clamp
    assert ours.item() == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 4 * raw)), rel=1e-5)
    apart = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    clamped = DebiasedNTXent(0.5, 0.9)([apart, apart], torch.arange(2))  # (e^-2 - 0.9 e^2) / 0.1 is negative
    assert clamped.item() == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 2 * math.exp(-2))), rel=1e-5)


def test_without_correction_it_is_nt_xent():
    first, second = features()
    ours = DebiasedNTXent(0.3)([first, second], torch.zeros(6, dtype=torch.int64))
    numbers = torch.arange(6)
    theirs = NTXentLoss(0.3)(torch.cat([first, second]), numbers.repeat(2))
    unit = nn.functional.normalize(torch.stack([first, second], dim=1), dim=-1)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert ours.item() == pytest.approx(SupConLoss(0.3)(unit, numbers).item(), rel=1e-5)


def test_margin_loss_is_hadsells_equation():
    first, second = features()
    sign = torch.tensor([1, -1, -1, 1, -1, 1])
    slow = 0.0
    for a, b, y in zip(first, second, sign.tolist(), strict=True):
        distance = math.dist(a.tolist(), b.tolist())
        slow += distance**2 / 2 if y == 1 else max(0.0, 1.2 - distance) ** 2 / 2
    assert MarginLoss(1.2)(first, second, sign).item() == pytest.approx(slow / 6, rel=1e-5)


def test_margin_loss_has_finite_gradients_where_features_are_equal():
    first = torch.ones(2, 3, requires_grad=True)
    MarginLoss(1.0)(first, torch.ones(2, 3), torch.tensor([1, -1])).backward()
    assert torch.isfinite(first.grad).all()


LINE = torch.tensor([[0.0], [1.0], [1.5], [4.0]])  # classes a, a, b, b on a line
CLASSES = torch.tensor([0, 0, 1, 1])


def test_hard_negatives_are_the_nearest_of_another_class():
    positives = LINE + torch.tensor([[0.2], [0.1], [0.3], [0.4]])
    # nearest of another class: 0 -> 1.5, 1 -> 0.5, 1.5 -> 0.5, 4 -> 3
    by_hand = [1 + 0.2 - 1.5, 1 + 0.1 - 0.5, 1 + 0.3 - 0.5, 1 + 0.4 - 3]
    loss = MinedNegativeLoss(False, 1.0)([LINE, positives], CLASSES)
    assert loss.item() == pytest.approx(sum(max(0, x) for x in by_hand) / 4, abs=1e-4)
    none = MinedNegativeLoss(False, 1.0)([LINE, positives], torch.zeros(4, dtype=torch.int64))
    assert none.item() == 0.0  # one class only: there is no triplet


def test_semi_hard_negatives_are_the_nearest_beyond_the_positive():
    positives = LINE + torch.tensor([[0.2], [1.0], [2.6], [0.4]])
    # 0: 1.5 is beyond 0.2; 1: 0.5 is not beyond 1.0, 3 is; 1.5: neither 0.5 nor 1.5 is beyond 2.6; 4: 3 is beyond 0.4
    by_hand = [1 + 0.2 - 1.5, 1 + 1.0 - 3, 1 + 0.4 - 3]
    loss = MinedNegativeLoss(True, 1.0)([LINE, positives], CLASSES)
    assert loss.item() == pytest.approx(sum(max(0, x) for x in by_hand) / 3, abs=1e-4)


@pytest.mark.parametrize("semi_hard", [False, True])
def test_mined_negatives_are_pytorch_metric_learnings_where_each_picture_is_a_class(semi_hard):
    anchor, positive = features(8)
    classes = torch.arange(8)
    miner = BatchEasyHardMiner(
        pos_strategy=BatchEasyHardMiner.HARD,
        neg_strategy=BatchEasyHardMiner.SEMIHARD if semi_hard else BatchEasyHardMiner.HARD,
        distance=LpDistance(normalize_embeddings=False),
    )
    loss, values = nn.TripletMarginLoss(5.0), []
    for row in range(8):
        others = classes[classes != row]
        there = torch.cat([positive[[row]], anchor[others]])
        _, p, _, n = miner(anchor[[row]], classes[[row]], there, torch.cat([classes[[row]], others]))
        values += [loss(anchor[[row]], there[p], there[n]).item()] if len(n) else []
    assert values
    ours = MinedNegativeLoss(semi_hard, 5.0)([anchor, positive], classes)
    assert ours.item() == pytest.approx(sum(values) / len(values), rel=1e-4)


def test_batch_hard_takes_the_farthest_positive_and_the_nearest_negative():
    # anchor 0: +1, -1.5; 1: +1 (0), -0.5 (2); 2: +2.5 (3), -0.5 (1); 3: +2.5 (2), -3 (1), margin 1
    loss = BatchHardLoss(1.0)([LINE[:2], LINE[2:]], torch.tensor([0, 0]))
    assert loss.item() == 0.0  # one class only: there is no triplet
    loss = BatchHardLoss(1.0)([LINE], CLASSES)
    by_hand = [1 + 1 - 1.5, 1 + 1 - 0.5, 1 + 2.5 - 0.5, 1 + 2.5 - 3]
    assert loss.item() == pytest.approx(sum(by_hand) / 4, abs=1e-4)


@pytest.mark.parametrize("mining", ["hard", "semi_hard", "batch_hard"])
def test_mining_chooses_within_groups_of_the_batch(mining):
    """Two groups far apart: across them nothing is chosen, so each is worth what it is worth alone."""
    anchor, positive = (torch.cat([role, 3 + role]) for role in features(MINED_AMONG))
    labels = torch.arange(len(anchor)) % 4
    loss = build_loss(Method(loss="triplet", mining=mining))
    halves = [loss([role[rows] for role in (anchor, positive)], labels[rows]) for rows in torch.arange(128).split(64)]
    assert len(anchor) == 128 and halves[0] > 0
    assert loss([anchor, positive], labels).item() == pytest.approx(sum(half.item() for half in halves) / 2)
    assert loss([anchor[:70], positive[:70]], labels[:70]) > 0  # one group of 70


def test_cross_entropy_is_of_a_linear_classifier_on_all_views():
    first, second = (torch.nn.functional.pad(role, (0, 27)) for role in features())
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    loss = build_loss(Method(loss="cross_entropy"), 3)
    logits = torch.cat([first, second]) @ loss.head.weight.T + loss.head.bias
    by_hand = -logits.log_softmax(1)[torch.arange(12), labels.repeat(2)].mean()
    assert loss([first, second], labels).item() == pytest.approx(by_hand.item())
    assert {tuple(value.shape) for value in loss.parameters()} == {(3, 32), (3,)}


def test_the_sources_losses_are_torchs():
    first, second = features()
    third = features(seed=1)[0]
    sign = torch.tensor([1, -1, -1, 1, -1, 1])
    cosine = build_loss(Method(loss="cosine"))([first, second], sign)
    slow = [1 - c if y == 1 else max(0.0, c) for c, y in zip(_cosines(first, second), sign.tolist(), strict=True)]
    assert cosine.item() == pytest.approx(sum(slow) / 6, rel=1e-5)
    triplet = build_loss(Method(loss="triplet"))([first, second, third], sign)
    slow = [
        max(0.0, 1 + math.dist(a, p) - math.dist(a, n))
        for a, p, n in zip(first.tolist(), second.tolist(), third.tolist(), strict=True)
    ]
    assert triplet.item() == pytest.approx(sum(slow) / 6, rel=1e-4)


def _cosines(first, second):
    return [float(a @ b / a.norm() / b.norm()) for a, b in zip(first, second, strict=True)]


def test_supcon_is_the_main_studys_on_normalised_features():
    first, second = features()
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    ours = build_loss(Method(loss="supcon", temperature=0.2))([first, second], labels)
    unit = nn.functional.normalize(torch.stack([first, second], dim=1), dim=-1)
    assert ours.item() == pytest.approx(SupConLoss(0.2)(unit, labels).item(), rel=1e-6)
