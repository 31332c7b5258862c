import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.nn.functional import normalize

from thesis_lib.contrastive.losses import SupConLoss


def slow_loss(features, labels, near, temperature, negatives):
    """The definition of the thesis, view by view."""
    batch, views, _ = features.shape
    items = [(b, v) for b in range(batch) for v in range(views)]
    sim = {(i, j): float(features[i] @ features[j]) / temperature for i in items for j in items}
    losses = []
    for i in items:
        if near[i[0]]:
            continue
        positives = [p for p in items if p != i and labels[p[0]] == labels[i[0]] and not near[p[0]]]
        contrast = [
            j for j in items
            if j != i and (not near[j[0]] or negatives == "all_classes" or labels[j[0]] == labels[i[0]])
        ]  # fmt: skip
        if positives:
            total = math.log(sum(math.exp(sim[i, j]) for j in contrast))
            losses.append(-sum(sim[i, p] - total for p in positives) / len(positives))
    return sum(losses) / len(losses) if losses else 0.0


def batch(seed, size=7, views=2, classes=3, dim=5):
    generator = torch.Generator().manual_seed(seed)
    features = normalize(torch.randn(size, views, dim, generator=generator, dtype=torch.float64), dim=-1)
    labels = torch.randint(classes, (size,), generator=generator)
    return features, labels, torch.rand(size, generator=generator) < 0.3


@pytest.mark.parametrize("negatives", ["own_class", "all_classes"])
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 8),
    views=st.integers(1, 3),
    temperature=st.sampled_from([0.07, 0.5, 2.0]),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_slow_version(negatives, seed, size, views, temperature):
    features, labels, near = batch(seed, size, views)
    fast = SupConLoss(temperature, negatives)(features, labels, near)
    assert fast.item() == pytest.approx(slow_loss(features, labels, near, temperature, negatives), rel=1e-4, abs=1e-4)


def test_equals_pytorch_metric_learning_without_near_ood():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    features, labels, _ = batch(1, size=12)
    ours = SupConLoss(0.1)(features, labels)
    theirs = losses.SupConLoss(temperature=0.1)(features.flatten(0, 1).float(), labels.repeat_interleave(2))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_closed_form_of_two_orthogonal_classes():
    # Views of a class coincide, classes are orthogonal: -log(e^{1/t} / (e^{1/t} + 2)) for two views of two classes.
    features = torch.eye(2)[:, None].expand(2, 2, 2)
    loss = SupConLoss(0.5)(features, torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(math.log(1 + 2 * math.exp(-2)), rel=1e-6)


def test_collapse_value_is_the_mean_log_size_of_the_contrast_set():
    labels, near = torch.tensor([0, 0, 1, 1, 0]), torch.tensor([False, False, False, False, True])
    own = SupConLoss(0.07).collapse_value(labels, 2, near)
    everyone = SupConLoss(0.07, "all_classes").collapse_value(labels, 2, near)
    assert own.item() == pytest.approx((math.log(9) + math.log(7)) / 2)
    assert everyone.item() == pytest.approx(math.log(9))


def gradient_on_near(negatives, label_of_near):
    features, labels = (
        torch.randn(5, 1, 4, generator=torch.Generator().manual_seed(3)),
        torch.tensor([0, 0, 1, 1, label_of_near]),
    )
    features.requires_grad_()
    near = torch.tensor([False] * 4 + [True])
    loss = SupConLoss(0.2, negatives)
    anchors = []
    for anchor_class in (0, 1):
        keep = torch.tensor([0, 1, 4] if anchor_class == 0 else [2, 3, 4])
        (gradient,) = torch.autograd.grad(loss(features[keep], labels[keep], near[keep]), features)
        anchors.append(gradient[4].abs().sum().item())
    return anchors


def test_erratum_2_near_ood_acts_on_contrast_columns_of_its_class_only():
    assert gradient_on_near("own_class", 0)[0] > 0 and gradient_on_near("own_class", 0)[1] == 0
    assert all(g > 0 for g in gradient_on_near("all_classes", 0))


def test_erratum_2_an_ignored_logit_leaves_the_sum_instead_of_being_the_largest():
    features, labels, near = batch(5, size=6)
    near[:] = False
    near[0] = True
    labels = torch.tensor([9, 0, 0, 1, 1, 1])  # no anchor of class 9: with own_class nobody sees it
    assert torch.allclose(SupConLoss(0.1)(features, labels, near), SupConLoss(0.1)(features[1:], labels[1:]))


def test_erratum_3_the_other_view_of_the_same_picture_is_a_positive():
    features = normalize(torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    loss = SupConLoss(0.07)(features, torch.arange(4))
    assert loss.item() > 0.5  # the published code gives exactly 0 for four different classes


def test_erratum_4_anchors_without_positives_are_left_out_of_the_mean():
    features, _, _ = batch(2, size=4, views=1)
    labels = torch.tensor([0, 0, 1, 2])
    expected = slow_loss(features, labels, [False] * 4, 0.1, "own_class")
    assert SupConLoss(0.1)(features, labels).item() == pytest.approx(expected, rel=1e-5)


def test_erratum_5_class_zero_behaves_like_every_class():
    features, labels, near = batch(8, size=8)
    renamed = torch.tensor([2, 0, 1])[labels]
    for negatives in ("own_class", "all_classes"):
        loss = SupConLoss(0.1, negatives)
        assert torch.allclose(loss(features, labels, near), loss(features, renamed, near))


def test_erratum_17_a_batch_without_positives_gives_zero_attached_to_the_graph():
    features = torch.randn(3, 1, 4, requires_grad=True)
    loss = SupConLoss()(features, torch.arange(3), torch.tensor([False, True, True]))
    loss.backward()
    assert loss.item() == 0 and torch.equal(features.grad, torch.zeros_like(features))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_finite_in_half_precision(dtype):
    features = normalize(torch.randn(8, 2, 16), dim=-1).to(dtype).requires_grad_()
    loss = SupConLoss(0.01)(features, torch.arange(8) // 2, torch.arange(8) == 7)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(features.grad).all()


@given(seed=st.integers(0, 10_000), negatives=st.sampled_from(["own_class", "all_classes"]))
@settings(max_examples=25, deadline=None)
def test_permuting_the_batch_changes_nothing_and_a_near_ood_negative_never_lowers_the_loss(seed, negatives):
    features, labels, near = batch(seed, size=8)
    loss = SupConLoss(0.2, negatives)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(loss(features, labels, near), loss(features[order], labels[order], near[order]), atol=1e-5)
    assert loss(features, labels, near) >= loss(features[~near], labels[~near]) - 1e-6


def test_says_what_is_wrong_with_shapes():
    with pytest.raises(ValueError, match=r"\(batch, views, dim\)"):
        SupConLoss()(torch.randn(4, 8), torch.arange(4))
    with pytest.raises(ValueError, match="labels"):
        SupConLoss()(torch.randn(4, 1, 8), torch.arange(3))
    with pytest.raises(ValueError, match="own_class or all_classes"):
        SupConLoss(negatives="none")
