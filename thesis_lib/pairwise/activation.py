"""What a trained network attends to: activation maps of test pictures."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn

from thesis_lib.contrastive.encoders import Classifier
from thesis_lib.contrastive.probe import extract_features
from thesis_lib.contrastive.views import to_unit_range
from thesis_lib.datasets.labelled import LabelledPictures
from thesis_lib.evaluation.saliency import hires_cam, upsample
from thesis_lib.pairwise.evaluation import fit_regression, split_rows
from thesis_lib.pairwise.network import NUM_FEATURES, SmallNetwork
from thesis_lib.pairwise.parameters import ProbeParameters
from thesis_lib.pairwise.study import Item, network_of
from thesis_lib.pairwise.training import build_network, freeze_statistics
from thesis_lib.tensors import device_of

STAGE = 4
"""The second convolution's activations: 8 x 8 cells for 28 px, 9 x 9 for 32 px.

Later ones are too coarse: on small MNIST networks blurring the tenth of the pixels with the most saliency lowers the
centred logit by 4.2 (`triplet_none`), with the third convolution's maps by 3.2 and the fourth's by 1.3, with random
smooth maps by 0.3. The first's lower it by 4.9, but are specks.
"""
BEFORE = 1.5
"""Cell i of them sees pixels 4i - 3 to 4i and no others."""
MOST = 10
"""Rows that fit a page."""


def example_rows(pictures: LabelledPictures, probe: ProbeParameters, seed: int) -> list[int]:
    """Test pictures that no classifier of the seed was trained on: one a class, of ten classes spread over the list."""
    _, held_out = split_rows(len(pictures.test), probe, seed)
    rows = {int(pictures.test_labels[row]): int(row) for row in held_out[::-1]}
    labels = sorted(rows)
    places = np.linspace(0, len(labels) - 1, min(len(labels), MOST)).round().astype(int)
    return [rows[labels[place]] for place in places]


def activation_maps(
    network: SmallNetwork, pictures: LabelledPictures, rows: list[int], probe: ProbeParameters, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The main study's map, HiResCAM for the true class, of a network and its logistic regression of the frozen way.

    Args:
        network: With frozen statistics, in evaluation mode.
        pictures: The data set; its test pictures train the classifier as when the network was measured.
        rows: The n test pictures to explain.
        probe: The classifiers.
        seed: The experiment's seed.

    Returns:
        (n, s, s) at least 0 without unit, all zero where no place speaks for the class; and (n,) the classifier's
        probability of the true class. Both on the CPU.
    """
    size, labels = pictures.test.shape[-1], pictures.test_labels[rows]
    fit, _ = split_rows(len(pictures.test), probe, seed)
    points = extract_features(network, pictures.test[fit], size).numpy().astype(np.float64)
    scaler, regression = fit_regression(points, pictures.test_labels[fit].numpy(), standardised=True)
    classifier = Classifier(NUM_FEATURES, len(pictures.classes))
    classifier.mean.copy_(torch.from_numpy(scaler.mean_))
    classifier.std.copy_(torch.from_numpy(scaler.scale_))
    with torch.no_grad():
        classifier.linear.weight.zero_()
        classifier.linear.bias.fill_(-1e9)  # of a class that the training part lacks
        classifier.linear.weight[regression.classes_] = torch.from_numpy(regression.coef_).float()
        classifier.linear.bias[regression.classes_] = torch.from_numpy(regression.intercept_).float()
    whole = nn.Sequential(network, classifier.to(device_of(network))).eval()
    unit = to_unit_range(pictures.test[rows].to(device_of(network)), size)
    with torch.no_grad():
        probabilities = whole(unit).softmax(1).cpu()[torch.arange(len(rows)), labels]
    coarse = hires_cam(whole, network[STAGE], unit, labels.to(unit.device))
    return upsample(coarse, size, size, BEFORE).cpu(), probabilities


def activations_of(
    items: Iterable[Item],
    names: Sequence[str],
    data: str,
    pictures: LabelledPictures,
    rows: list[int],
    probe: ProbeParameters,
    seed: int,
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """`activation_maps` of a set's scenarios under one seed, and of their first weights, which have learnt nothing.

    Args:
        items: Finished scenarios.
        names: The scenarios to look at.
        data: The set.
        pictures: Its pictures.
        rows: The test pictures to explain.
        probe: The classifiers.
        seed: One of the study's.

    Returns:
        Scenario, and `before_training`, -> maps and probabilities.
    """
    chosen = {item.scenario.name: item for item in items if (item.scenario.data, item.scenario.seed) == (data, seed)}
    networks = {name: network_of(chosen[name], pictures) for name in names}
    first = build_network(pictures.train, chosen[names[0]].scenario.method, seed)  # all scenarios begin with it
    freeze_statistics(first, pictures.train)
    networks["before_training"] = first
    return {name: activation_maps(network, pictures, rows, probe, seed) for name, network in networks.items()}
