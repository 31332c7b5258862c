import pandas as pd
import torch

from thesis_lib.evaluation.generative import genuineness, surer_half
from thesis_lib.vae.classifiers import SmallNetwork
from thesis_lib.vae.parameters import NetworkParameters


def test_the_generative_classifier_knows_noised_originals():
    real = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    real[:, 1] = real[:, 0]  # real ones lie on a line
    bad = real + torch.randn(300, 2, generator=torch.Generator().manual_seed(1))
    made = torch.tensor([[0.5, 0.5], [0.5, -1.5], [-1.0, -1.0], [1.5, -0.5]])
    network = SmallNetwork(NetworkParameters(steps=300), 0)
    scores = genuineness(made.numpy(), real.numpy(), bad.numpy(), network)
    assert scores[[0, 2]].min() > 0.5 > scores[[1, 3]].max()


def test_the_surer_half_is_that_of_each_group():
    scores = pd.Series([0.1, 0.9, 0.3, 0.2, 0.8, 0.5])
    assert surer_half(scores, [[0, 0, 0, 0, 1, 1]]).tolist() == [False, True, True, False, True, False]
    assert surer_half(pd.Series([1.0, 1.0]), [[0, 0]]).sum() == 1
