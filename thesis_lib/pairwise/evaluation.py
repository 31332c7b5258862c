"""How good features are: logistic regression and nearest neighbours, as the source measures, and a fairer way beside.

`published` is the source's way: features taken in training mode batch by batch, raw, split at random into a part that
trains the classifiers and a part that tests them. `frozen` mends three things that have nothing to do with what was
learned: batch normalisation has the fixed statistics of clean training pictures; the logistic regression, whose penalty
depends on the features' scale, gets them standardised; and each part tests once, so that all test pictures count.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thesis_lib.contrastive.probe import extract_features
from thesis_lib.datasets.labelled import LabelledPictures
from thesis_lib.evaluation.classification import classification_metrics
from thesis_lib.pairwise.network import Features, features_by_batch
from thesis_lib.pairwise.parameters import ProbeParameters
from thesis_lib.pairwise.training import freeze_statistics
from thesis_lib.randomness import numpy_generator

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

KEPT = ("top1", "top3", "confusion")


def judge(
    network: Features, pictures: LabelledPictures, batch: int, probe: ProbeParameters, seed: int
) -> tuple[dict[str, Any], torch.Tensor]:
    """Measure a network both ways.

    Args:
        network: Trained; its statistics are frozen afterwards.
        pictures: The data set; its test pictures are split.
        batch: Pictures in a test batch, for `published`.
        probe: The classifiers.
        seed: The experiment's seed; the split is the same for all networks of a seed.

    Returns:
        ``published`` and ``frozen``, each with ``top1``, ``top3``, ``knn`` in [0, 1] and ``confusion`` (counts), and
        the published features, (test pictures, 32).
    """
    features = features_by_batch(network, pictures.test, batch, seed)
    count = len(pictures.classes)
    once = [split_rows(len(features), probe, seed)]
    published = classify(features, pictures.test_labels, count, probe.neighbours, once)
    frozen = freeze_statistics(network, pictures.train)
    still = extract_features(frozen, pictures.test, pictures.test.shape[-1])
    folds = cross_splits(len(still), probe, seed)
    fair = classify(still, pictures.test_labels, count, probe.neighbours, folds, standardised=True)
    return {"published": published, "frozen": fair}, features


def classify(
    features: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    neighbours: int,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    standardised: bool = False,
) -> dict[str, Any]:
    """Logistic regression (scikit-learn's, 1,000 iterations) and k nearest neighbours by Euclidean distance.

    Args:
        features: (n, d).
        labels: (n,).
        classes: Number of classes.
        neighbours: k, fewer where there are fewer.
        splits: Rows that train the classifiers and rows that test them, one or more times; no row tests twice.
        standardised: Whether the logistic regression gets standardised features.

    Returns:
        ``top1`` and ``top3`` of the logistic regression and ``knn``, shares in [0, 1], and ``confusion``.
    """
    from sklearn.neighbors import KNeighborsClassifier

    points, targets = features.numpy().astype(np.float64), labels.numpy()
    tested = np.concatenate([test for _, test in splits])
    logits, right = np.full((len(points), classes), -1e9), 0  # of a class that the training part lacks
    for fit, test in splits:
        model = fit_regression(points[fit], targets[fit], standardised)
        logits[np.ix_(test, model.classes_)] = model.predict_log_proba(points[test])
        nearest = KNeighborsClassifier(min(neighbours, len(fit))).fit(points[fit], targets[fit])
        right += int((nearest.predict(points[test]) == targets[test]).sum())
    measured = classification_metrics(torch.from_numpy(logits[tested]), labels[tested])
    return {key: measured[key] for key in KEPT} | {"knn": right / len(tested)}


def split_rows(count: int, probe: ProbeParameters, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of `count` test pictures train the classifiers, and on which they are measured."""
    order = numpy_generator(seed, "probe split").permutation(count)
    held_out = max(1, round(probe.held_out * count))
    return order[held_out:], order[:held_out]


def cross_splits(count: int, probe: ProbeParameters, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` test pictures in so many parts as `held_out` makes, in the order of `split_rows`: each tests once."""
    from sklearn.model_selection import KFold

    order = numpy_generator(seed, "probe split").permutation(count)
    folds = KFold(max(2, min(count, round(1 / probe.held_out)))).split(order)
    return [(order[fit], order[test]) for fit, test in folds]


def fit_regression(points: np.ndarray, targets: np.ndarray, standardised: bool) -> "Pipeline":
    """The logistic regression of `classify` on points (n, d) and their classes (n,), the scaling before it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaling = StandardScaler() if standardised else "passthrough"
    return make_pipeline(scaling, LogisticRegression(max_iter=1000)).fit(points, targets)
