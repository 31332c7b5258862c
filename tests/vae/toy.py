"""Small real things that the tests of the VAE study share."""

import torch

from thesis_lib.datasets.proben1 import Attribute

ATTRIBUTES = (
    Attribute("continuous", 0, 1),
    Attribute("continuous", 1, 1, missing=2),
    Attribute("binary", 3, 1),
    Attribute("nominal", 4, 3),
)
"""A number; a number that may be missing; a binary attribute; a nominal one of three levels: seven columns."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(count: int, side: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey pictures (count, 1, side, side) of a bright square in one of three places, and the place."""
    pictures = 0.1 * torch.rand(count, 1, side, side, generator=generator(seed))
    labels = torch.arange(count) % 3
    for picture, label in zip(pictures, labels.tolist(), strict=True):
        corner = (0, side // 3, 2 * side // 3)[label]
        picture[:, corner : corner + side // 3, corner : corner + side // 3] += 0.8
    return pictures, labels
