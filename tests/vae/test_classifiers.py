import numpy as np
import pytest
import torch

from tests.vae.toy import blobs
from thesis_lib.vae.classifiers import SmallNetwork, fit_and_measure, weighted_f1
from thesis_lib.vae.parameters import NetworkParameters


def test_each_classifier_learns_and_f1_is_weighted_by_the_true_examples():
    x, y = blobs(60)
    test_x, truth = blobs(30, seed=1)
    for name in ("network", "logistic", "forest", "nearest"):
        train, test = (x.numpy(), y.numpy()), (test_x.numpy(), truth.numpy())
        assert fit_and_measure(name, NetworkParameters(steps=60), 0, train, test) > 0.9, name
    # class 0: precision 1, recall 2/3; class 1: precision 1/2, recall 1
    assert weighted_f1(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])) == pytest.approx(0.75 * 4 / 5 + 0.25 * 2 / 3)


def test_a_seed_and_nothing_else_decides_what_the_network_of_pictures_learns():
    y = np.arange(40) % 2
    x = np.random.default_rng(0).random((40, 1, 12, 12), np.float32) * (1 + y[:, None, None, None].astype(np.float32))
    learned = {}
    for seed, state in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(state)  # dropout draws from the global generator
        before = torch.get_rng_state()
        network = SmallNetwork(NetworkParameters(width=8, steps=150, batch=16), seed).fit(x, y)
        assert torch.equal(torch.get_rng_state(), before)
        assert (network.predict(x) == y).all()
        learned[seed, state] = network.predict_proba(x)
    assert (learned[0, 1] == learned[0, 2]).all()
    assert (learned[1, 1] != learned[0, 1]).any()
