"""Accuracy, calibration and confusion of a classifier from its logits."""

from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from thesis_lib.errors import ThesisError

CALIBRATION_BINS = 15


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Measure a classifier on one split.

    Args:
        logits: (n, c) scores of the c classes.
        labels: (n,) class indices, 0 to c - 1.

    Returns:
        ``pictures`` (n); the shares in [0, 1] ``top1``, ``top3`` (of fewer than three classes: 1), ``balanced`` (mean
        recall of the classes that have pictures) and ``ece`` (expected calibration error over 15 equal-width bins);
        ``nll`` in nats; ``per_class`` (c recalls, None for a class without pictures); ``confusion`` (c x c counts,
        row = true class).

    Raises:
        ThesisError: There are no pictures, or a label is no class of the logits.
    """
    from sklearn.metrics import confusion_matrix

    count, classes = logits.shape
    if not count:
        raise ThesisError("classification needs pictures and this split has none: leave the split out")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ThesisError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, the classifier has {classes} classes: "
            "it was trained on other classes, train it again"
        )
    logits = logits.double()
    probabilities = logits.softmax(1)
    confidence, predicted = probabilities.max(1)
    correct = predicted == labels
    confusion = confusion_matrix(labels.numpy(), predicted.numpy(), labels=range(classes))
    pictures = confusion.sum(1)
    recall = np.divide(confusion.diagonal(), pictures, out=np.full(classes, np.nan), where=pictures > 0)
    ranked = logits.topk(min(3, classes), dim=1).indices
    return {
        "pictures": count,
        "top1": float(correct.double().mean()),
        "top3": float((ranked == labels[:, None]).any(1).double().mean()),
        "balanced": float(np.nanmean(recall)),
        "ece": calibration_error(confidence.numpy(), correct.numpy()),
        "nll": float(F.cross_entropy(logits, labels)),
        "per_class": [None if np.isnan(value) else float(value) for value in recall],
        "confusion": confusion.tolist(),
    }


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error with equal-width bins (Guo et al. 2017, arXiv 1706.04599).

    Args:
        confidence: (n,) in [0, 1].
        correct: (n,) bool.
        bins: Bins (0, 1/bins], ..., (1 - 1/bins, 1].

    Returns:
        The mean over pictures of |accuracy - mean confidence| of their bin, in [0, 1].
    """
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(which, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))
