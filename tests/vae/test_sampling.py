import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from tests.vae.toy import ATTRIBUTES, generator
from thesis_lib.datasets.proben1 import AttributeTable
from thesis_lib.errors import ThesisError
from thesis_lib.vae.parameters import SamplingParameters
from thesis_lib.vae.sampling import draw_codes, nearest_of_class, normal, towards
from thesis_lib.vae.tables import noised

MEANS = torch.tensor([[0.0, 0], [1, 0], [0, 2], [10, 10], [11, 10]])
LABELS = torch.tensor([0, 0, 0, 1, 1])
TIGHT = torch.full((5, 2), -12.0)
"""Log variances so small that a posterior sample is the mean."""


def draw(method, per_class=4, **settings):
    return draw_codes(method, MEANS, TIGHT, LABELS, per_class, SamplingParameters(**settings), 0)


def test_alpha_of_noise_is_a_variance():
    z = normal(100_000, 2, 0.25, generator())
    assert z.var(0) == pytest.approx([0.25, 0.25], rel=0.02) and z.mean(0).abs().max() < 0.01


def test_towards_and_away_by_hand():
    mean, neighbour = torch.tensor([1.0, 2]), torch.tensor([3.0, 0])
    assert towards(mean, neighbour, 0.5).tolist() == [2, 1]
    assert towards(mean, neighbour, -0.5).tolist() == [0, 3]


def test_neighbours_are_scikit_learns_within_the_class():
    x, labels = torch.randn(40, 3, generator=generator()), torch.arange(40) % 3
    found = nearest_of_class(x, labels, 4)
    for label in range(3):
        rows = np.flatnonzero(labels == label)
        search = NearestNeighbors(n_neighbors=5).fit(x[rows]).kneighbors(x[rows], return_distance=False)[:, 1:]
        assert [found[row].tolist() for row in rows] == rows[search].tolist()


def test_codes_between_neighbours_lie_on_the_lines_and_beyond_them():
    z, labels = draw("interpolation", neighbours=1)
    assert labels.tolist() == [0] * 4 + [1] * 4
    assert {tuple(code) for code in z[:4].tolist()} == {(0.5, 0), (0, 1)}  # of 0 and 1, of 2 and its nearest
    assert {tuple(code) for code in z[4:].tolist()} == {(10.5, 10)}
    z, _ = draw("extrapolation", neighbours=1, step=1)
    assert {tuple(code) for code in z.tolist()} == {(-1, 0), (2, 0), (0, 4), (9, 10), (12, 10)}


def test_noise_starts_at_posterior_samples_and_is_added_to_moved_codes():
    z, labels = draw("noise", per_class=30_000, noise=0.25)
    for label in (0, 1):
        own, sources = z[labels == label], MEANS[label == LABELS]
        assert own.mean(0) == pytest.approx(sources.mean(0), abs=0.02)
        spread = 0.25 + sources.var(0, correction=0)  # sources are taken equally often
        assert own.var(0) == pytest.approx(spread, rel=0.03)
    wide = draw_codes("noise", MEANS, torch.zeros(5, 2), LABELS, 30_000, SamplingParameters(noise=0), 0)[0]
    assert wide[30_000:, 1].var() == pytest.approx(1, rel=0.03)
    moved, noisy = draw("interpolation", 30_000, neighbours=1)[0], draw("interpolation_noise", 30_000, neighbours=1)[0]
    assert noisy[30_000:].var(0) - moved[30_000:].var(0) == pytest.approx([0.25, 0.25], rel=0.03)


def test_draws_of_a_class_do_not_depend_on_the_others():
    both, labels = draw("extrapolation_noise")
    alone, _ = draw_codes("extrapolation_noise", MEANS[:3], TIGHT[:3], LABELS[:3], 4, SamplingParameters(), 0)
    torch.testing.assert_close(both[labels == 0], alone)


def test_a_class_with_one_example_has_no_neighbour_but_noise():
    arguments = (MEANS[:4], TIGHT[:4], LABELS[:4], 2, SamplingParameters(), 0)
    with pytest.raises(ThesisError, match="class 1 has one example"):
        draw_codes("interpolation", *arguments)
    assert draw_codes("noise", *arguments)[1].tolist() == [0, 0, 1, 1]


def test_noised_examples_keep_the_code():
    x = torch.tensor([[0.5, 1.5, 0, 1, 0, 1, 0], [-1.0, 0.0, 1, 0, 0, 0, 1]]).repeat(500, 1)
    table = AttributeTable("toy", ATTRIBUTES, x.numpy(), np.zeros(1000, int), np.full(1000, "train"))
    bad = noised(x, table, variance=4.0, change=0.5, seed=0)
    assert (bad[:, 0] - x[:, 0]).var() == pytest.approx(4, rel=0.15)
    assert (bad[x[:, 2] == 1, 1] == 0).all()  # a missing number stays missing
    assert (bad[:, 4:].sum(1) == 1).all()
    assert 0.15 < (bad[:, 3] != x[:, 3]).float().mean() < 0.35  # half are drawn anew, half of these differ
