"""Negatives that are known by their batch."""

import pytest
import torch

from thesis_lib.pairwise import shortcut
from thesis_lib.pairwise.parameters import Method, PairwiseMethod, Scenario, TripletMethod
from thesis_lib.pairwise.study import Item


class Relative(torch.nn.Module):
    """Features (10 times a picture's brightness beyond its batch's mean, 1): how it differs from its batch, no more."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(()))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        brightness = pictures.mean((1, 2, 3))
        beyond = 10 * (brightness - brightness.mean())
        return torch.stack([beyond, torch.ones_like(beyond)], dim=1) if self.training else torch.ones(0)


def test_what_differs_from_its_batch_alone_is_like_an_anchor_in_a_batch_of_its_own(bars, monkeypatch):
    monkeypatch.setattr(shortcut, "network_of", lambda *_: Relative())
    monkeypatch.setattr("thesis_lib.pairwise.pairs.augment", lambda augmentation, pictures, seed: pictures * 0)  # black
    items = [
        Item(Scenario("mnist", name, method, 0), {}, torch.zeros(0), torch.zeros(0), 1.0, {})
        for name, method in (
            ("pairwise_simclr", PairwiseMethod()), ("pairwise_anchor", Method(loss="cosine", augment_anchor=True)),
            ("triplet_simclr", TripletMethod()),
        )
    ]  # fmt: skip
    found = shortcut.shortcuts(items, {"mnist": bars}, anchors=20).set_index("scenario")
    assert list(found.index) == ["pairwise_simclr", "pairwise_anchor"]
    level = (bars.train.float() / 255).mean().item()  # half of a batch of partners is black, half as bright as all are
    apart = 1 / (1 + (10 * level / 2) ** 2) ** 0.5
    assert found.loc["pairwise_simclr"].tolist()[2:] == pytest.approx([apart, apart, 1], abs=0.02)
    assert found.loc["pairwise_anchor"].tolist()[2:] == pytest.approx([1, 1, 1])
