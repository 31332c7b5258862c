"""Activation maps of networks whose answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

from thesis_lib.contrastive.probe import extract_features
from thesis_lib.evaluation.saliency import upsample
from thesis_lib.pairwise import activation
from thesis_lib.pairwise.activation import BEFORE, STAGE, activation_maps, activations_of, example_rows
from thesis_lib.pairwise.evaluation import fit_regression, split_rows
from thesis_lib.pairwise.parameters import Method, ProbeParameters
from thesis_lib.pairwise.study import run_scenarios
from thesis_lib.pairwise.training import build_network, freeze_statistics
from thesis_lib.randomness import torch_generator

from .test_study import parameters

PROBE = ProbeParameters(neighbours=5)
METHOD = Method(loss="triplet")


@pytest.mark.parametrize("axis", [2, 3])
def test_a_network_that_reads_one_half_has_its_map_there(bars, axis):
    """Without half of its last kernel a network never reads the last of three cells: the pixels from 17 on."""
    network = build_network(bars.train, METHOD, 0)
    network[11].weight.data.select(axis, 1).zero_()
    network = freeze_statistics(network, bars.train)
    pictures = bars.test.transpose(2, 3) if axis == 2 else bars.test  # bars lie across the half that is read
    other = pictures.clone()
    other.narrow(axis, 17, 11).random_(0, 256, generator=torch_generator(0, "noise"))
    assert torch.equal(network(pictures / 255), network(other / 255))

    rows = example_rows(bars, PROBE, 0)
    maps, _ = activation_maps(network, bars._replace(test=pictures), rows, PROBE, 0)
    assert maps.shape == (3, 28, 28) and maps.min() >= 0
    along = maps.sum((0, 4 - axis))  # cells see 13 to 16 and 17 to 20, so a map ends between 14.5 and 18.5
    assert (along[:18] > 0).all() and (along[19:] == 0).all()


def test_maps_lie_where_their_cells_look():
    stages = nn.Sequential(*(nn.Conv2d(1, 1, 2, 2, 1, bias=False) for _ in range(2)))
    for stage in stages:
        nn.init.ones_(stage.weight)
    picture = torch.zeros(1, 1, 28, 28)
    picture[0, 0, 9:13, 17:21] = 1  # what cell (3, 5) sees
    with torch.no_grad():
        coarse = stages(picture)
    assert coarse.nonzero().tolist() == [[0, 0, 3, 5]]
    large = upsample(coarse, 28, 28, BEFORE)[0]
    middle = [float((torch.arange(28) * large.sum(axis)).sum() / large.sum()) for axis in (1, 0)]
    assert middle == pytest.approx([10.5, 18.5])


def test_maps_are_of_the_frozen_way_and_its_regression(bars):
    network = freeze_statistics(build_network(bars.train, METHOD, 0), bars.train)
    assert isinstance(network[STAGE], nn.LeakyReLU) and network[STAGE - 1].num_features == 64
    rows = example_rows(bars, PROBE, 0)
    features = extract_features(network, bars.test, 28).numpy().astype(np.float64)
    fit, _ = split_rows(len(features), PROBE, 0)
    model = fit_regression(features[fit], bars.test_labels[fit].numpy(), standardised=True)
    expected = model.predict_proba(features[rows])[range(3), bars.test_labels[rows]]
    maps, probabilities = activation_maps(network, bars, rows, PROBE, 0)
    assert probabilities.numpy() == pytest.approx(expected, abs=1e-4)
    assert torch.allclose(activation_maps(network, bars, rows[1:2], PROBE, 0)[0], maps[1:2], atol=1e-6)


def test_examples_are_held_out_one_a_class(bars, monkeypatch):
    _, held_out = split_rows(len(bars.test), PROBE, 0)
    rows = example_rows(bars, PROBE, 0)
    assert bars.test_labels[rows].tolist() == [0, 1, 2] and set(rows) <= set(held_out.tolist())
    first = next(row for row in held_out if bars.test_labels[row] == 1)
    assert rows[1] == first and any(example_rows(bars, PROBE, seed) != rows for seed in (1, 2, 3))
    monkeypatch.setattr(activation, "MOST", 2)
    assert example_rows(bars, PROBE, 0) == [rows[0], rows[2]]


def test_scenarios_are_looked_at_with_the_networks_that_were_kept(bars, tmp_path):
    asked = parameters(seeds=[0])
    items = run_scenarios(asked, {"mnist": bars}, tmp_path)
    names, rows = list(asked.source_methods()), example_rows(bars, PROBE, 0)
    looks = activations_of(items, names, "mnist", bars, rows, PROBE, 0)
    assert list(looks) == ["pairwise_none", "triplet_none", "before_training"]
    beyond = activations_of(items, ["untrained"], "mnist", bars, rows, PROBE, 0)["untrained"]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(beyond, looks["before_training"], strict=True))
    assert not torch.allclose(looks["triplet_none"][0], looks["before_training"][0])
