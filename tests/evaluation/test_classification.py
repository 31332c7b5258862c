import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, top_k_accuracy_score

from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.classification import calibration_error, classification_metrics
from thesis_lib.randomness import torch_generator


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch_generator(0, "classification")
    labels = torch.randint(0, 6, (200,), generator=generator)
    logits = torch.randn(200, 6, generator=generator) + 1.5 * torch.eye(6)[labels]
    return logits, labels


def test_agrees_with_scikit_learn(case) -> None:
    logits, labels = case
    got = classification_metrics(logits, labels)
    probabilities = logits.double().softmax(1).numpy()
    predicted = probabilities.argmax(1)
    assert got["pictures"] == 200
    assert got["top1"] == pytest.approx(accuracy_score(labels, predicted))
    assert got["top3"] == pytest.approx(top_k_accuracy_score(labels, probabilities, k=3))
    assert got["balanced"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert got["nll"] == pytest.approx(log_loss(labels, probabilities))
    assert np.array(got["confusion"]).sum(1).tolist() == torch.bincount(labels, minlength=6).tolist()
    assert got["per_class"][2] == pytest.approx((predicted[labels == 2] == 2).mean())


def test_calibration_error_by_hand(case) -> None:
    logits, labels = case
    confidence, predicted = logits.double().softmax(1).max(1)
    correct = (predicted == labels).numpy()
    slow = 0.0
    for index in range(15):
        inside = ((confidence > index / 15) & (confidence <= (index + 1) / 15)).numpy()
        if inside.any():
            slow += inside.mean() * abs(correct[inside].mean() - confidence.numpy()[inside].mean())
    assert classification_metrics(logits, labels)["ece"] == pytest.approx(slow)


def test_calibration_error_closed_forms() -> None:
    assert calibration_error(np.ones(4), np.array([True, True, True, False])) == pytest.approx(0.25)
    assert calibration_error(np.full(4, 0.75), np.array([True, True, True, False])) == pytest.approx(0)


def test_class_without_pictures_and_few_classes() -> None:
    got = classification_metrics(torch.tensor([[2.0, 1, 0, 0], [0, 3, 0, 0]]), torch.tensor([0, 1]))
    assert got["per_class"] == [1.0, 1.0, None, None]
    assert got["balanced"] == 1.0
    assert classification_metrics(torch.tensor([[2.0, 1.0]]), torch.tensor([1]))["top3"] == 1.0


def test_refuses_no_pictures_and_foreign_labels() -> None:
    with pytest.raises(ThesisError, match="none"):
        classification_metrics(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ThesisError, match="3 classes"):
        classification_metrics(torch.zeros(1, 3), torch.tensor([3]))
